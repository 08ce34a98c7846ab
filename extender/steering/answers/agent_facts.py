"""What the agent says about the devices of this node, from its file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from extender.steering.choice.device_choice import Reason
from topology.devices.facts_file import MOST_BYTES, DeviceFacts, FactsError, decode_facts

log = logging.getLogger("fabricwise.steering")

MOST_FACTS_AGE_SECONDS = 120.0
"""Facts that the agent has not renewed for so long are not used: it renews them at least once in a minute."""


class FactsFile:
    """The agent's file, read again when it has changed."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives Unix time."""
        self._path, self._clock = path, clock
        self._read: tuple[tuple[int, int, int], DeviceFacts | Reason] | None = None

    def now(self) -> DeviceFacts | Reason:
        """The facts, or why there are none."""
        try:
            stat = self._path.stat()
            version = stat.st_ino, stat.st_mtime_ns, stat.st_size
            if self._read is None or self._read[0] != version:
                self._read = version, self._load()
        except OSError:
            return Reason.NO_FACTS
        found = self._read[1]
        if isinstance(found, DeviceFacts) and abs(self._clock() - found.written_at_seconds) > MOST_FACTS_AGE_SECONDS:
            return Reason.OLD_FACTS
        return found

    def _load(self) -> DeviceFacts | Reason:
        with self._path.open("rb") as file:
            document = file.read(MOST_BYTES + 1)
        try:
            return decode_facts(document)
        except FactsError as error:
            log.warning("%s cannot be used, NVIDIA's answers are forwarded: %s", self._path, error)
            return Reason.NO_FACTS
