"""The child processes of the tests themselves."""

from __future__ import annotations

from pathlib import Path


def children() -> set[str]:
    """The ids of the processes that this one has started and that it has not yet waited for."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}
