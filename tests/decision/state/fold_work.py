"""What a fold does, counted instead of timed: executed lines of Python, and bytes that it allocates."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_and_bytes(work: Callable[[], object]) -> tuple[int, int]:
    """Return (lines of Python that `work` executes, most bytes that it holds beyond those held before). It is run twice, and once before.

    A loop over a mapping executes a line per entry, a copy of a mapping allocates some bytes per entry.
    """
    work()  # fills the caches of what does not depend on the size of the state
    return _lines(work), _peak_bytes(work)


def _lines(work: Callable[[], object]) -> int:
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()  # a collection calls functions of its own, which would be counted
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    return count


def _peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
