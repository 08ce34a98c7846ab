"""The snapshot: everything that is known of the cluster at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from immutables import Map

from extender.decision.dra.dra_state import NO_DRA, DraState
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.allocation.ended_pods import EndedPod
from extender.decision.node.gpu_stack import NonGpuPod
from extender.decision.node.node_state import NodeView
from extender.decision.node.scrape_targets import Target
from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.workload_classes import WorkloadClass
from extender.decision.state.isolation import SetAside
from extender.decision.state.pods import Pending
from extender.decision.state.status_times import StatusTime, agent_seconds
from extender.telemetry.conditions import NodeTelemetry
from topology.gputopology.topology_record import TopologyRecord

MOST_RECENT = 256
"""Batches of which the changed nodes are known: more than arrive between two scheduling cycles."""

KINDS = ("nodes", "pods", "topologies")
"""The kinds of objects that the state is built from, as `Listed.kind` names them."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The deletion of an object."""

    version: int
    """The last resourceVersion of the object."""
    number: int
    """Its place in the order of deletions."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at one moment. Immutable by convention: only `fold.reducer.fold_all` makes new ones.

    The large mappings are persistent maps (`immutables.Map`) without order: see `decision.tables`. A reader that needs an order sorts.
    A pod key is `Pod.key`. Mappings without a word on their key are by node name.
    """

    nodes: Mapping[str, Node] = field(default_factory=Map)
    pods: Mapping[str, BoundPod] = field(default_factory=Map)
    """Bound pods that hold GPUs or have claims, by pod key."""
    topologies: Mapping[str, TopologyRecord | str] = field(default_factory=Map)
    """A str states why the object could not be read."""
    by_node: Mapping[str, frozenset[str]] = field(default_factory=Map)
    """Keys of the node's pods in `pods`."""
    views: Mapping[str, NodeView] = field(default_factory=Map)
    listed: frozenset[str] = frozenset()
    """Kinds that have been listed in full."""
    sizes: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """GPUs per container -> number of containers of known pods, pending ones included, that request that many."""
    asked: Mapping[str, tuple[int, ...]] = field(default_factory=Map)
    """GPUs per container of each pod that requests any, by pod key."""
    revision: int = 0
    """Grows by one with every batch of changes that alters the state."""
    writes: int = 0
    """Objects, and views of nodes, that all batches of changes have written: what lies between two snapshots keeps memory in proportion."""
    changed: frozenset[str] = frozenset()
    """Nodes whose view the last batch of changes created, altered or removed."""
    recently_changed: tuple[tuple[int, frozenset[str]], ...] = ()
    """(revision, `changed` of that revision) of the last batches that changed views, oldest first; see `changed_since`."""
    changed_pods: frozenset[str] = frozenset()
    """Keys of the pods whose entry in `pods` or `pending` the last batch of changes created, altered or removed."""
    now_seconds: float | None = None
    """Unix time of the last tick; None where time does not pass, as in a dump."""
    non_gpu_pods: Mapping[str, NonGpuPod] = field(default_factory=Map)
    """Bound pods that hold no GPU and that a node check reads, by pod key; see `gpu_stack.non_gpu_pod`."""
    classes: Mapping[str, WorkloadClass] = field(default_factory=lambda: MappingProxyType({}))
    """Workload classes by name; empty where none are defined."""
    telemetry: Mapping[str, NodeTelemetry] = field(default_factory=Map)
    targets: Mapping[str, Target] = field(default_factory=Map)
    """What can be scraped for telemetry, by pod key."""
    monotonic_seconds: float | None = None
    """Time of the last tick on a clock that never goes back: the ages of telemetry and statuses are measured by it."""

    pending: Mapping[str, Pending] = field(default_factory=Map)
    """Pods that request GPUs or have claims and are not bound, by pod key."""
    nominated: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    """Keys of the pending pods for which preemption has nominated the node."""
    versions: Mapping[str, Map[str, int]] = field(default_factory=lambda: MappingProxyType({}))
    """Kind -> key of a known object -> its resourceVersion, where it has one."""
    tombstones: Mapping[str, Tombstone] = field(default_factory=Map)
    """"kind/key" of an object that was deleted lately: a change that arrives late must not restore the object."""
    tombstone_order: Mapping[int, str] = field(default_factory=Map)
    """`Tombstone.number` -> "kind/key"; of some of them there is no tombstone any more."""
    deletions: int = 0
    """Number of the next tombstone."""
    ended: Mapping[str, tuple[EndedPod, ...]] = field(default_factory=Map)
    """Pods that ended on the node lately, oldest first, whose devices the agent's status may still show as allocated."""
    unsure: Mapping[str, str] = field(default_factory=Map)
    """Key of an ended pod in `ended` -> its node, for those whose `unsure_until_seconds` ends when they are deleted."""
    list_versions: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Kind -> resourceVersion of its last list."""
    watch_lost_at: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Kind -> monotonic time since when its watch is lost."""

    set_aside: Mapping[str, SetAside] = field(default_factory=lambda: MappingProxyType({}))
    """Objects that could not be used, by `SetAside.key`, oldest first."""
    dra: DraState = NO_DRA
    """The objects of resource.k8s.io: ResourceSlices, DeviceClasses, ResourceClaims, their templates, DeviceTaintRules."""
    status_times: Mapping[str, StatusTime] = field(default_factory=Map)
    """When the status of the node's GpuTopology was made and received."""

    def agent_seconds(self, node: str) -> float | None:
        """Return the Unix time by the clock of the node's agent; by the local clock where the agent wrote no status."""
        return agent_seconds(self.status_times.get(node), self.now_seconds, self.monotonic_seconds)

    def age_seconds(self, monotonic_seconds: float) -> float:
        """Return how old this state may be: 0 while every kind is watched."""
        return max((monotonic_seconds - since for since in self.watch_lost_at.values()), default=0.0)

    def changed_since(self, revision: int) -> set[str] | None:
        """Return the names of the nodes whose views differ from those of an earlier revision, and maybe more; None where not known."""
        recent = self.recently_changed
        if revision > self.revision or not recent or revision < recent[0][0] - 1:
            return None
        return {name for of, names in reversed(recent) if of > revision for name in names}

    @property
    def missing(self) -> tuple[str, ...]:
        """Kinds that have not been listed yet."""
        return tuple(kind for kind in KINDS if kind not in self.listed)

    @property
    def synced(self) -> bool:
        """Whether every kind has been listed. Before that a verdict may be wrong."""
        return not self.missing
