"""The state while a batch of changes is folded into it: one table per mapping of the snapshot."""

from __future__ import annotations

from collections.abc import Mapping

from immutables import Map

from extender.decision.dra.dra_state import DraDraft
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.allocation.ended_pods import EndedPod
from extender.decision.node.gpu_stack import NonGpuPod
from extender.decision.node.node_sources import Times, stale_since
from extender.decision.node.node_state import NodeDefaults, NodeView
from extender.decision.node.scrape_targets import Target
from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.workload_classes import WorkloadClass
from extender.decision.state.isolation import MOST_SET_ASIDE, SetAside
from extender.decision.state.pods import Pending
from extender.decision.state.snapshot import MOST_RECENT, Snapshot, Tombstone
from extender.decision.state.status_times import StatusTime, agent_seconds
from extender.decision.tables import SmallTable, Table
from extender.telemetry.conditions import NodeTelemetry
from topology.gputopology.topology_record import TopologyRecord


class Draft:
    """The tables of a batch, and which nodes must be derived anew. The attributes are those of `Snapshot`."""

    def __init__(self, before: Snapshot, resource: str, defaults: NodeDefaults) -> None:
        self.before, self.resource, self.defaults = before, resource, defaults
        self.nodes: Table[str, Node] = Table(before.nodes)
        self.pods: Table[str, BoundPod] = Table(before.pods)
        self.topologies: Table[str, TopologyRecord | str] = Table(before.topologies)
        self.by_node: Table[str, frozenset[str]] = Table(before.by_node)
        self.sizes: SmallTable[int, int] = SmallTable(before.sizes)
        self.asked: Table[str, tuple[int, ...]] = Table(before.asked)
        self.non_gpu_pods: Table[str, NonGpuPod] = Table(before.non_gpu_pods)
        self.classes: SmallTable[str, WorkloadClass] = SmallTable(before.classes)
        self.telemetry: Table[str, NodeTelemetry] = Table(before.telemetry)
        self.targets: Table[str, Target] = Table(before.targets)
        self.pending: Table[str, Pending] = Table(before.pending)
        self.nominated: SmallTable[str, frozenset[str]] = SmallTable(before.nominated)
        self.versions: SmallTable[str, Map[str, int]] = SmallTable(before.versions)
        self.tombstones: Table[str, Tombstone] = Table(before.tombstones)
        self.tombstone_order: Table[int, str] = Table(before.tombstone_order)
        self.deletions = before.deletions
        self.ended: Table[str, tuple[EndedPod, ...]] = Table(before.ended)
        self.unsure: Table[str, str] = Table(before.unsure)
        self.list_versions: SmallTable[str, int] = SmallTable(before.list_versions)
        self.watch_lost_at: SmallTable[str, float] = SmallTable(before.watch_lost_at)
        self.set_aside: SmallTable[str, SetAside] = SmallTable(before.set_aside)
        self.status_times: Table[str, StatusTime] = Table(before.status_times)
        self.dra = DraDraft(before.dra)
        self.listed = before.listed
        self.times = Times(before.now_seconds, before.monotonic_seconds)
        self.touched: set[str] = set()
        """Names of nodes whose view must be derived anew."""
        self.measured: set[str] = set()
        """Names of nodes for which only telemetry is newer."""
        self.moved_pods: set[str] = set()
        """Keys of the pods whose entry in `pods` or `pending` has changed."""

    @property
    def is_written(self) -> bool:
        """Whether any table has been written."""
        return self.dra.is_changed or any(isinstance(table, Table | SmallTable) and table.is_written for table in vars(self).values())

    def put_aside(self, entry: SetAside) -> None:
        """Record an object that could not be used; of more than `MOST_SET_ASIDE` the oldest are dropped."""
        if self.set_aside.now.get(entry.key) == entry:
            return
        kept = self.set_aside.writable()
        kept.pop(entry.key, None)
        kept[entry.key] = entry
        while len(kept) > MOST_SET_ASIDE:
            del kept[next(iter(kept))]

    def put_ended(self, node: str, ended: tuple[EndedPod, ...]) -> None:
        """Replace the ended pods of a node, and keep `unsure` in accordance with them."""
        for pod in self.ended.now.get(node, ()):
            if pod.unsure_until_seconds is not None and self.unsure.now.get(pod.key) == node:
                self.unsure.pop(pod.key)
        for pod in ended:
            if pod.unsure_until_seconds is not None:
                self.unsure.put(pod.key, node)
        self.ended.put(node, ended or None)

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
            writes=self.before.writes + len(self.touched) + len(self.measured) + len(self.moved_pods),
            changed=changed,
            recently_changed=recently_changed(self.before, changed),
            changed_pods=frozenset(self.moved_pods),
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
            tombstone_order=self.tombstone_order.now,
            deletions=self.deletions,
            ended=self.ended.now,
            unsure=self.unsure.now,
            list_versions=self.list_versions.now,
            watch_lost_at=self.watch_lost_at.now,
            set_aside=self.set_aside.now,
            status_times=self.status_times.now,
            dra=self.dra.settled(),
        )


def recently_changed(before: Snapshot, changed: frozenset[str]) -> tuple[tuple[int, frozenset[str]], ...]:
    """Return `Snapshot.recently_changed` after one more batch."""
    if not changed:
        return before.recently_changed
    return (*before.recently_changed[1 - MOST_RECENT :], (before.revision + 1, changed))
