"""Lines of a watch: cut from chunks of any size, collected into batches, bounded."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from extender.kube.watching.watch_lines import LineBuffer, LineTooLongError, line_batches


class ChunkedResponse:
    """A response that returns one chunk per read, as urllib3 does for HTTP chunks, and waits for the next one."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self._chunks: queue.Queue[bytes | Exception] = queue.Queue()
        self.arrive(*chunks)

    def arrive(self, *chunks: bytes | Exception) -> None:
        """Let chunks arrive; an empty one is the end, an exception a broken connection."""
        for chunk in chunks:
            self._chunks.put(chunk)

    def read1(self) -> bytes:
        """Return the next chunk. Raises the exception that has arrived."""
        chunk = self._chunks.get(timeout=30)
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def shutdown(self) -> None:
        """End a read that waits."""
        self.arrive(b"")


def batches_of(response: ChunkedResponse, **options: Any) -> Iterator[list[bytes]]:
    return line_batches(cast(urllib3.BaseHTTPResponse, response), **options)


def read_to_end(response: ChunkedResponse, **options: Any) -> list[list[bytes]]:
    return list(batches_of(response, **options))


def test_lines_of_a_burst_are_in_few_batches_and_in_their_order() -> None:
    times = iter([0.0])  # the clock stands still: a batch never ends by time while chunks arrive
    chunks = [b"%d\n" % number for number in range(100)]
    batches = read_to_end(ChunkedResponse(*chunks, b""), clock=lambda: next(times, 0.0))
    assert [line for batch in batches for line in batch] == [b"%d" % number for number in range(100)]
    assert len(batches) < 50


def test_batch_is_passed_on_before_the_next_event_arrives() -> None:
    response = ChunkedResponse(b"1\n")
    batches = batches_of(response)
    assert next(batches) == [b"1"]
    response.arrive(b"2\n")
    assert next(batches) == [b"2"], "also where the time until the next batch has to pass"
    batches.close()  # type: ignore[attr-defined]


def test_event_of_a_real_connection_is_passed_on_while_the_next_one_is_still_arriving() -> None:
    """Part of an HTTP chunk makes a connection readable, and a read waits for its rest."""
    may_end = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"2\r\n1\n\r\n2\r\n2\n\r\n")
            self.wfile.write(b"8\r\nhalf")
            self.wfile.flush()
            may_end.wait(30)
            self.wfile.write(b"way\n\r\n0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        response = urllib3.PoolManager().request("GET", f"http://127.0.0.1:{server.server_port}/", preload_content=False)
        batches = line_batches(response)
        seen = next(batches)
        while len(seen) < 2:
            seen += next(batches)
        assert seen == [b"1", b"2"]
        may_end.set()
        assert list(batches) == [[b"halfway"]]
    finally:
        may_end.set()
        server.shutdown()
        server.server_close()


def test_batch_ends_after_its_largest_number_of_lines() -> None:
    batches = read_to_end(ChunkedResponse(*[b"x\n"] * 7, b""), most_lines=3)
    assert sum(map(len, batches)) == 7
    assert max(map(len, batches)) <= 3


def test_lines_before_the_stream_breaks_are_passed_on_before_the_error() -> None:
    batches = batches_of(ChunkedResponse(b"1\n", OSError("reset")))
    assert next(batches) == [b"1"]
    with pytest.raises(OSError, match="reset"):
        next(batches)


def test_reader_ends_when_the_lines_are_not_taken_any_more() -> None:
    response = ChunkedResponse(b"1\n")
    batches = batches_of(response)
    next(batches)
    readers = [thread for thread in threading.enumerate() if thread.name == "watch-reader"]
    batches.close()  # type: ignore[attr-defined]
    for reader in readers:
        reader.join(10)
    assert not [thread for thread in readers if thread.is_alive()]


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
