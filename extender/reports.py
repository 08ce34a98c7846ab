"""Hooks by which a source of cluster state is told, or asked, what only it can pass on. All None until a source sets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from extender.decision.holdings import BoundPod
from extender.decision.objects import Pod
from extender.decision.outcomes import Known
from extender.decision.record import Record

FloorMissed = Callable[[Known, float], None]
Wake = Callable[[str, str, str], bool]


@dataclass(slots=True)
class Reports:
    """`floor_missed` and `placed` are called under the state's lock: return at once."""

    floor_missed: FloorMissed | None = None
    placed: Callable[[BoundPod, Record], None] | None = None
    """A pod is bound that carries no record of its decision."""
    wake: Wake | None = None
    """(namespace, name, uid) of a pending pod to be tried again; whether that was done. May take its time."""
    bind: Callable[[str, str, str, str, dict[str, str]], str] | None = None
    """(namespace, name, uid, node, annotations) -> the empty string once the pod is bound there, else why not. May take its time."""
    pod: Callable[[str, str], Pod | str] | None = None
    """(namespace, name) -> the pod as the API server has it, or why not. May take its time."""
    taint: Callable[[dict[str, Any]], bool] | None = None
    """A DeviceTaintRule without apiVersion -> whether it is there now. May take its time."""
    untaint: Callable[[str], bool] | None = None
    """Name of a DeviceTaintRule -> whether it is gone now. May take its time."""
    leading: Callable[[], bool] | None = None
    """Whether this replica is the one to do what must be done once; None: there is no other."""
    telemetry: Callable[[], dict[str, Any]] | None = None
    """What is asked for telemetry, and who does not answer."""

    @property
    def is_leading(self) -> bool:
        """Whether to do what must be done once."""
        return self.leading is None or self.leading()
