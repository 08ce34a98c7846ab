"""What a node's view is derived from: its objects, its pods, its telemetry, and the time."""

from __future__ import annotations

from dataclasses import dataclass, field

from extender.decision.dra.dra_node import DraNode
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.allocation.ended_pods import EndedPod
from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.workload_classes import Classes
from extender.telemetry.conditions import NodeTelemetry
from topology.gputopology.topology_record import TopologyRecord


@dataclass(frozen=True, slots=True)
class Times:
    """The current time on two clocks; None where time does not pass, as in a dump."""

    now_seconds: float | None = None
    """Unix time."""
    monotonic_seconds: float | None = None
    """A clock that never goes back."""


NO_TIMES = Times()


@dataclass(frozen=True, slots=True)
class NodeSources:
    """Everything that a node's view is derived from, besides the defaults."""

    node: Node
    record: TopologyRecord | str | None
    """Its GpuTopology; a str states why it cannot be used."""
    pods: tuple[BoundPod, ...]
    times: Times = NO_TIMES
    """Unix time by the clock of the agent that wrote the GpuTopology's status."""
    telemetry: NodeTelemetry | None = None
    classes: Classes = field(default_factory=dict)
    ended: tuple[EndedPod, ...] = ()
    """Pods that the GpuTopology's status may still name although they have ended."""
    dra: DraNode | None = None
    """Its devices, where Dynamic Resource Allocation serves its GPUs; `dra_view` reads it."""


def stale_since(record: TopologyRecord | str | None, now_seconds: float | None, most_age_seconds: float | None) -> float | None:
    """Return the Unix time since when the record's status is too old to name allocations; None while it is fresh, or has no time."""
    status = record.status if isinstance(record, TopologyRecord) else None
    if status is None or status.observed_at_seconds is None or now_seconds is None or most_age_seconds is None:
        return None
    limit = status.observed_at_seconds + most_age_seconds
    return limit if now_seconds > limit else None
