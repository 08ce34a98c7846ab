"""Decisions appended to rotated files, as journals: by a thread of its own, never by a verb.

A file that cannot be written stops nothing. It is logged once, the decisions meanwhile are counted as not recorded, and after a pause a new
file is begun.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import IO

from extender.decision.pace import Pace
from extender.decision.replay.journal_lines import HeadLine, encoded_line
from extender.decision.replay.journal_writer import JournalWriter
from extender.decision.replay.kept_objects.named_texts import PlainNames
from extender.metrics import Metrics
from extender.scheduling.decision_log import Decision
from extender.scheduling.supervision import Supervisor
from extender.settings import DecisionFile as DecisionFileSettings

MOST_WAITING = 1024
"""Decisions that wait to be written; further ones are not recorded."""

_LOOK_SECONDS = 0.1
_STOP_SECONDS = 5.0
_PAUSE_SECONDS = 10.0
"""Time after an error in which nothing is written."""

logger = logging.getLogger("fabricwise.decisions")


@dataclass(slots=True)
class _Open:
    """The file that is being written."""

    file: IO[bytes]
    writer: JournalWriter
    bytes: int = 0


class DecisionFile:
    """Writes decisions to a file and renames it when it is full. `add` is safe to be called from any thread."""

    def __init__(self, settings: DecisionFileSettings, head: Callable[[], HeadLine], resource: str, metrics: Metrics, pace: Pace) -> None:
        """`head`: makes the first line of each file. `pace` is called for every few objects and may wait while a verb is answered."""
        self._path, self._settings = Path(settings.file), settings
        self._head, self._resource, self._metrics, self._pace = head, resource, metrics, pace
        self._waiting: deque[Decision] = deque()
        self._open: _Open | None = None
        self._failing_until = 0.0
        """Monotonic time until which nothing is written."""
        self._is_failing = False
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self, supervisor: Supervisor) -> None:
        """Begin to write."""
        self._thread = supervisor.start("decision-file", lambda: self.run(self._stop), self._stop)

    def stop(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        if self._thread is None:
            self.run(self._stop)
        else:
            self._thread.join(_STOP_SECONDS)

    def add(self, decision: Decision) -> None:
        """Let a decision be written, unless too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            self._metrics.unrecorded.labels("queue full").inc()
        else:
            self._waiting.append(decision)

    def run(self, stop: Event) -> None:
        """Write what waits, until `stop` is set."""
        while not stop.wait(_LOOK_SECONDS):
            self.write_waiting()
        self.write_waiting()
        self._close()

    def write_waiting(self) -> None:
        """Write the decisions that wait."""
        is_written = False
        while self._waiting:
            decision = self._waiting.popleft()
            if time.monotonic() < self._failing_until:
                self._metrics.unrecorded.labels("not writable").inc()
                continue
            try:
                self._write(decision)
                is_written = True
            except OSError as error:
                self._fail(error)
        if is_written and self._open is not None:
            try:
                self._open.file.flush()
            except OSError as error:
                self._fail(error)

    def _write(self, decision: Decision) -> None:
        """Append one decision. Raises OSError."""
        if self._open is not None and self._open.bytes >= self._settings.max_bytes:
            self._close()
        current = self._open
        if current is None:
            current = self._open = self._begun()
        for line in current.writer.decision(decision):
            text = encoded_line(line)
            current.file.write(text)
            current.bytes += len(text)
        self._metrics.recorded.inc()
        if self._is_failing:
            logger.info("decisions are written to %s again", self._path)
            self._is_failing = False

    def _begun(self) -> _Open:
        """Rename the older files and open a new one, readable by its owner alone. Raises OSError."""
        for number in range(self._settings.files - 1, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        file = os.fdopen(descriptor, "wb", buffering=1 << 16)
        head = encoded_line(self._head())
        try:
            file.write(head)
        except OSError:
            file.close()
            raise
        return _Open(file, JournalWriter(PlainNames(), self._resource, self._pace), len(head))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _fail(self, error: OSError) -> None:
        """Count a decision as not recorded, and write nothing for a while. What is written of it is no complete line, and is cut off."""
        self._metrics.unrecorded.labels("not writable").inc()
        if not self._is_failing:
            logger.warning(
                "decisions cannot be written to %s: %s; they are counted in fabricwise_decisions_not_recorded_total until they can. "
                "Free space, or set decisions.file to a file in a folder that can be written",
                self._path,
                error.strerror or error,
            )
            self._is_failing = True
        self._failing_until = time.monotonic() + _PAUSE_SECONDS
        self._close()
        _cut_off(self._path)

    def _close(self) -> None:
        current, self._open = self._open, None
        if current is not None:
            try:
                current.file.close()
            except OSError as error:
                logger.debug("closing %s: %s", self._path, error)


def _cut_off(path: Path) -> None:
    """Remove an incomplete last line, so that the file can be read to its end."""
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - (8 << 20))
            file.seek(start)
            complete = file.read().rfind(b"\n") + 1
            file.truncate(start + complete)
    except OSError:
        return
