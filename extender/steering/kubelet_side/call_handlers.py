"""What answers the calls of a client: one message, or a stream of them, or an error of gRPC."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass


class RefusedError(Exception):
    """The answer to a call is an error of gRPC."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Stream:
    """An answer that goes on. Its client, or the server's end, ends it."""

    def __init__(self, push: Callable[[bytes], None]) -> None:
        """`push` sends one message."""
        self.push = push
        self._ends: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self.is_open = True

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
