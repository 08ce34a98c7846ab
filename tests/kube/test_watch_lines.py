"""Lines of a watch: cut from chunks of any size, collected into batches, bounded."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from extender.kube.watch_lines import BATCH_SECONDS, MOST_BATCH_LINES, LineBuffer, LineTooLongError, line_batches


@dataclass
class ChunkedResponse:
    """A response that returns one chunk per read, as urllib3 does for HTTP chunks, and can be polled like a connection."""

    reader: socket.socket
    writer: socket.socket
    chunks: list[bytes] = field(default_factory=list)
    blocking_reads: int = 0
    """Reads of which no byte had arrived."""

    def arrive(self, *chunks: bytes) -> None:
        """Let chunks arrive."""
        self.chunks += chunks
        self.writer.send(b"x" * len(chunks))

    def read1(self) -> bytes:
        """Return the next chunk; empty at the end."""
        if not self.chunks:
            self.blocking_reads += 1
            return b""
        self.reader.recv(1)
        return self.chunks.pop(0)

    def fileno(self) -> int:
        """Return the descriptor, readable while chunks are left."""
        return self.reader.fileno()


@contextmanager
def responding(*chunks: bytes) -> Iterator[ChunkedResponse]:
    reader, writer = socket.socketpair()
    with reader, writer:
        response = ChunkedResponse(reader, writer)
        response.arrive(*chunks)
        yield response


def batches_of(response: ChunkedResponse, **options: Any) -> list[list[bytes]]:
    return list(line_batches(cast(urllib3.BaseHTTPResponse, response), **options))


def test_lines_that_have_arrived_are_one_batch_in_their_order() -> None:
    with responding(*(b"%d\n" % number for number in range(100))) as response:
        assert batches_of(response) == [[b"%d" % number for number in range(100)]]


def test_batch_is_passed_on_before_a_read_that_waits() -> None:
    with responding(b"1\n", b"2\n") as response:
        batches = line_batches(cast(urllib3.BaseHTTPResponse, response))
        assert next(batches) == [b"1", b"2"]
        assert response.blocking_reads == 0


def test_batch_ends_after_its_largest_number_of_lines() -> None:
    with responding(*[b"x\n"] * (MOST_BATCH_LINES + 1)) as response:
        assert [len(batch) for batch in batches_of(response)] == [MOST_BATCH_LINES, 1]


def test_first_batch_does_not_wait_and_the_next_collects_until_the_pause_has_passed() -> None:
    pauses: list[float] = []
    with responding(b"1\n") as response:

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            response.arrive(b"3\n")

        batches = line_batches(cast(urllib3.BaseHTTPResponse, response), pause, clock=lambda: 100.0)
        assert next(batches) == [b"1"]
        assert pauses == []
        response.arrive(b"2\n")
        assert next(batches) == [b"2", b"3"]
        assert pauses == [pytest.approx(BATCH_SECONDS)]


def test_lines_before_the_stream_breaks_are_passed_on_before_the_error() -> None:
    with responding(b"1\n", b"2\n") as response:
        original = response.read1

        def breaking() -> bytes:
            chunk = original()
            if chunk == b"2\n":
                raise OSError("reset")
            return chunk

        response.read1 = breaking  # type: ignore[method-assign]
        batches = line_batches(cast(urllib3.BaseHTTPResponse, response))
        assert next(batches) == [b"1"]
        with pytest.raises(OSError, match="reset"):
            next(batches)


def test_response_whose_connection_is_closed_already_gives_its_lines() -> None:
    with responding(b"1\n") as response:

        def closed() -> int:
            raise ValueError("I/O operation on closed file")

        response.fileno = closed  # type: ignore[method-assign]
        assert batches_of(response) == [[b"1"]]


@given(st.lists(st.text("ab é", max_size=6)), st.data())
def test_chunk_boundaries_change_no_line(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(text.encode() + b"\n" for text in texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    buffer = LineBuffer()
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    lines = [line for chunk in chunks for line in buffer.lines(chunk)]
    assert lines == [text.encode() for text in texts if text.strip()]


def test_line_that_is_too_long_is_refused_before_all_of_it_is_kept() -> None:
    buffer = LineBuffer(most_bytes=1_000)
    assert buffer.lines(b"short\n" + b"x" * 600) == [b"short"]
    with pytest.raises(LineTooLongError, match="1000 bytes"):
        buffer.lines(b"x" * 600)
