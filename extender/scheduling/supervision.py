"""Supervises loops that must not end: an unexpected exception is logged and counted, and the loop starts again after a growing pause.

A loop that keeps failing is down: `Supervisor.down` names it, and the process is not ready meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from extender.metrics import Metrics

log = logging.getLogger("fabricwise.supervision")

FIRST_PAUSE_SECONDS = 0.5
MOST_PAUSE_SECONDS = 30.0
DOWN_SECONDS = 30.0
"""A loop that fails again and again for this long, without a run of half this time in between, is down."""


@dataclass(slots=True)
class _Loop:
    name: str
    failing_since: float | None = None
    """Monotonic seconds of the first failure; None: it has not failed, or it has run long enough since."""
    started: float | None = None
    """Monotonic seconds; None between two runs."""
    failures: int = 0


class Supervisor:
    """Runs loops in daemon threads."""

    def __init__(
        self,
        metrics: Metrics,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
        most_pause_seconds: float = MOST_PAUSE_SECONDS,
        down_seconds: float = DOWN_SECONDS,
    ) -> None:
        self._metrics = metrics
        self._first_pause_seconds, self._most_pause_seconds = first_pause_seconds, most_pause_seconds
        self._down_seconds = down_seconds
        self._lock = threading.Lock()
        self._loops: list[_Loop] = []

    def start(self, name: str, run: Callable[[], object], stop: threading.Event | None = None) -> threading.Thread:
        """Run a loop in a thread until `stop` is set. `run` that raises, or returns without `stop` being set, is started again."""
        thread = threading.Thread(target=self.keep, args=(name, run, stop or threading.Event()), name=name, daemon=True)
        thread.start()
        return thread

    def keep(self, name: str, run: Callable[[], object], stop: threading.Event) -> None:
        """Run a loop in the calling thread until `stop` is set; see `start`."""
        loop = _Loop(name)
        with self._lock:
            self._loops.append(loop)
        try:
            while not stop.is_set():
                loop.started = time.monotonic()
                try:
                    run()
                    if stop.is_set():
                        break
                    log.error("%s: ended although it was not stopped; starting it again", name)
                except Exception:  # the loop must go on after any error
                    log.exception("%s: unexpected; starting it again", name)
                stop.wait(self._failed(loop))
        finally:
            with self._lock:
                self._loops.remove(loop)

    def _failed(self, loop: _Loop) -> float:
        """Count a failure, and return the seconds to pause."""
        self._metrics.loop_restarts.labels(loop.name).inc()
        now = time.monotonic()
        with self._lock:
            if loop.failing_since is None or self._recovered(loop, now):
                loop.failing_since, loop.failures = now, 0
            loop.started = None
            pause = min(self._most_pause_seconds, self._first_pause_seconds * 2.0 ** min(loop.failures, 16))
            loop.failures += 1
        return pause

    def _recovered(self, loop: _Loop, now: float) -> bool:
        """Whether the present run has lasted long enough that earlier failures do not count any more.

        That is half of `down_seconds`, so a loop that fails once and then runs is never down.
        """
        return loop.started is not None and now - loop.started >= self._down_seconds / 2

    def down(self) -> tuple[str, ...]:
        """Return the names of the loops that are down."""
        now = time.monotonic()
        with self._lock:
            return tuple(
                loop.name
                for loop in self._loops
                if loop.failing_since is not None and now - loop.failing_since >= self._down_seconds and not self._recovered(loop, now)
            )
