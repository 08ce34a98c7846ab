"""The log and the count of everything that was set aside: objects that could not be read, nodes that could not be evaluated."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import ParamSpec

from extender.decision.state.isolation import described
from extender.metrics import Metrics

log = logging.getLogger("fabricwise.isolation")

MOST_LOGGED = 1_000
"""Pairs of subject and error that are remembered as logged already."""

P = ParamSpec("P")


class SetAsideLog:
    """Counts each case, and logs each pair of subject and error once: a broken node raises again at every evaluation."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._logged: OrderedDict[tuple[str, str, str, str], None] = OrderedDict()

    def note(self, kind: str, stage: str, name: str, error: BaseException | str) -> None:
        """Count and log an object that was set aside.

        `kind`: nodes, pods, topologies, telemetry or snapshot; `stage`: what was done when the error occurred.
        """
        self._metrics.set_aside.labels(kind, stage).inc()
        why = error if isinstance(error, str) else described(error)
        if self._is_new((kind, stage, name, why)):
            trace = error if isinstance(error, BaseException) else None
            log.warning("%s/%s set aside (%s): %s", kind, name, stage, why, exc_info=trace)

    def _is_new(self, case: tuple[str, str, str, str]) -> bool:
        with self._lock:
            if case in self._logged:
                self._logged.move_to_end(case)
                return False
            self._logged[case] = None
            if len(self._logged) > MOST_LOGGED:
                self._logged.popitem(last=False)
            return True

    def guard(self, kind: str, stage: str, name: str, step: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Run a step. Return whether it ended without an exception; an exception is noted and not raised."""
        try:
            step(*args, **kwargs)
        except Exception as error:
            self.note(kind, stage, name, error)
            return False
        return True
