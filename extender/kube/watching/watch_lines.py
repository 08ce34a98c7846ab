"""The lines of a watch, in batches: a burst of events becomes few changes of state.

An event that arrives alone is passed on at once. After a batch, the next one is collected until `BATCH_SECONDS` have passed. An API server
sends each event as an HTTP chunk of its own, so one read returns one event at most.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import urllib3

BATCH_SECONDS = 0.01
"""Least time between two batches of one watch: at most a hundred changes of state per second and kind, each at most this much later.

kube-scheduler's own state is some 25 ms ahead of the extender's, and assumed pods cover that time.
"""

MOST_BATCH_LINES = 500
"""Lines after which a batch ends, although more have arrived: verbs wait less for several small changes of state than for a large one."""

MOST_LINE_BYTES = 16 * 1024 * 1024
"""Bytes of the longest line. etcd stores no object above 1.5 MiB by default."""


class LineTooLongError(Exception):
    """A line is longer than `MOST_LINE_BYTES`."""


class LineBuffer:
    """Cuts a stream of bytes into lines. It keeps the bytes after the last line break, at most `most_bytes`."""

    def __init__(self, most_bytes: int = MOST_LINE_BYTES) -> None:
        self._most_bytes = most_bytes
        self._partial = bytearray()

    def lines(self, chunk: bytes) -> list[bytes]:
        """Return the non-empty lines that `chunk` completes, in order. Raises LineTooLongError."""
        first, *more = chunk.split(b"\n")
        self._partial += first
        if len(self._partial) > self._most_bytes:
            raise LineTooLongError(f"a line is longer than {self._most_bytes} bytes")
        if not more:
            return []
        whole = [bytes(self._partial), *more[:-1]]
        self._partial = bytearray(more[-1])
        return [line for line in whole if line and not line.isspace()]


def line_batches(
    response: urllib3.BaseHTTPResponse, clock: Callable[[], float] = time.monotonic, most_lines: int = MOST_BATCH_LINES
) -> Iterator[list[bytes]]:
    """Yield the non-empty lines of a response in order, in batches, until it ends. No line waits for a later one to arrive.

    `clock` gives monotonic seconds. Raises LineTooLongError, and what urllib3 raises if the stream breaks; the lines before are yielded
    first.
    """
    buffer, last_seconds = LineBuffer(), float("-inf")
    with closing(_Reader(response)) as reader:
        chunk: bytes | None = reader.next_chunk(None)
        while chunk:
            batch: list[bytes] = []
            try:
                while chunk:
                    batch += buffer.lines(chunk)
                    if len(batch) >= most_lines:
                        break
                    chunk = reader.next_chunk(max(0.0, last_seconds + BATCH_SECONDS - clock()))
            finally:
                if batch:
                    yield batch
                    last_seconds = clock()
            if chunk != b"":
                chunk = reader.next_chunk(None)


class _Reader:
    """Reads a response in a thread of its own: only so can a batch end while an event is still arriving.

    A connection that can be polled is not enough: part of an HTTP chunk makes it readable, and a read then waits for the rest.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self._arrived: queue.Queue[bytes | Exception] = queue.Queue(maxsize=MOST_BATCH_LINES)
        self._is_closed = threading.Event()
        threading.Thread(target=self._read, name="watch-reader", daemon=True).start()

    def next_chunk(self, seconds: float | None) -> bytes | None:
        """Return the next chunk, empty at the end; None where none arrives within `seconds`. Raises what the read has raised."""
        try:
            chunk = self._arrived.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def close(self) -> None:
        """End the thread, also where it waits for the next chunk."""
        self._is_closed.set()
        with suppress(ValueError, RuntimeError, OSError):  # the response has ended
            self._response.shutdown()

    def _read(self) -> None:
        chunk: bytes | Exception = b"-"
        while chunk and not isinstance(chunk, Exception):
            try:
                chunk = self._response.read1()
            except Exception as error:  # raised again in the thread that takes the lines
                chunk = error
            while not self._is_closed.is_set():
                try:
                    self._arrived.put(chunk, timeout=1.0)
                    break
                except queue.Full:
                    continue
            if self._is_closed.is_set():
                return
