"""The state while a batch of changes is folded into it: one copy-on-write table per mapping of the snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from extender.decision.dra.dra_state import DraDraft
from extender.decision.node.allocations import BoundPod
from extender.decision.node.ended_pods import EndedPod
from extender.decision.node.gpu_stack import NonGpuPod
from extender.decision.node.node_state import NodeDefaults, NodeView
from extender.decision.node.node_view import Times, stale_since
from extender.decision.node.scrape_targets import Target
from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.workload_classes import WorkloadClass
from extender.decision.state.isolation import MOST_SET_ASIDE, SetAside
from extender.decision.state.pods import Pending
from extender.decision.state.snapshot import Snapshot
from extender.decision.state.status_times import StatusTime, agent_seconds
from extender.telemetry.conditions import NodeTelemetry
from topology.gputopology import TopologyRecord

K = TypeVar("K")
V = TypeVar("V")


class Table(Generic[K, V]):
    """A mapping that is copied before it is written for the first time; the original never changes."""

    __slots__ = ("_copy", "_original")

    def __init__(self, original: Mapping[K, V]) -> None:
        self._original = original
        self._copy: dict[K, V] | None = None

    @property
    def now(self) -> Mapping[K, V]:
        """The current content: the original itself where nothing has been written."""
        return self._original if self._copy is None else self._copy

    @property
    def is_written(self) -> bool:
        """Whether there is a copy."""
        return self._copy is not None

    def writable(self) -> dict[K, V]:
        """Return the copy, which is made on the first call."""
        if self._copy is None:
            self._copy = dict(self._original)
        return self._copy

    def put(self, key: K, value: V | None) -> bool:
        """Set the value of a key, or remove the key where `value` is None. Return whether that changed anything."""
        if self.now.get(key) == value:
            return False
        if value is None:
            del self.writable()[key]
        else:
            self.writable()[key] = value
        return True

    def replace(self, content: Mapping[K, V]) -> None:
        """Replace the whole content."""
        self._copy = dict(content)


class Draft:
    """The tables of a batch, and which nodes must be derived anew. The attributes are those of `Snapshot`."""

    def __init__(self, before: Snapshot, resource: str, defaults: NodeDefaults) -> None:
        self.before, self.resource, self.defaults = before, resource, defaults
        self.nodes: Table[str, Node] = Table(before.nodes)
        self.pods: Table[str, BoundPod] = Table(before.pods)
        self.topologies: Table[str, TopologyRecord | str] = Table(before.topologies)
        self.by_node: Table[str, frozenset[str]] = Table(before.by_node)
        self.sizes: Table[int, int] = Table(before.sizes)
        self.asked: Table[str, tuple[int, ...]] = Table(before.asked)
        self.non_gpu_pods: Table[str, NonGpuPod] = Table(before.non_gpu_pods)
        self.classes: Table[str, WorkloadClass] = Table(before.classes)
        self.telemetry: Table[str, NodeTelemetry] = Table(before.telemetry)
        self.targets: Table[str, Target] = Table(before.targets)
        self.pending: Table[str, Pending] = Table(before.pending)
        self.nominated: Table[str, frozenset[str]] = Table(before.nominated)
        self.versions: Table[str, int] = Table(before.versions)
        self.tombstones: Table[str, int] = Table(before.tombstones)
        self.ended: Table[str, tuple[EndedPod, ...]] = Table(before.ended)
        self.list_versions: Table[str, int] = Table(before.list_versions)
        self.watch_lost_at: Table[str, float] = Table(before.watch_lost_at)
        self.set_aside: Table[str, SetAside] = Table(before.set_aside)
        self.status_times: Table[str, StatusTime] = Table(before.status_times)
        self.dra = DraDraft(before.dra)
        self.listed = before.listed
        self.times = Times(before.now_seconds, before.monotonic_seconds)
        self.touched: set[str] = set()
        """Names of nodes whose view must be derived anew."""
        self.measured: set[str] = set()
        """Names of nodes for which only telemetry is newer."""

    @property
    def is_written(self) -> bool:
        """Whether any table has been written."""
        return self.dra.is_changed or any(isinstance(table, Table) and table.is_written for table in vars(self).values())

    def put_aside(self, entry: SetAside) -> None:
        """Record an object that could not be used; of more than `MOST_SET_ASIDE` the oldest are dropped."""
        if self.set_aside.now.get(entry.key) == entry:
            return
        kept = self.set_aside.writable()
        kept.pop(entry.key, None)
        kept[entry.key] = entry
        while len(kept) > MOST_SET_ASIDE:
            del kept[next(iter(kept))]

    def pods_of(self, node: str) -> tuple[BoundPod, ...]:
        """Return the bound pods of a node that hold GPUs by number, without those that have claims alone."""
        return tuple(pod for pod in self.all_pods_of(node) if pod.demand.total)

    def all_pods_of(self, node: str) -> tuple[BoundPod, ...]:
        """Return the bound pods of a node that hold GPUs or have claims."""
        pods = self.pods.now
        return tuple(pods[key] for key in self.by_node.now.get(node, ()))

    def agent_times(self, node: str, times: Times) -> Times:
        """Return `times` with the Unix time by the clock of the node's agent."""
        status = self.status_times.now.get(node)
        return Times(agent_seconds(status, times.now_seconds, times.monotonic_seconds), times.monotonic_seconds)

    def is_stale(self, node: str, record: TopologyRecord | str, times: Times) -> bool:
        """Whether the status of a node's GpuTopology is too old at `times`."""
        return stale_since(record, self.agent_times(node, times).now_seconds, self.defaults.most_status_age_seconds) is not None

    def snapshot(self, views: Mapping[str, NodeView], changed: frozenset[str]) -> Snapshot:
        """Return the snapshot after the batch. `changed`: names of the nodes whose view in `views` is new, altered or gone."""
        return Snapshot(
            nodes=self.nodes.now,
            pods=self.pods.now,
            topologies=self.topologies.now,
            by_node=self.by_node.now,
            views=views,
            listed=self.listed,
            sizes=self.sizes.now,
            asked=self.asked.now,
            revision=self.before.revision + 1,
            changed=changed,
            now_seconds=self.times.now_seconds,
            non_gpu_pods=self.non_gpu_pods.now,
            classes=self.classes.now,
            telemetry=self.telemetry.now,
            targets=self.targets.now,
            monotonic_seconds=self.times.monotonic_seconds,
            pending=self.pending.now,
            nominated=self.nominated.now,
            versions=self.versions.now,
            tombstones=self.tombstones.now,
            ended=self.ended.now,
            list_versions=self.list_versions.now,
            watch_lost_at=self.watch_lost_at.now,
            set_aside=self.set_aside.now,
            status_times=self.status_times.now,
            dra=self.dra.settled(),
        )


def discard(table: Table[str, frozenset[str]], node: str, key: str) -> None:
    """Remove a key from the set of a node; an empty set is removed too."""
    sets = table.writable()
    remaining = sets[node] - {key}
    sets[node] = remaining
    if not remaining:
        del sets[node]
