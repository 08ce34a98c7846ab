"""Logging of long-running processes: one plain line per message on standard error."""

from __future__ import annotations

import logging
from typing import Any

from extender.plain_text import plain


class PlainFormatter(logging.Formatter):
    """Formatter of plain log lines: a line break in a message becomes an escape, so that the message cannot forge a line."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging names it so
        """Return the line."""
        return plain(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the lines of the traceback."""
        return plain(super().formatException(ei), keep="\n")


def log_to_stderr(level: str) -> None:
    """Configure logging for a long-running process; `level` is a name such as "info"."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
