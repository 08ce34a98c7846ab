"""The sockets towards the kubelet, and what has to be known of them, held by a process beside the one that serves them.

The kubelet takes the end of its connection for the end of the device plugin: it calls all devices unhealthy, and fails each pod that it
then admits. A connection ends with the last process that holds its socket, not with the one that answers on it. So the serving process
hands every socket to another one at once, and tells it of each step before the step is final; the next serving process goes on from there.

Each step is one datagram with at most one socket, so that a step is known as a whole or not at all.
"""

from __future__ import annotations

import array
import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from extender.steering.grpc_session import SavedSession, Session

log = logging.getLogger("fabricwise.steering")

MOST_CHUNK_BYTES = 32 << 10
"""Most bytes of one read of a connection: with what belongs to it they fit into one datagram."""

_TELL_SECONDS = 1.0
"""A process that takes no step for so long is told no more."""

_MOST_DATAGRAM_BYTES = 160 << 10
_MOST_CHANNELS = 4

_MOST_ENDPOINTS, _MOST_CONNECTIONS, _MOST_CHUNKS = 32, 64, 256


class Listens(msgspec.Struct, frozen=True, tag=True):
    """An endpoint, with its listening socket; and the plugin's registration that it is for."""

    endpoint: str
    resource: str
    plugin: str
    options: bytes


class Accepted(msgspec.Struct, frozen=True, tag=True):
    """A connection, with its socket."""

    endpoint: str
    connection: int


class Received(msgspec.Struct, frozen=True, tag=True):
    """Bytes of a connection that are about to be taken from its socket."""

    endpoint: str
    connection: int
    data: bytes


class Quiet(msgspec.Struct, frozen=True, tag=True):
    """All that was received of a connection is dealt with."""

    endpoint: str
    connection: int
    session: SavedSession


class Closed(msgspec.Struct, frozen=True, tag=True):
    """A connection that is over."""

    endpoint: str
    connection: int


class Begins(msgspec.Struct, frozen=True, tag=True):
    """All that is kept follows, whatever was told before by another process."""

    endpoint: str = ""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """An endpoint that is over, with all its connections."""

    endpoint: str


Step = Begins | Listens | Accepted | Received | Quiet | Closed | Ended


@dataclass(slots=True)
class KeptConnection:
    """One connection of the kubelet."""

    socket: socket.socket
    session: SavedSession | None = None
    """As of the last quiet moment; None: at the beginning."""
    received: list[bytes] = field(default_factory=list)
    """What came since."""

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
            if len(one.received) > _MOST_CHUNKS:  # a client that sends and sends, and no whole request
                shut(one.socket)
                del endpoint.connections[step.connection]
        case Quiet():
            one.session = step.session
            one.received.clear()
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


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Step)


def send_step(channel: socket.socket, step: Step, given: socket.socket | None) -> None:
    """Send a step with its socket. Raises OSError where the other side is gone or does not read."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [given.fileno()]))] if given is not None else []
    channel.sendmsg([_encoder.encode(step)], ancillary, socket.MSG_NOSIGNAL)


def receive_step(channel: socket.socket) -> tuple[Step, socket.socket | None] | None:
    """The next step; None at the end. Raises OSError, and msgspec.DecodeError for what is none."""
    size = array.array("i").itemsize
    data, ancillary, _, _ = channel.recvmsg(_MOST_DATAGRAM_BYTES, socket.CMSG_SPACE(size))
    if not data:
        return None
    given = None
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            given = socket.socket(fileno=int.from_bytes(content[:size], "little"))
    return _decoder.decode(data), given


class Keeper:
    """What the serving process knows itself, and tells the process beside it. Safe in several threads."""

    def __init__(self, kept: Kept | None = None, channel: socket.socket | None = None) -> None:
        """`kept`: what was handed on by the process before. `channel`: to the parent process, None where there is none."""
        self.kept = kept or Kept()
        self._channels = [channel] if channel is not None else []
        for one in self._channels:
            one.settimeout(_TELL_SECONDS)
        self.lock = threading.RLock()
        """Held while a step is made, so that another thread that takes it sees only whole steps."""

    def tell(self, step: Step, given: socket.socket | None = None) -> None:
        """Make a step. A process that does not listen is told no more: what it knew would be wrong."""
        with self.lock:
            for channel in list(self._channels):
                try:
                    send_step(channel, step, given)
                except OSError as error:
                    log.warning("a process beside this one does not keep the kubelet's connections any more: %s", error)
                    channel.close()
                    self._channels.remove(channel)
            self.kept.take(step, given)

    @property
    def is_kept_elsewhere(self) -> bool:
        """Whether a steerer that stands by goes on when this process and its parent end."""
        with self.lock:
            return len(self._channels) > 1

    def tell_from_now_on(self, channel: socket.socket) -> None:
        """Tell one more process: all that is kept, and then every step."""
        with self.lock:
            try:
                self.hand_over(channel)
            except OSError as error:
                log.warning("a process beside this one cannot keep the kubelet's connections: %s", error)
                channel.close()
            else:
                self._channels = [*self._channels[-_MOST_CHANNELS + 1 :], channel]

    def hand_over(self, channel: socket.socket) -> None:
        """Send all that is kept. The lock must be held, and this process must end without another step. Raises OSError."""
        channel.settimeout(_TELL_SECONDS)
        for step, given in self.kept.steps():
            send_step(channel, step, given)

    def end(self, endpoint: str) -> None:
        """End an endpoint that nothing serves."""
        with self.lock:
            known = self.kept.endpoints.get(endpoint)
            if known is not None:
                for held in [known.socket, *(one.socket for one in known.connections.values())]:
                    shut(held)
                self.tell(Ended(endpoint))
