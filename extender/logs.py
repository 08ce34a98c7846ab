"""How processes log: one plain line per message, on standard error."""

from __future__ import annotations

import logging
from typing import Any

from extender.plain_text import plain


class PlainFormatter(logging.Formatter):
    """Log lines in plain text: a message cannot forge a further line, and a traceback keeps its own."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging names it so
        """The line itself."""
        return plain(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback."""
        return plain(super().formatException(ei), keep="\n")


def log_to_stderr(level: str) -> None:
    """Logging of a process that serves."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])
