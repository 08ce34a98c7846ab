"""Hooks by which a source of cluster state is told, or asked, what only it can pass on. All None until a source sets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from extender.decision.outcomes import Known

FloorMissed = Callable[[Known, float], None]
Wake = Callable[[str, str, str], bool]


@dataclass(slots=True)
class Reports:
    """`floor_missed` is called under the state's lock: return at once."""

    floor_missed: FloorMissed | None = None
    wake: Wake | None = None
    """(namespace, name, uid) of a pending pod to be tried again; whether that was done. May take its time."""
    telemetry: Callable[[], dict[str, Any]] | None = None
    """What is asked for telemetry, and who does not answer."""
