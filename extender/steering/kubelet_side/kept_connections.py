"""The sockets towards the kubelet, and what has to be known of them, held by a process beside the one that serves them.

The kubelet takes the end of its connection for the end of the device plugin: it calls all devices unhealthy, and fails each pod that it
then admits. A connection ends with the last process that holds its socket, not with the one that answers on it. So the serving process
hands every socket to another one at once, and tells it of each step before the step is final; the next serving process goes on from there.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

from extender.steering.kubelet_side.grpc_session import MOST_REQUEST_BYTES, SavedSession, Session
from extender.steering.kubelet_side.kept_steps import Accepted, Begins, Closed, Ended, Listens, Quiet, Received, Step

_MOST_ENDPOINTS, _MOST_CONNECTIONS = 32, 64

_MOST_RECEIVED_BYTES = MOST_REQUEST_BYTES + (1 << 20)
"""What is kept of a client that is not done. Not a number of reads: a client says with many short frames that it takes a long list."""
_READ_BYTES = 64
"""What a read takes beside its content."""


@dataclass(slots=True)
class KeptConnection:
    """One connection of the kubelet."""

    socket: socket.socket
    session: SavedSession | None = None
    """As of the last quiet moment; None: at the beginning."""
    received: list[bytes] = field(default_factory=list)
    """What came since."""
    received_bytes: int = 0
    """What that takes, with `_READ_BYTES` for each read."""

    def resume(self) -> tuple[Session, bytes]:
        """The session, and the bytes that another process took from the socket without dealing with them."""
        # the process may have died after it told of the last bytes and before it took them
        with contextlib.suppress(BlockingIOError, TimeoutError):
            last = self.received[-1] if self.received else b""
            if last and self.socket.recv(len(last), socket.MSG_PEEK | socket.MSG_DONTWAIT) == last:
                take(self.socket, len(last))
        return Session(self.session), b"".join(self.received)


@dataclass(slots=True)
class KeptEndpoint:
    """A socket of ours that the kubelet was told of."""

    listens: Listens
    socket: socket.socket
    connections: dict[int, KeptConnection] = field(default_factory=dict)


class Kept:
    """All endpoints, by what the steps say. Not safe for several threads."""

    def __init__(self) -> None:
        self.endpoints: dict[str, KeptEndpoint] = {}

    def take(self, step: Step, given: socket.socket | None) -> None:
        """Follow one step. A step that makes no sense is passed over, and its socket closed."""
        known = self.endpoints.get(step.endpoint)
        match step:
            case Begins():
                self.forget()
            case Listens() if given is not None and known is None and len(self.endpoints) < _MOST_ENDPOINTS:
                self.endpoints[step.endpoint] = KeptEndpoint(step, given)
            case Accepted() if given is not None and known is not None and len(known.connections) < _MOST_CONNECTIONS:
                known.connections[step.connection] = KeptConnection(given)
            case Ended() if known is not None:
                del self.endpoints[step.endpoint]
                for held in [known.socket, *(one.socket for one in known.connections.values())]:
                    held.close()
            case Received() | Quiet() | Closed() if known is not None and step.connection in known.connections:
                _follow(known, step)
            case _ if given is not None:
                given.close()

    def steps(self) -> Iterator[tuple[Step, socket.socket | None]]:
        """Steps that lead to what is kept now."""
        yield Begins(), None
        for name, endpoint in self.endpoints.items():
            yield endpoint.listens, endpoint.socket
            for number, one in endpoint.connections.items():
                yield Accepted(name, number), one.socket
                if one.session is not None:
                    yield Quiet(name, number, one.session), None
                for data in one.received:
                    yield Received(name, number, data), None

    def forget(self) -> None:
        """Keep nothing, and leave the connections to the process that serves them."""
        for endpoint in self.endpoints.values():
            for held in [endpoint.socket, *(one.socket for one in endpoint.connections.values())]:
                held.close()
        self.endpoints.clear()

    def drop(self) -> None:
        """End all connections, so that the kubelet sees that nothing serves them."""
        for endpoint in self.endpoints.values():
            for held in [endpoint.socket, *(one.socket for one in endpoint.connections.values())]:
                shut(held)
        self.endpoints.clear()


def _follow(endpoint: KeptEndpoint, step: Received | Quiet | Closed) -> None:
    one = endpoint.connections[step.connection]
    match step:
        case Received():
            one.received.append(step.data)
            one.received_bytes += len(step.data) + _READ_BYTES
            if one.received_bytes > _MOST_RECEIVED_BYTES:  # a client that sends and sends, and no whole request
                shut(one.socket)
                del endpoint.connections[step.connection]
        case Quiet():
            one.session = step.session
            one.received.clear()
            one.received_bytes = 0
        case Closed():
            one.socket.close()
            del endpoint.connections[step.connection]


def take(held: socket.socket, size: int) -> None:
    """Take bytes that wait at a socket."""
    while size > 0 and (data := held.recv(size)):
        size -= len(data)


def shut(held: socket.socket) -> None:
    """End a connection for every process that holds it."""
    with contextlib.suppress(OSError):
        held.shutdown(socket.SHUT_RDWR)
    held.close()
