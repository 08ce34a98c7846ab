"""Changes in, one fold: the only place where cluster state changes.

Folding is idempotent (the same change twice changes nothing) and touches only the nodes a change speaks of; derived
views are recomputed for those alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar, assert_never

from extender.decision.cluster import NODE_DEFAULTS, NodeDefaults, NodeView, Snapshot, node_view, stale_since
from extender.decision.demand import Demand, demand_of
from extender.decision.holdings import BoundPod
from extender.decision.objects import Meta, Node, Pod
from topology.record import TopologyRecord


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node was listed, added or modified."""

    node: Node


@dataclass(frozen=True, slots=True)
class NodeGone:
    """A node was deleted."""

    name: str


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod was listed, added or modified."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class PodGone:
    """A pod was deleted."""

    key: str


@dataclass(frozen=True, slots=True)
class TopologySeen:
    """A GpuTopology was listed, added or modified; a str says why it could not be read."""

    node: str
    record: TopologyRecord | str


@dataclass(frozen=True, slots=True)
class TopologyGone:
    """A GpuTopology was deleted."""

    node: str


@dataclass(frozen=True, slots=True)
class ClockTicked:
    """Time has passed: what was fresh may now be stale."""

    now_seconds: float
    """Unix time."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A kind was listed in full: what is not in `changes` no longer exists."""

    kind: str
    changes: tuple[NodeSeen | PodSeen | TopologySeen, ...]


T = TypeVar("T")

Change = NodeSeen | NodeGone | PodSeen | PodGone | TopologySeen | TopologyGone | ClockTicked | Listed


def fold(snapshot: Snapshot, change: Change, resource: str, defaults: NodeDefaults = NODE_DEFAULTS) -> Snapshot:
    """The snapshot after one change."""
    return fold_all(snapshot, (change,), resource, defaults)


def fold_all(snapshot: Snapshot, changes: Iterable[Change], resource: str, defaults: NodeDefaults = NODE_DEFAULTS) -> Snapshot:
    """The snapshot after some changes, in order; cheaper than one by one, and the same."""
    draft = _Draft(snapshot, resource, defaults)
    for change in changes:
        draft.apply(change)
    return draft.done()


class _Draft:
    """Private copies while a batch is folded; nobody else sees them before `done`."""

    def __init__(self, snapshot: Snapshot, resource: str, defaults: NodeDefaults) -> None:
        self.before, self.resource, self.defaults = snapshot, resource, defaults
        self.sizes, self.asked = dict(snapshot.sizes), dict(snapshot.asked)
        self.nodes, self.pods = dict(snapshot.nodes), dict(snapshot.pods)
        self.topologies, self.by_node = dict(snapshot.topologies), dict(snapshot.by_node)
        self.listed, self.now_seconds = snapshot.listed, snapshot.now_seconds
        self.touched: set[str] = set()

    def apply(self, change: Change) -> None:
        match change:
            case NodeSeen(node):
                self._put(self.nodes, node.metadata.name, node)
            case NodeGone(name):
                self._drop(self.nodes, name)
            case TopologySeen(name, record):
                self._put(self.topologies, name, record)
            case TopologyGone(name):
                self._drop(self.topologies, name)
            case PodSeen(pod):
                demand = _held(pod, self.resource)
                self._ask(pod.key, demand.groups if demand else ())
                self._pod_seen(pod, demand)
            case PodGone(key):
                self._ask(key, ())
                self._unbind(key)
            case ClockTicked(now_seconds):
                self._tick(now_seconds)
            case Listed(kind, changes):
                self._relist(kind, changes)
            case _:
                assert_never(change)

    def _tick(self, now_seconds: float) -> None:
        """Nodes whose status has become stale are looked at anew. A fresh status comes as a change of its own."""
        age = self.defaults.most_status_age_seconds
        for name, record in self.topologies.items():
            before = stale_since(record, self.now_seconds, age) is not None
            if before is not (stale_since(record, now_seconds, age) is not None):
                self.touched.add(name)
        self.now_seconds = now_seconds

    def _put(self, table: dict[str, T], name: str, value: T) -> None:
        if table.get(name) != value:
            table[name] = value
            self.touched.add(name)

    def _drop(self, table: dict[str, T], name: str) -> None:
        if table.pop(name, None) is not None:
            self.touched.add(name)

    def _pod_seen(self, pod: Pod, demand: Demand | None) -> None:
        bound = bound_pod(pod, demand)
        if bound is None:
            self._unbind(pod.key)
        elif self.pods.get(bound.key) != bound:
            self._unbind(bound.key)
            self.pods[bound.key] = bound
            self.by_node[bound.node] = self.by_node.get(bound.node, frozenset()) | {bound.key}
            self.touched.add(bound.node)

    def _ask(self, key: str, groups: tuple[int, ...]) -> None:
        """Keep count of what sizes pods ask for."""
        known = self.asked.get(key, ())
        if known == groups:
            return
        for size in known:
            self.sizes[size] -= 1
            if not self.sizes[size]:
                del self.sizes[size]
        for size in groups:
            self.sizes[size] = self.sizes.get(size, 0) + 1
        if groups:
            self.asked[key] = groups
        else:
            del self.asked[key]

    def _unbind(self, key: str) -> None:
        bound = self.pods.pop(key, None)
        if bound is not None:
            left = self.by_node[bound.node] - {key}
            self.by_node[bound.node] = left
            if not left:
                del self.by_node[bound.node]
            self.touched.add(bound.node)

    def _relist(self, kind: str, changes: tuple[NodeSeen | PodSeen | TopologySeen, ...]) -> None:
        for name in self._absent(kind, changes):
            match kind:
                case "nodes":
                    self._drop(self.nodes, name)
                case "topologies":
                    self._drop(self.topologies, name)
                case _:
                    self._ask(name, ())
                    self._unbind(name)
        for change in changes:
            self.apply(change)
        self.listed = self.listed | {kind}

    def _absent(self, kind: str, changes: tuple[NodeSeen | PodSeen | TopologySeen, ...]) -> list[str]:
        present = {_name(change) for change in changes}
        known = {"nodes": set(self.nodes), "topologies": set(self.topologies), "pods": set(self.pods) | set(self.asked)}[kind]
        return sorted(known - present)

    def done(self) -> Snapshot:
        if not self.touched and self.listed == self.before.listed and self.asked == self.before.asked:
            return self.before if self.now_seconds == self.before.now_seconds else replace(self.before, now_seconds=self.now_seconds)
        views: dict[str, NodeView] = dict(self.before.views)
        for name in self.touched:
            node = self.nodes.get(name)
            if node is None:
                views.pop(name, None)
            else:
                held = tuple(self.pods[key] for key in self.by_node.get(name, ()))
                views[name] = node_view(node, self.topologies.get(name), held, self.resource, self.defaults, self.now_seconds)
        return Snapshot(
            self.nodes, self.pods, self.topologies, self.by_node, views, self.listed, self.sizes, self.asked,
            self.before.revision + 1, self.now_seconds,
        )  # fmt: skip


