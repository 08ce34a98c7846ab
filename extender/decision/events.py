"""What can happen to the state: a closed union of changes, as data. `changes.fold` says what each does.

A `version` is the object's resourceVersion, by which a change that was overtaken by a newer one is known; None: the source keeps an
order of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from extender.decision.classes import WorkloadClass
from extender.decision.dra.state import DraObjectGone, DraObjectSeen
from extender.decision.isolation import SetAside
from extender.decision.objects import Node, Pod
from extender.telemetry.readings import DeviceReading, EngineReading
from topology.record import TopologyRecord


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
    """A GpuTopology was listed, added or modified; a str says why it could not be read."""

    node: str
    record: TopologyRecord | str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class TopologyGone:
    """A GpuTopology was deleted."""

    node: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ClockTicked:
    """Time has passed: what was fresh may now be stale."""

    now_seconds: float | None
    """Unix time; None where it does not pass, as on a dump."""
    steady_seconds: float | None = None
    """The same moment on a clock that never goes back; None: the Unix time will do."""


@dataclass(frozen=True, slots=True)
class TelemetrySeen:
    """A look at some devices or engines of a node. What it does not name is left to grow old."""

    node: str
    steady_seconds: float
    """When it was taken."""
    devices: tuple[DeviceReading, ...] = ()
    engines: tuple[tuple[str, tuple[EngineReading, ...]], ...] = ()
    """(pod key, its engines)."""
    problems: tuple[str, ...] = ()
    """Why there is less than there should be."""
    source: str = ""
    """Who says so; his problems replace those he had before."""


@dataclass(frozen=True, slots=True)
class ClassesSeen:
    """The workload classes were read, all of them."""

    classes: Mapping[str, WorkloadClass]


@dataclass(frozen=True, slots=True)
class Listed:
    """A kind was listed in full: what is not in `changes` no longer exists."""

    kind: str
    changes: tuple[NodeSeen | PodSeen | TopologySeen | DraObjectSeen | SetAside, ...]
    version: int | None = None
    """resourceVersion of the list: nothing older than that is news."""


@dataclass(frozen=True, slots=True)
class Silenced:
    """Nothing is heard of a kind any more: its watch broke, and could not be resumed."""

    kind: str
    since_steady_seconds: float


@dataclass(frozen=True, slots=True)
class Heard:
    """A kind is being watched again."""

    kind: str


ObjectSeen = NodeSeen | PodSeen | TopologySeen
ObjectGone = NodeGone | PodGone | TopologyGone
Change = (
    ObjectSeen
    | ObjectGone
    | DraObjectSeen
    | DraObjectGone
    | SetAside
    | ClockTicked
    | TelemetrySeen
    | ClassesSeen
    | Listed
    | Silenced
    | Heard
)
