"""Changes in, one fold: the only place where cluster state changes.

Folding is idempotent (the same change twice changes nothing) and touches only the nodes a change speaks of; derived
views are recomputed for those alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, assert_never

from extender.decision.classes import WorkloadClass
from extender.decision.cluster import NODE_DEFAULTS, NodeDefaults, NodeView, Snapshot
from extender.decision.components import resident
from extender.decision.demand import Demand, asks_for_slices, demand_of
from extender.decision.holdings import BoundPod
from extender.decision.objects import Meta, Node, Pod
from extender.decision.targets import Target, target_of
from extender.decision.views import Times, node_view, stale_since, with_telemetry
from extender.telemetry.conditions import NodeTelemetry, observe
from extender.telemetry.readings import DeviceReading, EngineReading
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
    changes: tuple[NodeSeen | PodSeen | TopologySeen, ...]


Change = NodeSeen | NodeGone | PodSeen | PodGone | TopologySeen | TopologyGone | ClockTicked | TelemetrySeen | ClassesSeen | Listed


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
    """Private copies of what a batch writes to; nobody else sees them before `done`."""

    def __init__(self, snapshot: Snapshot, resource: str, defaults: NodeDefaults) -> None:
        self.before, self.resource, self.defaults = snapshot, resource, defaults
        self._copies: dict[str, Any] = {}
        self.listed = snapshot.listed
        self.times = Times(snapshot.now_seconds, snapshot.steady_seconds)
        self.touched: set[str] = set()
        """Nodes to be derived anew."""
        self.measured: set[str] = set()
        """Nodes of which there is newer telemetry only."""

    def _read(self, table: str) -> Mapping[Any, Any]:
        found: Mapping[Any, Any] = self._copies[table] if table in self._copies else getattr(self.before, table)
        return found

    def _write(self, table: str) -> dict[Any, Any]:
        if table not in self._copies:
            self._copies[table] = dict(getattr(self.before, table))
        written: dict[Any, Any] = self._copies[table]
        return written

    def apply(self, change: Change) -> None:
        match change:
            case NodeSeen(node):
                self._put("nodes", node.metadata.name, node)
            case NodeGone(name):
                self._drop("nodes", name)
                self._drop("telemetry", name)
            case TopologySeen(name, record):
                self._put("topologies", name, record)
            case TopologyGone(name):
                self._drop("topologies", name)
            case PodSeen(pod):
                demand = _held(pod, self.resource)
                self._ask(pod.key, demand.groups if demand else ())
                self._aim(pod.key, target_of(pod, demand is not None, self.defaults.targets))
                self._note("residents", pod.key, None if demand is not None or asks_for_slices(pod, self.resource) else resident(pod))
                self._pod_seen(pod, demand)
            case PodGone(key):
                self._ask(key, ())
                self._aim(key, None)
                self._note("residents", key, None)
                self._unbind(key)
            case ClockTicked(now_seconds, steady_seconds):
                self._tick(now_seconds, now_seconds if steady_seconds is None else steady_seconds)
            case TelemetrySeen(name):
                self._measure(name, change)
            case ClassesSeen(classes):
                if classes != self._read("classes"):
                    self._copies["classes"] = dict(classes)
                    self.touched |= set(self._read("nodes"))
            case Listed(kind, changes):
                self._relist(kind, changes)
            case _:
                assert_never(change)

    def _tick(self, now_seconds: float | None, steady_seconds: float | None) -> None:
        """Nodes whose status or telemetry has become stale are looked at anew. What is fresh comes as a change of its own."""
        before = self.times
        steady = max((one for one in (steady_seconds, before.steady_seconds) if one is not None), default=None)
        now = self.times = Times(before.now_seconds if now_seconds is None else now_seconds, steady)
        age = self.defaults.most_status_age_seconds
        for name, record in self._read("topologies").items() if now_seconds is not None else ():
            was = stale_since(record, before.now_seconds, age) is not None
            if was is not (stale_since(record, now_seconds, age) is not None):
                self.touched.add(name)
        limit = self.defaults.tuning.max_age_seconds
        for name, telemetry in self._read("telemetry").items():
            if telemetry.ages_between(before.steady_seconds, now.steady_seconds, limit):
                self.measured.add(name)

    def _measure(self, name: str, change: TelemetrySeen) -> None:
        """Telemetry of a node nobody knows is of no use. Only a tick moves the time, for it looks at all nodes that age by it."""
        if name not in self._read("nodes"):
            return
        before = self._read("telemetry").get(name) or NodeTelemetry()
        told = (change.source, change.problems)
        after = observe(before, change.devices, change.engines, told, change.steady_seconds, self.defaults.tuning)
        if after != before:
            self._write("telemetry")[name] = after
            self.measured.add(name)

    def _put(self, table: str, name: str, value: object) -> None:
        if self._read(table).get(name) != value:
            self._write(table)[name] = value
            self.touched.add(name)

    def _drop(self, table: str, name: str) -> None:
        if name in self._read(table):
            del self._write(table)[name]
            self.touched.add(name)

    def _pod_seen(self, pod: Pod, demand: Demand | None) -> None:
        bound = bound_pod(pod, demand)
        if bound is None:
            self._unbind(pod.key)
        elif self._read("pods").get(bound.key) != bound:
            self._unbind(bound.key)
            self._write("pods")[bound.key] = bound
            by_node = self._write("by_node")
            by_node[bound.node] = by_node.get(bound.node, frozenset()) | {bound.key}
            self.touched.add(bound.node)

    def _ask(self, key: str, groups: tuple[int, ...]) -> None:
        """Keep count of what sizes pods ask for."""
        known = self._read("asked").get(key, ())
        if known == groups:
            return
        sizes, asked = self._write("sizes"), self._write("asked")
        for size in known:
            sizes[size] -= 1
            if not sizes[size]:
                del sizes[size]
        for size in groups:
            sizes[size] = sizes.get(size, 0) + 1
        if groups:
            asked[key] = groups
        else:
            del asked[key]

    def _aim(self, key: str, target: Target | None) -> None:
        self._note("targets", key, target)

    def _note(self, table: str, key: str, value: object) -> None:
        """Keep what no view depends on; None forgets it."""
        if self._read(table).get(key) == value:
            return
        if value is None:
            del self._write(table)[key]
        else:
            self._write(table)[key] = value

    def _unbind(self, key: str) -> None:
        if key not in self._read("pods"):
            return
        bound = self._write("pods").pop(key)
        by_node = self._write("by_node")
        left = by_node[bound.node] - {key}
        by_node[bound.node] = left
        if not left:
            del by_node[bound.node]
        self.touched.add(bound.node)

    def _relist(self, kind: str, changes: tuple[NodeSeen | PodSeen | TopologySeen, ...]) -> None:
        for name in self._absent(kind, changes):
            match kind:
                case "nodes":
                    self.apply(NodeGone(name))
                case "topologies":
                    self.apply(TopologyGone(name))
                case _:
                    self.apply(PodGone(name))
        for change in changes:
            self.apply(change)
        self.listed = self.listed | {kind}

    def _absent(self, kind: str, changes: tuple[NodeSeen | PodSeen | TopologySeen, ...]) -> list[str]:
        present = {_name(change) for change in changes}
        tables = ("pods", "asked", "targets", "residents") if kind == "pods" else (kind,)
        known = {name for table in tables for name in self._read(table)}
        return sorted(known - present)

    def done(self) -> Snapshot:
        before = self.before
        now: dict[str, Any] = {"now_seconds": self.times.now_seconds, "steady_seconds": self.times.steady_seconds}
        if not self.touched and not self._copies and not self.measured and self.listed == before.listed:
            return before if self.times == Times(before.now_seconds, before.steady_seconds) else replace(before, **now)
        changed: dict[str, NodeView | None] = {}
        for name in self.measured - self.touched:
            old = before.views.get(name)
            new = with_telemetry(old, self._read("telemetry").get(name), self.times, self.defaults) if old else None
            if new is None:
                self.touched.add(name)
            elif new is not old:
                changed[name] = new
        for name in self.touched:
            node = self._read("nodes").get(name)
            changed[name] = self._view(node) if node is not None else None
        if changed:
            views: dict[str, NodeView] = dict(before.views)
            for name, view in changed.items():
                if view is None:
                    views.pop(name, None)
                else:
                    views[name] = view
            now["views"] = views
        return replace(before, **self._copies, listed=self.listed, revision=before.revision + 1, changed=frozenset(changed), **now)

    def _view(self, node: Node) -> NodeView:
        name, pods = node.metadata.name, self._read("pods")
        held = tuple(pods[key] for key in self._read("by_node").get(name, ()))
        telemetry = self._read("telemetry").get(name)
        return node_view(
            node, self._read("topologies").get(name), held, self.resource, self.defaults, self.times, telemetry, self._read("classes")
        )


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