def _name(change: NodeSeen | PodSeen | TopologySeen) -> str:
    match change:
        case NodeSeen(node):
            return node.metadata.name
        case PodSeen(pod):
            return pod.key
        case TopologySeen(name, _):
            return name
        case _:
            assert_never(change)


def bound_pod(pod: Pod, demand: Demand | None) -> BoundPod | None:
    """The pod as load, of what it asks for: None when it is not bound, has ended, or holds no GPU."""
    ended = pod.status is not None and pod.status.phase in ("Succeeded", "Failed")
    if not pod.spec.node_name or ended or demand is None:
        return None
    meta = pod.metadata
    devices = _devices(pod)
    return BoundPod(
        pod.key, meta.namespace or "default", meta.name, pod.spec.node_name, demand, meta.creation_timestamp or "",
        devices, _seen_seconds(pod) if devices else None,
    )  # fmt: skip


def _devices(pod: Pod) -> tuple[tuple[str, ...], ...]:
    """Device ids per container, init containers' that have ended included no more; of NVIDIA's resources only."""
    status = pod.status
    sidecars = {container.name for container in pod.spec.init_containers or () if container.restart_policy == "Always"}
    running = [entry for entry in (status.init_container_statuses or () if status else ()) if entry.name in sidecars]
    running += (status.container_statuses or []) if status else []
    groups = []
    for container in running:
        held = [resource for resource in container.allocated_resources_status or () if resource.name.startswith("nvidia.com/")]
        groups.append(tuple(device.resource_id for resource in held for device in resource.resources or ()))
    return tuple(group for group in groups if group)


def _seen_seconds(pod: Pod) -> float | None:
    """When the pod's status last moved, by its conditions: the API has no better time for it."""
    times = [condition.last_transition_time for condition in (pod.status.conditions or () if pod.status else ())]
    seconds = [datetime.fromisoformat(time).timestamp() for time in times if time and _TIME.match(time)]
    return max(seconds, default=None)


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


def _held(pod: Pod, resource: str) -> Demand | None:
    """What a pod holds once it is bound: its GPUs, whatever its annotations say; None where it asks for none.

    A request that makes no sense got past the API server some other way: nothing we can count.
    """
    demand = demand_of(Pod(metadata=Meta(name=pod.metadata.name), spec=pod.spec), resource)
    return demand if isinstance(demand, Demand) and demand.total else None
