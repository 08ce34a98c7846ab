"""The steps by which a process follows the kubelet's connections of another one, and how they are sent.

Each step is one datagram with at most one socket, so that a step is known as a whole or not at all.
"""

from __future__ import annotations

import array
import socket

import msgspec

from extender.steering.kubelet_side.grpc_session import SavedSession

MOST_CHUNK_BYTES = 32 << 10
"""Most bytes of one read of a connection: with what belongs to it they fit into one datagram."""

_MOST_DATAGRAM_BYTES = 160 << 10


class Listens(msgspec.Struct, frozen=True, tag=True):
    """An endpoint, with its listening socket; and the plugin's registration that it is for."""

    endpoint: str
    resource: str
    plugin: str
    options: bytes
    plugin_socket_made: tuple[int, int] | None = None


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
