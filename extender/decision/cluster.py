"""What is known of the cluster: the snapshot, its nodes' views, and the state that a verdict depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from extender.decision.classes import WorkloadClass
from extender.decision.components import Resident
from extender.decision.dra.node import DraNode
from extender.decision.dra.state import NO_DRA, DraState
from extender.decision.ended import EndedPod
from extender.decision.holdings import BoundPod
from extender.decision.isolation import SetAside
from extender.decision.load import Pending
from extender.decision.objects import Node
from extender.decision.pressure import NO_BURDEN, Burden
from extender.decision.sharing import Sharing, Slice
from extender.decision.standing import NOTHING, Live
from extender.decision.targets import NO_TARGETS, Target, TargetRules
from extender.telemetry.conditions import TUNING, NodeTelemetry, Tuning
from topology.hardware import Machine
from topology.placement import PlacementTable
from topology.prediction import USUAL, Kubelet
from topology.record import TopologyRecord

KINDS = ("nodes", "pods", "topologies")
"""What the state is made of, as listings call it."""


@dataclass(frozen=True, slots=True)
class NodeDefaults:
    """What is taken for granted of nodes that do not say otherwise."""

    kubelet: Kubelet = USUAL
    assume_from_product: bool = True
    most_status_age_seconds: float | None = 300.0
    """Age from which an agent's word on who holds what is not taken any more."""
    tuning: Tuning = TUNING
    """How telemetry is smoothed, and when it is too old."""
    targets: TargetRules = NO_TARGETS
    """What is scraped."""


NODE_DEFAULTS = NodeDefaults()


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Versions of a node. None = unknown."""

    compute_capability: tuple[int, ...] | None = None
    """Of its least able GPU."""
    driver: tuple[int, ...] | None = None
    cuda: tuple[int, ...] | None = None
    """The newest CUDA that the driver serves."""


NO_FACTS = NodeFacts()


@dataclass(frozen=True, eq=False)
class NodeState:
    """All that a verdict depends on. Equal nodes share one state object, and so their verdicts."""

    allocatable: int
    requested: int
    product: str | None
    gpu_memory_bytes: int | None
    table: PlacementTable | None
    """None: topology unknown; `note` says why."""
    indices: tuple[int, ...]
    """nvidia-smi index per position."""
    healthy: int
    """Usable GPUs: what the node offers, less what the agent calls unhealthy."""
    beliefs: tuple[tuple[int, float], ...]
    """(free mask, probability), likeliest first; empty where topology is unknown."""
    note: str
    """Where the topology is from, or why there is none."""
    kubelet: Kubelet = USUAL
    """How the node hands out devices."""
    faults: tuple[tuple[int, str, bool], ...] = ()
    """(nvidia-smi index, why, whether an XID says so) of devices that telemetry has fenced."""
    facts: NodeFacts = NO_FACTS
    sharing: Sharing | None = None
    """What one of its GPUs on offer is; None = nobody says."""
    physical: int | None = None
    """GPUs it has, however many it offers; None = unknown."""
    slices: tuple[Slice, ...] = ()
    """What it offers of shared or divided GPUs under other names."""
    pools: frozenset[str] = frozenset()
    """Workload classes in a pool of which it is."""
    live: Live = NOTHING
    burden: Burden = NO_BURDEN
    """What telemetry makes of each position, whoever asks."""
    usable: int = 0
    """Mask of positions that could be free if every pod left: neither sick nor fenced."""
    unjudged: str | None = None
    """Why it is not known what an extended resource stands for here; the node is not refused for it."""
    bare: NodeState | None = None
    """The same state without telemetry, which many nodes share; None where this is it."""

    @property
    def free_count(self) -> int:
        """GPUs that both the API's count and the beliefs leave free."""
        counted = max(0, self.allocatable - self.requested)
        return counted if self.table is None else min(counted, max((mask.bit_count() for mask, _ in self.beliefs), default=0))


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node: its name, its facts, its state."""

    name: str
    state: NodeState
    pods: tuple[BoundPod, ...]
    problem: str | None = None
    """What is wrong with its GpuTopology, if anything."""
    known: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Pod key -> masks of the positions it holds, where that is known."""
    disagreements: tuple[str, ...] = ()
    """Where the pods' own status and the agent's name different devices."""
    stale_since_seconds: float | None = None
    """Since when the agent's status is too old (Unix time); None while it is not."""
    machine: Machine | None = None
    """Where its topology is known."""
    fenced: int = 0
    """Mask of positions that telemetry has fenced."""
    shunned: int = 0
    """Those of them that the device plugin may still hand out."""
    telemetry_problems: tuple[str, ...] = ()
    dra: DraNode | None = None
    """Where Dynamic Resource Allocation serves its GPUs."""


