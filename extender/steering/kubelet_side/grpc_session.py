"""The server's side of one gRPC connection as a value that another process can go on with: bytes in, calls out. No socket, no thread.

A process that dies loses what it knows of a connection, not the connection itself: that lives in the kernel for as long as some process
holds its socket. So a session is written so that little has to be known: HTTP/2's header compression, the only state that grows, is
switched off by the setting of a table of 0 bytes; `SavedSession` is the rest. gRPC over HTTP/2: grpc/doc/PROTOCOL-HTTP2.md; RFC 9113.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote

import msgspec
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

MOST_REQUEST_BYTES = 4 << 20
"""Largest request that is read: the ids of 80,000 replicas."""

OK, UNIMPLEMENTED, INTERNAL = 0, 12, 13
"""Status codes of gRPC."""
RESOURCE_EXHAUSTED = 8

_MOST_STREAMS = 100
"""Calls that a client may make at once; a kubelet makes some three. gRPC clients assume 100 until a server says so."""

_SETTINGS = {
    SettingCodes.HEADER_TABLE_SIZE: 0,
    SettingCodes.INITIAL_WINDOW_SIZE: MOST_REQUEST_BYTES + 65_536,
    SettingCodes.MAX_CONCURRENT_STREAMS: _MOST_STREAMS,
}
_PREFACE_BYTES = 24
_FRAME_HEAD_BYTES = 9
_MESSAGE_HEAD_BYTES = 5
"""Of a message of gRPC: whether it is compressed, and its length."""

_HEADERS, _CONTINUATION, _END_HEADERS = 0x1, 0x9, 0x4


class SavedStream(msgspec.Struct, frozen=True):
    """An answer of many messages that goes on."""

    stream: int
    method: str
    window_bytes: int
    """What the client still takes of it."""


class SavedSession(msgspec.Struct, frozen=True):
    """What has to be known of a connection at a moment at which no call waits for its answer and no frame is half read."""

    client_settings: dict[int, int]
    highest_stream: int
    window_bytes: int
    """What the client still takes on the connection."""
    streams: tuple[SavedStream, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A whole request."""

    stream: int
    method: str
    """Name alone, such as Allocate."""
    message: bytes


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The client does not wait any more."""

    stream: int


class SessionError(Exception):
    """The client does not speak HTTP/2, or has ended the connection."""


@dataclass(slots=True)
class _Open:
    method: str
    body: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class _Answer:
    """What is still to be sent of a stream."""

    rest: bytearray
    ends: bool
    newest: bytes = b""
    """The message that follows `rest`; one that comes before it was begun replaces it, because each list of devices is a whole one."""


class Session:
    """One connection. Not safe for several threads."""

    def __init__(self, saved: SavedSession | None = None) -> None:
        """`saved`: go on with a connection of which another process answered the beginning."""
        self._connection = _server()
        self._calls: dict[int, _Open] = {}
        self._streaming: dict[int, str] = {}
        self._answers: dict[int, _Answer] = {}
        self._frames = _Frames(_PREFACE_BYTES if saved is None else 0)
        self._connection.initiate_connection()
        if saved is not None:
            self._restore(saved)

    def _restore(self, saved: SavedSession) -> None:
        client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        client.local_settings = Settings(client=True, initial_values={_code(code): value for code, value in saved.client_settings.items()})
        client.initiate_connection()
        for one in saved.streams:
            path = f"/v1beta1.DevicePlugin/{one.method}"
            client.send_headers(one.stream, [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")], True)
        self._connection.receive_data(client.data_to_send())
        for one in saved.streams:
            self._connection.send_headers(one.stream, _HEAD)
            self._streaming[one.stream] = one.method
            self._connection.streams[one.stream].outbound_flow_control_window = one.window_bytes
        self._connection.outbound_flow_control_window = saved.window_bytes
        self._connection.highest_inbound_stream_id = max(saved.highest_stream, *(one.stream for one in saved.streams), 0)
        self._connection.clear_outbound_data_buffer()
        # what was written above is not sent, so it must not be what later headers refer to
        self._connection.encoder = type(self._connection.encoder)()

    def saved(self) -> SavedSession:
        """What another process has to know; of use only while `is_quiet`."""
        connection = self._connection
        streams = tuple(
            SavedStream(stream, method, connection.streams[stream].outbound_flow_control_window)
            for stream, method in self._streaming.items()
            if stream in connection.streams
        )
        settings = {int(code): value for code, value in connection.remote_settings.items()}
        return SavedSession(settings, connection.highest_inbound_stream_id, connection.outbound_flow_control_window, streams)

    @property
    def is_quiet(self) -> bool:
        """Whether all that was received is dealt with: nothing half read, no call without its answer, no answer half sent."""
        return not self._calls and not self._answers and self._frames.is_whole

    @property
    def streaming(self) -> dict[int, str]:
        """Method by stream of the answers that go on."""
        return dict(self._streaming)

    def waits(self, stream: int) -> bool:
        """Whether the client still waits for the answer to a call."""
        return self._is_open(stream)

    def receive(self, data: bytes) -> list[Call | Cancelled]:
        """What the client wants by these bytes. Raises SessionError."""
        self._frames.feed(data)
        try:
            return self._dealt_with(self._connection.receive_data(data))
        except (ProtocolError, UnicodeDecodeError) as error:
            raise SessionError(f"{type(error).__name__}: {error}") from error

    def _dealt_with(self, events: list[Event]) -> list[Call | Cancelled]:
        """What the client wants. All frames of one read are known to the library before: a stream may be over when its request is seen."""
        found: list[Call | Cancelled] = []
        for event in events:
            match event:
                case RequestReceived():
                    self._begin_call(event)
                case DataReceived():
                    self._take(event)
                case StreamEnded():
                    found += self._whole_call(event.stream_id or 0)
                case StreamReset():
                    found += self._forget(event.stream_id or 0)
                case WindowUpdated() | RemoteSettingsChanged():  # a setting may open the windows of all streams
                    for stream in list(self._answers):
                        self._send(stream)
                case ConnectionTerminated():
                    raise SessionError("the client ends the connection")
        return found

    def _begin_call(self, event: RequestReceived) -> None:
        headers = {str(name): str(value) for name, value in event.headers or ()}
        self._calls[event.stream_id or 0] = _Open(headers.get(":path", "").rpartition("/")[2])

    def _take(self, event: DataReceived) -> None:
        # at once, and not when half of the window is used: another process would not know what is owed to the client
        if event.flow_controlled_length:
            self._connection.increment_flow_control_window(event.flow_controlled_length)
        stream = event.stream_id or 0
        call = self._calls.get(stream)
        if call is None:
            return
        call.body += event.data or b""
        if len(call.body) > MOST_REQUEST_BYTES + _MESSAGE_HEAD_BYTES:
            self.fail(stream, RESOURCE_EXHAUSTED, f"a request has more than {MOST_REQUEST_BYTES} bytes")
            if self._takes_answers(stream):  # the client goes on sending: else the end of the answer is the end of the stream
                self._connection.reset_stream(stream)

    def _whole_call(self, stream: int) -> list[Call | Cancelled]:
        call = self._calls.get(stream)
        if call is None:
            return []
        if call.body[:1] != b"\0" or int.from_bytes(call.body[1:5], "big") != len(call.body) - _MESSAGE_HEAD_BYTES:
            self.fail(stream, UNIMPLEMENTED, "one uncompressed message is read per request")
        else:
            return [Call(stream, call.method, bytes(call.body[_MESSAGE_HEAD_BYTES:]))]
        return []

    def _forget(self, stream: int) -> list[Call | Cancelled]:
        known = stream in self._calls or stream in self._streaming
        for streams in (self._calls, self._streaming, self._answers):
            streams.pop(stream, None)
        return [Cancelled(stream)] if known else []

    def begin(self, stream: int, method: str) -> None:
        """Answer a call with messages that are sent as they come."""
        if self._is_open(stream):
            self._connection.send_headers(stream, _HEAD)
            self._streaming[stream] = method
        self._calls.pop(stream, None)

    def push(self, stream: int, message: bytes) -> None:
        """One message of an answer that goes on. Where the client takes none, the newest message replaces those that are not begun."""
        if self._is_open(stream):
            self._answers.setdefault(stream, _Answer(bytearray(), False)).newest = _framed(message)
            self._send(stream)

    def answer(self, stream: int, message: bytes) -> None:
        """The whole answer to a call."""
        if self._is_open(stream):
            self._connection.send_headers(stream, _HEAD)
            self._answers[stream] = _Answer(bytearray(_framed(message)), True)
            self._send(stream)
        self._calls.pop(stream, None)

    def fail(self, stream: int, code: int, text: str) -> None:
        """The answer to a call that failed, or the end of one that goes on."""
        if self._is_open(stream):
            status = [("grpc-status", str(code)), ("grpc-message", quote(text[:1000], safe=" "))]
            self._connection.send_headers(stream, status if stream in self._streaming else [*_HEAD, *status], end_stream=True)
        for streams in (self._calls, self._streaming, self._answers):
            streams.pop(stream, None)

    def to_send(self) -> bytes:
        """Bytes for the client."""
        return self._connection.data_to_send()

    def _is_open(self, stream: int) -> bool:
        return (stream in self._calls or stream in self._streaming) and self._takes_answers(stream)

    def _takes_answers(self, stream: int) -> bool:
        """Whether the library sends on a stream: not where the client has given it up, or ends the connection."""
        known = self._connection.streams.get(stream)
        return known is not None and not known.closed and self._connection.state_machine.state is not ConnectionState.CLOSED

    def _send(self, stream: int) -> None:
        """As much of an answer as the client takes now."""
        answer = self._answers.get(stream) if self._takes_answers(stream) else None
        while answer is not None and (answer.rest or answer.newest):
            if not answer.rest:
                answer.rest, answer.newest = bytearray(answer.newest), b""
            size = min(len(answer.rest), self._connection.local_flow_control_window(stream), self._connection.max_outbound_frame_size)
            if size <= 0:
                return
            self._connection.send_data(stream, bytes(answer.rest[:size]))
            del answer.rest[:size]
        if answer is not None:
            del self._answers[stream]
            if answer.ends:
                self._connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)


_HEAD = [(":status", "200"), ("content-type", "application/grpc")]


def _server() -> H2Connection:
    connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.local_settings = Settings(client=False, initial_values=_SETTINGS)
    return connection


def _code(code: int) -> SettingCodes:
    try:
        return SettingCodes(code)
    except ValueError:  # a setting that this version of the library has no name for; it compares by number
        return code  # type: ignore[return-value]


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


class _Frames:
    """Whether the bytes so far end with a frame, and no header is left to be continued."""

    def __init__(self, preface_bytes: int) -> None:
        self._skip, self._head, self._continued = preface_bytes, bytearray(), False

    @property
    def is_whole(self) -> bool:
        return not self._skip and not self._head and not self._continued

    def feed(self, data: bytes) -> None:
        place = 0
        while place < len(data):
            step = min(self._skip, len(data) - place)
            self._skip -= step
            place += step
            part = data[place : place + _FRAME_HEAD_BYTES - len(self._head)] if not self._skip else b""
            self._head += part
            place += len(part)
            if len(self._head) == _FRAME_HEAD_BYTES:
                self._skip, kind, flags = int.from_bytes(self._head[:3], "big"), self._head[3], self._head[4]
                if kind in (_HEADERS, _CONTINUATION):
                    self._continued = not flags & _END_HEADERS
                self._head.clear()
