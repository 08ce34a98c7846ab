"""One connection of the kubelet: a thread reads, others answer; each step is told before it is final."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from extender.steering.kubelet_side.call_handlers import Handlers, RefusedError, Stream
from extender.steering.kubelet_side.grpc_session import INTERNAL, UNIMPLEMENTED, Call, Session, SessionError
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.kubelet_side.kept_connections import KeptConnection, take
from extender.steering.kubelet_side.kept_steps import MOST_CHUNK_BYTES, Closed, Quiet, Received

log = logging.getLogger("fabricwise.steering")

_SEND_SECONDS = 10.0
"""A client that takes no bytes for so long is given up."""


class Server(Protocol):
    """The server that the connection belongs to."""

    handlers: Handlers
    keeper: Keeper
    pool: ThreadPoolExecutor
    """Its threads answer calls."""

    @property
    def endpoint(self) -> str:
        """Name of the socket."""

    def forget(self, number: int) -> None:
        """A connection that is over."""


class KubeletConnection:
    """One connection: a thread reads, others answer."""

    def __init__(self, server: Server, number: int, kept: KeptConnection) -> None:
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
        self._streams[number] = stream = Stream(partial(self.push, number))
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
