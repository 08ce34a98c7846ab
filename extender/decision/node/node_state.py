"""The types that describe one node: `NodeState` is what a verdict depends on, `NodeView` adds what belongs to this node alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from extender.decision.dra.dra_node import DraNode
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.devices.device_load import NO_TELEMETRY, DeviceTelemetry
from extender.decision.node.devices.gpu_sharing import Sharing, Slice
from extender.decision.node.devices.pressure import NO_LOAD, LoadByGpu
from extender.decision.node.scrape_targets import NO_TARGETS, TargetRules
from extender.telemetry.conditions import TUNING, Tuning
from topology.devices.prediction import USUAL, Kubelet
from topology.machine.hardware import Machine
from topology.placement.placement_table import PlacementTable


@dataclass(frozen=True, slots=True)
class NodeDefaults:
    """What is assumed of every node that does not state otherwise."""

    kubelet: Kubelet = USUAL
    assume_from_product: bool = True
    """Whether a node without GpuTopology is taken for the known platform of its product and GPU count."""
    most_status_age_seconds: float | None = 300.0
    """Age from which the allocations in an agent's status are ignored; None: never."""
    tuning: Tuning = TUNING
    """How telemetry is smoothed, and from which age it is stale."""
    targets: TargetRules = NO_TARGETS
    """Which pods are scraped."""


NODE_DEFAULTS = NodeDefaults()


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Versions of a node. None = unknown."""

    compute_capability: tuple[int, ...] | None = None
    """The lowest of its GPUs."""
    driver: tuple[int, ...] | None = None
    cuda: tuple[int, ...] | None = None
    """The newest CUDA version that the driver supports."""


NO_FACTS = NodeFacts()


@dataclass(frozen=True, eq=False)
class NodeState:
    """Everything a verdict depends on. Equal nodes share one state object, and so their verdicts. A position is a place in `indices`."""

    allocatable: int
    requested: int
    product: str | None
    gpu_memory_bytes: int | None
    table: PlacementTable | None
    """None: the topology is unknown; `note` states why."""
    indices: tuple[int, ...]
    """nvidia-smi index per position."""
    healthy: int
    """Usable GPUs: those on offer less those that the agent reports as unhealthy."""
    free_sets: tuple[tuple[int, float], ...]
    """(mask of free positions, probability), most probable first; empty where the topology is unknown."""
    note: str
    """The source of the topology, or why there is none."""
    kubelet: Kubelet = USUAL
    """How the node assigns devices."""
    faults: tuple[tuple[int, str, bool], ...] = ()
    """(nvidia-smi index, cause, whether an XID is the cause) of devices that telemetry has fenced."""
    facts: NodeFacts = NO_FACTS
    sharing: Sharing | None = None
    """What one unit of its GPU resource is; None = unknown."""
    physical: int | None = None
    """GPUs in the machine, however many units it offers; None = unknown."""
    slices: tuple[Slice, ...] = ()
    """Shared or divided GPUs that it offers under other resource names."""
    pools: frozenset[str] = frozenset()
    """Names of the workload classes that have the node in one of their pools."""
    device_telemetry: DeviceTelemetry = NO_TELEMETRY
    load_by_gpu: LoadByGpu = NO_LOAD
    """Load per position, independent of the pod."""
    usable: int = 0
    """Mask of positions that are free once every pod has left: neither unhealthy nor fenced."""
    unjudged: str | None = None
    """Why it is not known which devices the GPU resource stands for; the node is not rejected for that. None where it is known."""
    without_telemetry: NodeState | None = None
    """The same state without telemetry, which many nodes share; None where this state has none."""

    @property
    def free_count(self) -> int:
        """GPUs that are free both by the API's count and by the most optimistic free set."""
        counted = max(0, self.allocatable - self.requested)
        return counted if self.table is None else min(counted, max((mask.bit_count() for mask, _ in self.free_sets), default=0))


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node: its name, its pods and its state."""

    name: str
    state: NodeState
    pods: tuple[BoundPod, ...]
    """In the order in which the kubelet admitted them."""
    problem: str | None = None
    """Why its GpuTopology cannot be used; None where it can."""
    known: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Pod key -> masks of the positions that the pod holds, where that is known."""
    disagreements: tuple[str, ...] = ()
    """Where the status of a pod and the status of the agent name different devices."""
    stale_since_seconds: float | None = None
    """Unix time since when the agent's status is too old; None while it is not."""
    machine: Machine | None = None
    """None: the topology is unknown, or the GPUs are shared."""
    fenced: int = 0
    """Mask of positions that telemetry has fenced."""
    fenced_but_offered: int = 0
    """Those of them that the device plugin may still assign."""
    telemetry_problems: tuple[str, ...] = ()
    dra: DraNode | None = None
    """Its devices and who holds them, where Dynamic Resource Allocation serves its GPUs."""
