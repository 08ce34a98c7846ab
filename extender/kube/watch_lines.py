"""The lines of a watch, in batches: a burst of events becomes few changes of state.

An event that arrives alone is passed on at once. After a batch, the next one is collected until `BATCH_SECONDS` have passed, with all that
has arrived by then. An API server sends each event as an HTTP chunk of its own, so one read returns one event at most.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterator

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
    response: urllib3.BaseHTTPResponse,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[bytes]]:
    """Yield the non-empty lines of a response in order, in batches, until it ends.

    `pause` waits for some seconds, `clock` gives monotonic seconds. Raises LineTooLongError, and what urllib3 raises if the stream breaks;
    the lines before are yielded first.
    """
    buffer, last_seconds = LineBuffer(), float("-inf")
    while chunk := response.read1():
        batch = buffer.lines(chunk)
        remaining_seconds = last_seconds + BATCH_SECONDS - clock()
        if remaining_seconds > 0:
            pause(remaining_seconds)
        try:
            _add_arrived(batch, response, buffer)
        finally:
            if batch:
                yield batch
                last_seconds = clock()


def _add_arrived(batch: list[bytes], response: urllib3.BaseHTTPResponse, buffer: LineBuffer) -> None:
    """Add the lines that can be read without waiting, until the batch has `MOST_BATCH_LINES`.

    Bytes that the connection has read ahead are not seen, and may leave lines to the next batch.
    """
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(response.fileno(), selectors.EVENT_READ)
        except (OSError, ValueError, AttributeError):  # the response has been read to its end, and its connection is closed
            return
        while len(batch) < MOST_BATCH_LINES and selector.select(0) and (chunk := response.read1()):
            batch += buffer.lines(chunk)
