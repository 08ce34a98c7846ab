"""What can happen to the state: a closed union of changes, as data. `fold.reducer.fold_all` applies them.

The `version` of a change is the resourceVersion of its object: a change older than what is known is ignored. None: the source delivers
changes in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from extender.decision.dra.dra_state import DraObjectGone, DraObjectSeen
from extender.decision.request.kubernetes_objects import Node, Pod
from extender.decision.request.workload_classes import WorkloadClass
from extender.decision.state.isolation import SetAside
from extender.telemetry.readings import DeviceReading, EngineReading
from topology.gputopology.topology_record import TopologyRecord


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node was listed, added or modified."""

    node: Node
    version: int | None = None


@dataclass(frozen=True, slots=True)
class NodeGone:
    """A node was deleted."""

    name: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod was listed, added or modified."""

    pod: Pod
    version: int | None = None


@dataclass(frozen=True, slots=True)
class PodGone:
    """A pod was deleted."""

    key: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class TopologySeen:
    """A GpuTopology was listed, added or modified."""

    node: str
    record: TopologyRecord | str
    """A str states why the object could not be read."""
    version: int | None = None


@dataclass(frozen=True, slots=True)
class TopologyGone:
    """A GpuTopology was deleted."""

    node: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ClockTicked:
    """Time has passed: fresh statuses and telemetry may have become stale."""

    now_seconds: float | None
    """Unix time; None where time does not pass, as in a dump."""
    monotonic_seconds: float | None = None
    """The same moment on a clock that never goes back; None: the Unix time is used."""


@dataclass(frozen=True, slots=True)
class TelemetrySeen:
    """A reading of some devices or engines of a node. Devices and engines that it does not name keep their last reading, which ages."""

    node: str
    monotonic_seconds: float
    """When it was taken."""
    devices: tuple[DeviceReading, ...] = ()
    engines: tuple[tuple[str, tuple[EngineReading, ...]], ...] = ()
    """(pod key, the engines of that pod)."""
    problems: tuple[str, ...] = ()
    """Why the reading is incomplete."""
    source: str = ""
    """What was scraped; its problems replace the previous problems of the same source."""


@dataclass(frozen=True, slots=True)
class ClassesSeen:
    """The workload classes were read. They replace all previous ones."""

    classes: Mapping[str, WorkloadClass]


@dataclass(frozen=True, slots=True)
class Listed:
    """A kind was listed in full: an object without a change in `changes` no longer exists."""

    kind: str
    """One of `snapshot.KINDS` or of `dra_state.DRA_KINDS`."""
    changes: tuple[NodeSeen | PodSeen | TopologySeen | DraObjectSeen | SetAside, ...]
    version: int | None = None
    """resourceVersion of the list: later changes of that version or an older one are ignored for objects that are not in the list."""


@dataclass(frozen=True, slots=True)
class WatchLost:
    """The watch of a kind broke and could not be resumed."""

    kind: str
    since_monotonic_seconds: float


@dataclass(frozen=True, slots=True)
class WatchRestored:
    """A kind is watched again."""

    kind: str


ObjectSeen = NodeSeen | PodSeen | TopologySeen
ObjectGone = NodeGone | PodGone | TopologyGone
DraObjectChange = DraObjectSeen | DraObjectGone
Change = (
    ObjectSeen | ObjectGone | DraObjectChange | SetAside | ClockTicked | TelemetrySeen | ClassesSeen | Listed | WatchLost | WatchRestored
)


def subject_of(change: Change) -> tuple[str, str]:
    """Return (kind, key) of the object that a change concerns; the key is `*` where it concerns more than one."""
    match change:
        case NodeSeen(node):
            return "nodes", node.metadata.name
        case PodSeen(pod):
            return "pods", pod.key
        case NodeGone(name):
            return "nodes", name
        case PodGone(key):
            return "pods", key
        case TopologySeen(name) | TopologyGone(name):
            return "topologies", name
        case TelemetrySeen(name):
            return "telemetry", name
        case DraObjectSeen(kind, key) | DraObjectGone(kind, key):
            return kind, key
        case SetAside(kind, name):
            return kind, name
        case Listed(kind) | WatchLost(kind) | WatchRestored(kind):
            return kind, "*"
        case ClassesSeen():
            return "classes", "*"
        case ClockTicked():
            return "clock", "*"
        case _:
            assert_never(change)


def node_of(change: Change) -> str | None:
    """Return the name of the node that a change concerns; None where it names none."""
    match change:
        case NodeSeen(node):
            return node.metadata.name
        case PodSeen(pod):
            return pod.spec.node_name
        case TopologySeen(name) | TelemetrySeen(name):
            return name
        case _:
            return None
