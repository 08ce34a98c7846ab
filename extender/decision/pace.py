"""Pace: how long work is told whether to go on, without a clock of its own."""

from __future__ import annotations

from collections.abc import Callable

Pace = Callable[[], bool]
"""Called before each step of long work, of about a millisecond. False: the time is over; the work ends with what it has found."""


def unhurried() -> bool:
    """Return True: the work has as much time as it needs."""
    return True
