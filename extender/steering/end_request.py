"""Whether a steerer is told to end, and pauses that such a request cuts short."""

from __future__ import annotations

import time

POLL_SECONDS = 0.02
"""Pause between two looks at what may have changed."""


class EndRequest:
    """A flag that a signal handler sets. It has no lock, as `threading.Event` has: a handler may interrupt itself."""

    def __init__(self) -> None:
        self.is_made = False

    def make(self) -> None:
        """Tell the steerer to end."""
        self.is_made = True

    def pause(self, seconds: float) -> None:
        """Sleep, at most until the request is made."""
        until = time.monotonic() + seconds
        while not self.is_made and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
