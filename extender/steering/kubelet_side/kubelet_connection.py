"""One connection of the kubelet: a thread reads, others answer; each step is told before it is final."""

from __future__ import annotations

import contextlib
import logging
import os
import select
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
        if self._is_over:
            return
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
            with contextlib.suppress(RuntimeError):  # the server ends, and with it this connection
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
        with self._lock:
            if not self._session.waits(call.stream):  # the client has given it up before its turn came
                return
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
        with self._lock:
            if self._is_over:
                return
            try:
                act()
                self._flush()
            except OSError as error:  # half an answer may be sent: nothing can follow it
                log.debug("connection %d of %s ends: %s", self.number, self._server.endpoint, error)
                self._shut_down()

    def _flush(self) -> None:
        """Send what is to be sent, and tell once all is dealt with. Under the lock. Raises OSError.

        A client that takes no bytes keeps no other connection waiting: the keeper's lock is held only while bytes are handed to the system.
        """
        rest, keeper, name = memoryview(self._session.to_send()), self._server.keeper, (self._server.endpoint, self.number)
        while True:
            with keeper.lock:  # no handing over in between
                if rest:
                    rest = rest[_sent_now(self._socket, rest) :]
                keeper.has_half_sent(name, bool(rest))
                if not rest:
                    if self._session.is_quiet:
                        keeper.tell(Quiet(*name, self._session.saved()))
                    return
            _wait_until_it_takes(self._socket)

    def _shut_down(self) -> None:
        """End the connection for every process that holds its socket; the reading thread sees that, and closes it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it for every process that holds its socket."""
        self._shut_down()
        with self._lock:
            self._is_over = True
            streams = list(self._streams.values())
            self._streams.clear()
        self._server.forget(self.number)
        self._server.keeper.has_half_sent((self._server.endpoint, self.number), False)
        self._server.keeper.tell(Closed(self._server.endpoint, self.number))
        for stream in streams:
            stream.end()


def _sent_now(held: socket.socket, data: memoryview) -> int:
    """How many bytes the system takes at once. Raises OSError."""
    try:
        # not `send`, which waits where the socket has a timeout; that makes the descriptor itself one that does not
        return os.write(held.fileno(), data)
    except BlockingIOError:
        return 0


def _wait_until_it_takes(held: socket.socket) -> None:
    """Until the system takes bytes again, or the connection is shut down. Raises TimeoutError after `_SEND_SECONDS`."""
    poll = select.poll()
    poll.register(held, select.POLLOUT)
    if not poll.poll(_SEND_SECONDS * 1000):
        raise TimeoutError(f"the client takes no bytes for {_SEND_SECONDS:g} s")
