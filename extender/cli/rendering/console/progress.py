"""What is being done, shown on standard error while a person waits: only on a terminal, and only for work of more than a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.status import Status
from rich.text import Text

from extender.cli.rendering.console.output import PlainConsole
from extender.plain_text import plain

SHOWN_AFTER_SECONDS = 1.0
"""Shorter work shows nothing, so that quick answers do not flicker."""


class Shown:
    """The line that says what is being done. Its text can change before and while it is shown."""

    def __init__(self, text: str) -> None:
        self._status = Status(Text(plain(text)), console=PlainConsole(stderr=True))
        self._lock = threading.Lock()
        self._is_over = False

    def update(self, text: str) -> None:
        """Change the text."""
        self._status.update(Text(plain(text)))

    def listed(self, kind: str, read: int, left: int | None) -> None:
        """Say how many objects of a kind are read; the form of `extender.kube.listing.Progress`."""
        self.update(f"{kind}: {read} read{f', {left} left' if left else ''}")

    def start(self) -> None:
        """Show the line, unless the work is over."""
        with self._lock:
            if not self._is_over:
                self._status.start()

    def stop(self) -> None:
        """Remove the line."""
        with self._lock:
            self._is_over = True
            self._status.stop()


@contextmanager
def progress(text: str) -> Iterator[Shown]:
    """Show `text` with a spinner on standard error until the block ends, if that is a terminal and takes more than a second."""
    shown = Shown(text)
    if not sys.stderr.isatty():
        yield shown
        return
    timer = threading.Timer(SHOWN_AFTER_SECONDS, shown.start)
    timer.daemon = True
    timer.start()
    try:
        yield shown
    finally:
        timer.cancel()
        shown.stop()