@dataclass(frozen=True, slots=True)
class StatusTime:
    """When a GpuTopology's status was made, and received here. Its age is this plus the time since by a clock that never goes back.

    The wall clocks of the two machines are compared once per status, and only within bounds: a clock that is set by an hour makes no
    status stale, and keeps none fresh.
    """

    observed_at_seconds: float
    """Unix time, by the agent's clock."""
    received_steady_seconds: float
    age_at_receipt_seconds: float


def status_time(observed_at_seconds: float, now_seconds: float, steady_seconds: float, before: StatusTime | None) -> StatusTime:
    """The times of a status received now. It is no older than the time since the one before it was received."""
    age = max(0.0, now_seconds - observed_at_seconds)
    if before is not None:
        age = min(age, max(0.0, steady_seconds - before.received_steady_seconds))
    return StatusTime(observed_at_seconds, steady_seconds, age)


def agent_seconds(status: StatusTime | None, now_seconds: float | None, steady_seconds: float | None) -> float | None:
    """Now, by the clock of the agent that wrote a status (Unix time); by ours where there is none."""
    if status is None or steady_seconds is None:
        return now_seconds
    return status.observed_at_seconds + status.age_at_receipt_seconds + steady_seconds - status.received_steady_seconds


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at one moment. Immutable by convention: only `changes.fold` makes new ones."""

    nodes: Mapping[str, Node] = field(default_factory=lambda: MappingProxyType({}))
    pods: Mapping[str, BoundPod] = field(default_factory=lambda: MappingProxyType({}))
    topologies: Mapping[str, TopologyRecord | str] = field(default_factory=lambda: MappingProxyType({}))
    """By node name; a str says why the object could not be read."""
    by_node: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """Pod keys per node."""
    views: Mapping[str, NodeView] = field(default_factory=lambda: MappingProxyType({}))
    listed: frozenset[str] = frozenset()
    """Kinds that have been listed in full."""
    sizes: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """GPUs per container -> how many containers of the known pods ask for so many, pending ones included."""
    asked: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """The same per pod key, for pods that ask for GPUs."""
    revision: int = 0
    changed: frozenset[str] = frozenset()
    """Nodes whose view the last change made, altered or removed."""
    now_seconds: float | None = None
    """Unix time of the last tick; None where time does not pass, as in a dump."""
    residents: Mapping[str, Resident] = field(default_factory=lambda: MappingProxyType({}))
    """Pods that hold no GPU, by pod key: what the report card speaks of."""
    classes: Mapping[str, WorkloadClass] = field(default_factory=lambda: MappingProxyType({}))
    """Workload classes by name; none: nobody has defined any."""
    telemetry: Mapping[str, NodeTelemetry] = field(default_factory=lambda: MappingProxyType({}))
    """By node name."""
    targets: Mapping[str, Target] = field(default_factory=lambda: MappingProxyType({}))
    """What can be asked for telemetry, by pod key."""
    steady_seconds: float | None = None
    """The same tick on a clock that never goes back: what telemetry's ages are measured by."""

    pending: Mapping[str, Pending] = field(default_factory=lambda: MappingProxyType({}))
    """Pods that ask for GPUs and wait for a node, by key."""
    nominated: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """Node -> keys of the pending pods that preemption has chosen it for."""
    versions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """"kind/key" of what is known -> its resourceVersion, where it has one."""
    buried: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """The same of what was deleted lately, oldest first: a change that comes late must not bring it back."""
    ended: Mapping[str, tuple[EndedPod, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Node -> pods that ended there lately, oldest first, whose devices the agent's status may still show as held."""
    horizons: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Kind -> resourceVersion of its last list."""
    silent: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Kind -> since when nothing is heard of it (steady seconds)."""

    set_aside: Mapping[str, SetAside] = field(default_factory=lambda: MappingProxyType({}))
    """Objects that could not be used, by `SetAside.key`, oldest first."""
    dra: DraState = NO_DRA
    """ResourceSlices, DeviceClasses, ResourceClaims and what else resource.k8s.io has."""
    status_times: Mapping[str, StatusTime] = field(default_factory=lambda: MappingProxyType({}))
    """Node -> when its GpuTopology's status was made and received."""

    def agent_seconds(self, node: str) -> float | None:
        """Now, by the clock of the agent that wrote the node's status (Unix time); by ours where it wrote none."""
        return agent_seconds(self.status_times.get(node), self.now_seconds, self.steady_seconds)

    def age_seconds(self, steady_seconds: float) -> float:
        """How old this state may be: 0 while every kind is being watched."""
        return max((steady_seconds - since for since in self.silent.values()), default=0.0)

    @property
    def missing(self) -> tuple[str, ...]:
        """Kinds that have not been listed yet."""
        return tuple(kind for kind in KINDS if kind not in self.listed)

    @property
    def synced(self) -> bool:
        """Whether every kind has been listed: before that, no answer is honest."""
        return not self.missing
