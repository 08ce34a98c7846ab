"""Waiting for an observable state."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait(what: str, check: Callable[[], object], seconds: float = 15.0) -> float:
    """Poll until `check` is true. Returns the seconds that it took; fails naming `what` after `seconds`."""
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - started
