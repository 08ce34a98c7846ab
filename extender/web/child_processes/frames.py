"""What a child process writes into its pipe: parts of an answer, then whether that was all, each with its length in front."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

PART, END, FAILED = b"+", b".", b"-"
"""A part of the answer; the end of it; why there is no answer, or no more of it, as text."""

_HEAD = struct.Struct("<cI")
MOST_FRAME_BYTES = 1 << 20
"""A longer part is written as several."""
_MOST_WHY_BYTES = 2_000


class AnswerFailedError(Exception):
    """The child process has ended before its answer was complete; the text says why."""


def write_part(writable: int, part: bytes) -> None:
    """Write a part of the answer to a file descriptor. Raises OSError where its reader is gone."""
    view = memoryview(part)
    for start in range(0, len(part), MOST_FRAME_BYTES):
        _write(writable, PART, view[start : start + MOST_FRAME_BYTES])


def write_end(writable: int) -> None:
    """Write that the answer is complete. Raises OSError where its reader is gone."""
    _write(writable, END, memoryview(b""))


def write_failure(writable: int, why: str) -> None:
    """Write why the answer does not go on. Raises OSError where its reader is gone."""
    _write(writable, FAILED, memoryview(why.encode()[:_MOST_WHY_BYTES]))


def _write(writable: int, kind: bytes, content: memoryview) -> None:
    for view in (memoryview(_HEAD.pack(kind, len(content))), content):
        rest = view
        while rest:
            rest = rest[os.write(writable, rest) :]


def parts(pipe: BinaryIO) -> Iterator[bytes]:
    """Yield the parts of an answer as they arrive. Raises AnswerFailedError where it ends before it is complete."""
    while True:
        head = pipe.read(_HEAD.size)
        kind, size = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0)
        content = pipe.read(size)
        if kind == END:
            return
        if kind == FAILED:
            raise AnswerFailedError(content.decode(errors="replace"))
        if kind != PART or len(content) != size:
            raise AnswerFailedError("the process that computes the answer has ended without one")
        yield content
