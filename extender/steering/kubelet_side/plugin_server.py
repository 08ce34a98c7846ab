"""A server of the device plugin API on one unix socket, whose connections outlive the process that serves them; see `kept`."""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from extender.steering.kubelet_side.grpc_session import INTERNAL, UNIMPLEMENTED, Call, Session, SessionError
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.kubelet_side.kept_connections import KeptConnection, KeptEndpoint, shut, take
from extender.steering.kubelet_side.kept_steps import MOST_CHUNK_BYTES, Accepted, Closed, Ended, Listens, Quiet, Received

log = logging.getLogger("fabricwise.steering")

_THREADS = 8
_SEND_SECONDS = 10.0
"""A client that takes no bytes for so long is given up."""


class RefusedError(Exception):
    """The answer to a call is an error of gRPC."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Stream:
    """An answer that goes on. Its client, or the server's end, ends it."""

    def __init__(self, connection: Connection, number: int) -> None:
        self._connection, self._number = connection, number
        self._ends: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self.is_open = True

    def push(self, message: bytes) -> None:
        """Send one message."""
        self._connection.push(self._number, message)

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call it once the stream has ended: at once where it has."""
        with self._lock:
            if self.is_open:
                self._ends.append(callback)
                return
        callback()

    def end(self) -> None:
        """It has ended."""
        with self._lock:
            self.is_open = False
            ends, self._ends = self._ends, []
        for callback in ends:
            callback()


@dataclass(frozen=True, slots=True)
class Handlers:
    """What is served. A handler raises RefusedError for an error of gRPC."""

    unary: Mapping[str, Callable[[bytes], bytes]]
    """By method: the message of a request -> that of the answer."""
    streaming: Mapping[str, Callable[[Stream], None]]
    """By method, as above. It returns when there is nothing more to push; the client then sees the end of the stream."""


class PluginServer:
    """Serves handlers on a socket."""

    def __init__(self, path: Path, listens: Listens, handlers: Handlers, keeper: Keeper, kept: KeptEndpoint | None = None) -> None:
        """`kept`: go on with a socket and with connections of a process before this one. Raises OSError where `path` cannot be bound."""
        self._path, self._endpoint, self.handlers, self.keeper = path, listens.endpoint, handlers, keeper
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=listens.endpoint)
        self._connections: dict[int, Connection] = {}
        self._lock = threading.Lock()
        self._closed = False
        if kept is None:
            self._socket = socket.socket(socket.AF_UNIX)
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            self._socket.listen()
            keeper.tell(listens, self._socket)
        else:
            self._socket = kept.socket
        before = dict(kept.connections) if kept is not None else {}
        self._numbers = itertools.count(max(before, default=0) + 1)
        for number, one in before.items():
            self._add(Connection(self, number, one))
        threading.Thread(target=self._accept, name=f"accept-{listens.endpoint}", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._socket.accept()
            except OSError:
                return
            number = next(self._numbers)
            self.keeper.tell(Accepted(self._endpoint, number), accepted)
            self._add(Connection(self, number, KeptConnection(accepted)))

    def _add(self, connection: Connection) -> None:
        with self._lock:
            self._connections[connection.number] = connection
        threading.Thread(target=connection.serve, name=f"{self._endpoint}-{connection.number}", daemon=True).start()

    @property
    def endpoint(self) -> str:
        """Name of the socket."""
        return self._endpoint

    def forget(self, number: int) -> None:
        """A connection that is over."""
        with self._lock:
            self._connections.pop(number, None)

    def close(self) -> None:
        """End: the client sees its streams end."""
        shut(self._socket)
        with self._lock:
            connections = list(self._connections.values())
        for connection in connections:
            connection.close()
        self.keeper.tell(Ended(self._endpoint))
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.pool.shutdown(wait=False)


class Connection:
    """One connection: a thread reads, others answer."""

    def __init__(self, server: PluginServer, number: int, kept: KeptConnection) -> None:
        self.number, self._server, self._socket = number, server, kept.socket
        self._lock = threading.RLock()
        self._session: Session
        self._session, self._rest = kept.resume()
        self._streams: dict[int, Stream] = {}
        self._is_over = False
        self._socket.settimeout(_SEND_SECONDS)

    def serve(self) -> None:
        """Until either side ends it."""
        try:
            with self._lock:
                for number, method in self._session.streaming.items():
                    self._start_stream(number, method)
                self._deal_with(self._rest)
            while data := self._peek():
                with self._lock:
                    self._take(data)
                    self._deal_with(data)
        except (OSError, SessionError) as error:
            log.debug("connection %d of %s ended: %s", self.number, self._server.endpoint, error)
        except Exception:
            log.exception("connection %d of %s ended", self.number, self._server.endpoint)
        finally:
            self.close()

    def _peek(self) -> bytes:
        """The next bytes, which stay at the socket; none at the end."""
        while True:
            with contextlib.suppress(TimeoutError):
                return self._socket.recv(MOST_CHUNK_BYTES, socket.MSG_PEEK)

    def _take(self, data: bytes) -> None:
        """Take bytes from the socket that are told of before: a process that dies in between loses none. Under the lock."""
        with self._server.keeper.lock:
            self._server.keeper.tell(Received(self._server.endpoint, self.number, data))
            take(self._socket, len(data))

    def _deal_with(self, data: bytes) -> None:
        """Under the lock."""
        for event in self._session.receive(data):
            if isinstance(event, Call):
                self._call(event)
            elif (stream := self._streams.pop(event.stream, None)) is not None:
                stream.end()
        self._flush()

    def _call(self, call: Call) -> None:
        if call.method in self._server.handlers.streaming:
            self._session.begin(call.stream, call.method)
            self._start_stream(call.stream, call.method)
        elif call.method in self._server.handlers.unary:
            self._server.pool.submit(self._answer, call)
        else:
            self._session.fail(call.stream, UNIMPLEMENTED, f"no method {call.method[:100]}")

    def _start_stream(self, number: int, method: str) -> None:
        self._streams[number] = stream = Stream(self, number)
        name = f"{self._server.endpoint}-{self.number}-{number}"
        threading.Thread(target=self._run_stream, args=(number, method, stream), name=name, daemon=True).start()

    def _run_stream(self, number: int, method: str, stream: Stream) -> None:
        code, text = 0, ""
        try:
            self._server.handlers.streaming[method](stream)
        except RefusedError as error:
            code, text = error.code, error.text
        except Exception as error:
            log.exception("%s failed", method)
            code, text = INTERNAL, str(error)
        with self._lock:
            self._streams.pop(number, None)
            self._do(partial(self._session.fail, number, code, text))
        stream.end()

    def _answer(self, call: Call) -> None:
        message, code, text = b"", 0, ""
        try:
            message = self._server.handlers.unary[call.method](call.message)
        except RefusedError as error:
            code, text = error.code, error.text
        except Exception as error:
            log.exception("%s failed", call.method)
            code, text = INTERNAL, str(error)
        failed = partial(self._session.fail, call.stream, code, text)
        self._do(failed if code else partial(self._session.answer, call.stream, message))

    def push(self, number: int, message: bytes) -> None:
        """Send a message of an answer that goes on."""
        self._do(partial(self._session.push, number, message))

    def _do(self, act: Callable[[], None]) -> None:
        """Act on the session and send what comes of it, unless the connection is over."""
        with self._lock, contextlib.suppress(OSError):  # the reading thread sees an error of the socket too
            if not self._is_over:
                act()
                self._flush()

    def _flush(self) -> None:
        """Send what is to be sent, and tell once all is dealt with. Under the lock."""
        data = self._session.to_send()
        with self._server.keeper.lock:  # no handing over in between
            if data:
                self._socket.sendall(data)
            if self._session.is_quiet:
                self._server.keeper.tell(Quiet(self._server.endpoint, self.number, self._session.saved()))

    def close(self) -> None:
        """End it for every process that holds its socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._is_over = True
            streams = list(self._streams.values())
            self._streams.clear()
        self._server.forget(self.number)
        self._server.keeper.tell(Closed(self._server.endpoint, self.number))
        for stream in streams:
            stream.end()
