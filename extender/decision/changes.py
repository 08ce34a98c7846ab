"""Changes in, one fold: the only place where cluster state changes.

Folding is idempotent (the same change twice changes nothing) and touches only the nodes a change speaks of; derived
views are recomputed for those alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, assert_never

from extender.decision.classes import WorkloadClass
from extender.decision.cluster import NODE_DEFAULTS, NodeDefaults, NodeView, Snapshot, StatusTime, agent_seconds, status_time
from extender.decision.components import resident
from extender.decision.demand import Demand, asks_for_slices
from extender.decision.dra.state import DRA_KINDS, DraDraft, DraObjectGone, DraObjectSeen
from extender.decision.ended import UNSURE_SECONDS, EndedPod, deleted, remembered, reported, still_needed
from extender.decision.events import (
    Change,
    ClassesSeen,
    ClockTicked,
    Heard,
    Listed,
    NodeGone,
    NodeSeen,
    ObjectGone,
    ObjectSeen,
    PodGone,
    PodSeen,
    Silenced,
    TelemetrySeen,
    TopologyGone,
    TopologySeen,
)  # fmt: skip
from extender.decision.holdings import BoundPod, holdings, indices_named
from extender.decision.isolation import MOST_SET_ASIDE, SetAside, described, view_key
from extender.decision.load import Pending, bound_pod, has_ended, held_demand, pending_pod
from extender.decision.objects import Node, Pod
from extender.decision.targets import Target, target_of
from extender.decision.views import Times, as_left, dra_of, node_view, stale_since, with_telemetry
from extender.telemetry.conditions import NodeTelemetry, observe, vacated
from topology.hardware import union_of
from topology.record import TopologyRecord

__all__ = [
    "Change",
    "ClassesSeen",
    "ClockTicked",
    "DraObjectGone",
    "DraObjectSeen",
    "Heard",
    "Listed",
    "NodeGone",
    "NodeSeen",
    "PodGone",
    "PodSeen",
    "SetAside",
    "Silenced",
    "TelemetrySeen",
    "TopologyGone",
    "TopologySeen",
    "fold",
    "fold_all",
]

MOST_BURIED = 4_000
"""Deleted objects remembered: many more than a watch could ever deliver out of order."""


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
        self.dra = DraDraft(snapshot.dra)
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
        """Take over one change. One that raises is set aside: what was known of its object stays, and the changes after it are folded."""
        try:
            self._apply(change)
        except Exception as error:
            kind, name = subject_of(change)
            self._set_aside(SetAside(kind, name, "fold", described(error), node_of(change), getattr(change, "version", None)))
        else:
            if isinstance(change, ObjectSeen | ObjectGone | TelemetrySeen | DraObjectSeen | DraObjectGone):
                kind, name = subject_of(change)
                self._note("set_aside", f"{kind}/{name}", None)

    def _set_aside(self, entry: SetAside) -> None:
        if self._read("set_aside").get(entry.key) == entry:
            return
        kept = self._write("set_aside")
        kept.pop(entry.key, None)
        kept[entry.key] = entry
        while len(kept) > MOST_SET_ASIDE:
            del kept[next(iter(kept))]

    def _apply(self, change: Change) -> None:
        match change:
            case NodeSeen() | PodSeen() | TopologySeen():
                name = f"{_KINDS[type(change)]}/{_name(change)}"
                if self._is_news(name, _KINDS[type(change)], change.version):
                    self._object_seen(change)
                    self._remember(name, change.version, _is_kept(self, change))
            case NodeGone(key, version) | PodGone(key, version) | TopologyGone(key, version):
                name = f"{_KINDS[type(change)]}/{key}"
                if version is None or version >= self._read("versions").get(name, version):
                    self._object_gone(change)
                    self._bury(name, version)
            case DraObjectSeen() | DraObjectGone():
                self.dra.apply(change)
            case SetAside():
                self._object_set_aside(change)
            case ClockTicked(now_seconds, steady_seconds):
                self._tick(now_seconds, now_seconds if steady_seconds is None else steady_seconds)
            case TelemetrySeen(name):
                self._measure(name, change)
            case ClassesSeen(classes):
                self._classify(classes)
            case Listed(kind, changes, version):
                self._relist(kind, changes, version)
                self._note("horizons", kind, version)
            case Silenced() | Heard():
                self._hear(change)
            case _:
                assert_never(change)

    def _object_set_aside(self, entry: SetAside) -> None:
        name = f"{entry.kind}/{entry.name}"
        if self._is_news(name, entry.kind, entry.version):
            self._set_aside(entry)
            self._remember(name, entry.version, name in self._read("versions"))

    def _hear(self, change: Silenced | Heard) -> None:
        since = self._read("silent").get(change.kind, change.since_steady_seconds) if isinstance(change, Silenced) else None
        self._note("silent", change.kind, since)

    def _classify(self, classes: Mapping[str, WorkloadClass]) -> None:
        if classes != self._read("classes"):
            self._copies["classes"] = dict(classes)
            self.touched |= set(self._read("nodes"))

    def _object_seen(self, change: ObjectSeen) -> None:
        match change:
            case NodeSeen(node):
                self._put("nodes", node.metadata.name, node)
            case TopologySeen(name, record):
                self._date_status(name, record)
                self._report(name, record)
                self._put("topologies", name, record)
            case PodSeen(pod):
                # All of it is read before any of it is written: a pod that raises leaves what was known of it.
                demand = held_demand(pod, self.resource)
                target = target_of(pod, demand is not None, self.defaults.targets)
                without_gpu = None if demand is not None or asks_for_slices(pod, self.resource) else resident(pod)
                pending, bound = pending_pod(pod, self.resource, demand), bound_pod(pod, demand, self.resource)
                self._ask(pod.key, demand.groups if demand else ())
                self._aim(pod.key, target)
                self._note("residents", pod.key, without_gpu)
                self._wait(pod.key, pending)
                self._pod_seen(pod, demand, bound)

    def _object_gone(self, change: ObjectGone) -> None:
        match change:
            case NodeGone(name):
                self._drop("nodes", name)
                self._drop("telemetry", name)
                self._note("ended", name, None)
            case TopologyGone(name):
                self._date_status(name, None)
                self._drop("topologies", name)
            case PodGone(key):
                self._ask(key, ())
                self._aim(key, None)
                self._note("residents", key, None)
                self._wait(key, None)
                self._end(key, is_deleted=True)

    def _is_news(self, name: str, kind: str, version: int | None) -> bool:
        """Whether nothing newer is known of the object: neither the object itself, nor that it was deleted since, nor a list without it."""
        if version is None:
            return True
        known: int | None = self._read("versions").get(name)
        if known is not None:
            return known <= version
        horizon: int = max(self._read("buried").get(name, -1), self._read("horizons").get(kind, -1))
        return horizon < version

    def _remember(self, name: str, version: int | None, kept: bool) -> None:
        """Versions only of what is kept: most pods of a cluster have nothing to do with GPUs."""
        if version is not None and (kept or name in self._read("versions")) and self._read("versions").get(name) != version:
            self._write("versions")[name] = version

    def _bury(self, name: str, version: int | None) -> None:
        """Also what was never known: its beginning may be on its way still."""
        known = self._write("versions").pop(name) if name in self._read("versions") else None
        last = known if version is None else version
        if last is None or last <= self._read("buried").get(name, -1):
            return
        buried = self._write("buried")
        buried[name] = last
        if len(buried) > MOST_BURIED:
            del buried[next(iter(buried))]

    def keeps(self, key: str) -> bool:
        """Whether anything is kept of a pod."""
        return any(key in self._read(table) for table in _OF_PODS)

    def _tick(self, now_seconds: float | None, steady_seconds: float | None) -> None:
        """Nodes whose status or telemetry has become stale are looked at anew. What is fresh comes as a change of its own."""
        before = self.times
        steady = max((one for one in (steady_seconds, before.steady_seconds) if one is not None), default=None)
        now = self.times = Times(before.now_seconds if now_seconds is None else now_seconds, steady)
        for name, record in self._read("topologies").items() if now_seconds is not None else ():
            was = self._is_stale(name, record, before)
            self._date_status(name, record)
            if was is not self._is_stale(name, record, now):
                self.touched.add(name)
        for name, ended in self._read("ended").items():
            if any(pod.may_still_hold(before.steady_seconds) and not pod.may_still_hold(steady) for pod in ended):
                self.touched.add(name)
        limit = self.defaults.tuning.max_age_seconds
        for name, telemetry in self._read("telemetry").items():
            if telemetry.ages_between(before.steady_seconds, now.steady_seconds, limit):
                self.measured.add(name)

    def _date_status(self, name: str, record: TopologyRecord | str | None) -> None:
        """Note when a status was received, once per status; nothing where no time passes."""
        observed = record.status.observed_at_seconds if isinstance(record, TopologyRecord) and record.status else None
        known: StatusTime | None = self._read("status_times").get(name)
        now, steady = self.times.now_seconds, self.times.steady_seconds
        if observed is None or now is None or steady is None:
            self._note("status_times", name, None if observed is None else known)
        elif known is None or known.observed_at_seconds != observed:
            self._note("status_times", name, status_time(observed, now, steady, known))

    def _times_of(self, name: str, times: Times) -> Times:
        """The time by the clock of the agent that wrote the node's status."""
        status = self._read("status_times").get(name)
        return Times(agent_seconds(status, times.now_seconds, times.steady_seconds), times.steady_seconds)

    def _is_stale(self, name: str, record: TopologyRecord | str, times: Times) -> bool:
        return stale_since(record, self._times_of(name, times).now_seconds, self.defaults.most_status_age_seconds) is not None

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

    def _pod_seen(self, pod: Pod, demand: Demand | None, bound: BoundPod | None) -> None:
        if bound is None and not has_ended(pod):
            self._vacate(pod.key)
            self._unbind(pod.key)
        elif bound is None:
            self._end(pod.key)
            if demand is not None and pod.spec.node_name:
                self._remember_end(pod.spec.node_name, EndedPod(pod.key, pod.metadata.namespace or "default", pod.metadata.name))
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
        self._leave("by_node", bound.node, key)
        self.touched.add(bound.node)

    def _end(self, key: str, is_deleted: bool = False) -> None:
        """A pod ends: it is deleted, or its phase is Succeeded or Failed."""
        bound = self._read("pods").get(key)
        if bound is None:
            self._no_longer_unsure(key, is_deleted)
            return
        record = self._read("topologies").get(bound.node)
        pod = EndedPod(key, bound.namespace, bound.name)
        if isinstance(record, TopologyRecord):
            held = holdings(
                record,
                self._pods_of(bound.node),
                self._is_stale(bound.node, record, self.times),
                ended=self._read("ended").get(bound.node, ()),
            )
            devices, named = union_of(held.known.get(key, ())), indices_named(record, pod)
            unknown = frozenset(other.key for other in held.predicted if other.key != key and other.key not in held.known)
            if not devices and record.status is None:
                unknown = frozenset()  # where no source names devices, only who is bound counts
            now = self.times.steady_seconds
            until = None if is_deleted or now is None else now + UNSURE_SECONDS
            pod = EndedPod(
                key, bound.namespace, bound.name, devices, named, unknown, bound.demand.steps, bound.turn, unsure_until_seconds=until
            )
        self._vacate(key)
        self._unbind(key)
        self._remember_end(bound.node, pod)

    def _no_longer_unsure(self, key: str, is_deleted: bool) -> None:
        """A pod that has ended before is deleted: the kubelet deletes it after it has freed its devices."""
        for node, ended in self._read("ended").items() if is_deleted else ():
            if any(pod.key == key and pod.unsure_until_seconds is not None for pod in ended):
                self._note("ended", node, deleted(ended, key))
                self.touched.add(node)
                return

    def _remember_end(self, node: str, pod: EndedPod) -> None:
        before = self._read("ended").get(node, ())
        after = remembered(before, pod)
        if after is not before:
            self._write("ended")[node] = after
            self.touched.add(node)

    def _report(self, node: str, record: TopologyRecord | str) -> None:
        """A topology arrives. Only a status that differs is a new report: the agent writes its hardware separately."""
        before, ended = self._read("topologies").get(node), self._read("ended").get(node)
        old, new = (one.status if isinstance(one, TopologyRecord) else None for one in (before, record))
        if ended and old != new:
            self._note("ended", node, reported(ended, new) or None)

    def _forget_ended(self, node: str) -> None:
        """Drop what no prediction on the node depends on any more. Before the topologies are listed it is not known what that is."""
        ended, record = self._read("ended").get(node), self._read("topologies").get(node)
        if not ended or "topologies" not in self.listed:
            return
        known: Mapping[str, tuple[int, ...]] = {}
        if isinstance(record, TopologyRecord):
            known = holdings(record, self._pods_of(node), self._is_stale(node, record, self.times), ended=ended).known
        unknown = (key for key in self._read("by_node").get(node, ()) if key not in known)
        has_status = isinstance(record, TopologyRecord) and record.status is not None
        self._note("ended", node, still_needed(ended, has_status, unknown, self.times.steady_seconds) or None)

    def _all_pods_of(self, node: str) -> tuple[BoundPod, ...]:
        pods = self._read("pods")
        return tuple(pods[key] for key in self._read("by_node").get(node, ()))

    def _pods_of(self, node: str) -> tuple[BoundPod, ...]:
        """Without those that have claims alone."""
        return tuple(pod for pod in self._all_pods_of(node) if pod.demand.total)

    def _vacate(self, key: str) -> None:
        """A pod leaves: what was last seen in the memory of its devices was its own, not a stranger's."""
        bound = self._read("pods").get(key)
        telemetry, view = (self._read("telemetry").get(bound.node), self.before.views.get(bound.node)) if bound else (None, None)
        if bound is not None and telemetry is not None and view is not None:
            self._write("telemetry")[bound.node] = as_left(telemetry, view, {key}, vacated)
            self.measured.add(bound.node)

    def _wait(self, key: str, pending: Pending | None) -> None:
        """A pod waits for a node, or does not any more. No view depends on that: whom to leave room for is asked per pod."""
        before = self._read("pending").get(key)
        was, now = before.nominated if before else None, pending.nominated if pending else None
        if was is not None and was != now:
            self._leave("nominated", was, key)
        if now is not None and was != now:
            nominated = self._write("nominated")
            nominated[now] = nominated.get(now, frozenset()) | {key}
        self._note("pending", key, pending)

    def _leave(self, table: str, node: str, key: str) -> None:
        by_node = self._write(table)
        left = by_node[node] - {key}
        by_node[node] = left
        if not left:
            del by_node[node]

    def _relist_devices(self, kind: str, changes: tuple[ObjectSeen | DraObjectSeen | SetAside, ...], version: int | None) -> None:
        seen = [change for change in changes if isinstance(change, DraObjectSeen)]
        aside = {change.name for change in changes if isinstance(change, SetAside)}
        for entry in [entry for entry in self._read("set_aside").values() if entry.kind == kind and entry.name not in aside]:
            self._note("set_aside", entry.key, None)
        self.dra.relist(kind, seen, is_watched=version is not None)
        for change in changes:
            if isinstance(change, SetAside):
                self._set_aside(change)

    def _relist(self, kind: str, changes: tuple[ObjectSeen | DraObjectSeen | SetAside, ...], version: int | None) -> None:
        if kind in DRA_KINDS:
            self._relist_devices(kind, changes, version)
            return
        self._note("horizons", kind, None)
        for table in ("versions", "buried"):  # a listing is the truth, even of a server that was set back to an older state
            if stale := [name for name in self._read(table) if name.startswith(f"{kind}/")]:
                written = self._write(table)
                for name in stale:
                    del written[name]
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

    def _absent(self, kind: str, changes: tuple[ObjectSeen | DraObjectSeen | SetAside, ...]) -> list[str]:
        present = {subject_of(change)[1] for change in changes}
        tables = _OF_PODS if kind == "pods" else (kind,)
        known = {name for table in tables for name in self._read(table)}
        known |= {entry.name for entry in self._read("set_aside").values() if entry.kind == kind and entry.stage != "derive"}
        return sorted(known - present)

    def done(self) -> Snapshot:
        before = self.before
        self._take_over_devices()
        now: dict[str, Any] = {"now_seconds": self.times.now_seconds, "steady_seconds": self.times.steady_seconds}
        if not self.touched and not self._copies and not self.measured and self.listed == before.listed:
            return before if self.times == Times(before.now_seconds, before.steady_seconds) else replace(before, **now)
        changed: dict[str, NodeView | None] = {}
        for name in self.measured - self.touched:
            old = before.views.get(name)
            new = self._with_telemetry(name, old) if old else None
            if new is None:
                self.touched.add(name)
            elif new is not old:
                changed[name] = new
        for name in self.touched:
            self._forget_ended(name)
            node = self._read("nodes").get(name)
            changed[name] = self._derived(name, node) if node is not None else None
            if node is None:
                self._note("set_aside", view_key(name), None)
        if changed:
            views: dict[str, NodeView] = dict(before.views)
            for name, view in changed.items():
                if view is None:
                    views.pop(name, None)
                else:
                    views[name] = view
            now["views"] = views
        return replace(before, **self._copies, listed=self.listed, revision=before.revision + 1, changed=frozenset(changed), **now)

    def _take_over_devices(self) -> None:
        """The objects of resource.k8s.io that changed; the nodes that they are about are derived anew."""
        self._dra = self.dra.done()
        if self._dra is not self.before.dra:
            self._copies["dra"] = self._dra
            self.touched |= self.dra.touched

    def _with_telemetry(self, name: str, old: NodeView) -> NodeView | None:
        """The old view with newer telemetry; None where the view must be derived anew."""
        try:
            return with_telemetry(old, self._read("telemetry").get(name), self.times, self.defaults)
        except Exception:  # `_derived` meets the same and sets it aside
            return None

    def _derived(self, name: str, node: Node) -> NodeView | None:
        """A node's view. Where deriving it raises: by counts and labels, as where no topology is known; None where that raises too."""
        try:
            view = self._view(node)
        except Exception as error:
            why = described(error)
            self._set_aside(SetAside("nodes", name, "derive", why, name))
            try:
                return self._view_by_counts(node, f"it could not be evaluated ({why})")
            except Exception:
                return None
        self._note("set_aside", view_key(name), None)
        return view

    def _view_by_counts(self, node: Node, problem: str) -> NodeView:
        return node_view(
            node, problem, self._pods_of(node.metadata.name), self.resource, self.defaults, self._times_of(node.metadata.name, self.times)
        )

    def _ended_on(self, node: str) -> frozenset[str]:
        """Uids of pods that hold claims on the node and are deleted, or end now."""
        if not self._dra.slices_of.get(node):
            return frozenset()
        buried, pods = self._read("buried"), self._read("pods")
        uids = {pod[0] for held in self._dra.held_on(node) for pod in held.pods}
        return frozenset(uid for uid in uids if f"pods/{uid}" in buried or (uid in pods and pods[uid].terminating))

    def _view(self, node: Node) -> NodeView:
        name = node.metadata.name
        record, telemetry = self._read("topologies").get(name), self._read("telemetry").get(name)
        dra = dra_of(self._dra, node, record, self.resource, (), self._ended_on(name))
        return node_view(
            node,
            record,
            self._pods_of(name) if dra is None else self._all_pods_of(name),
            self.resource,
            self.defaults,
            self._times_of(name, self.times),
            telemetry,
            self._read("classes"),
            self._read("ended").get(name, ()),
            dra,
        )


_KINDS: dict[type, str] = {
    NodeSeen: "nodes", NodeGone: "nodes", PodSeen: "pods", PodGone: "pods", TopologySeen: "topologies", TopologyGone: "topologies",
}  # fmt: skip
_OF_PODS = ("pods", "asked", "targets", "residents", "pending")
"""Tables by pod key."""


def _is_kept(draft: _Draft, change: ObjectSeen) -> bool:
    return not isinstance(change, PodSeen) or draft.keeps(change.pod.key)


def subject_of(change: Change) -> tuple[str, str]:
    """(kind, name) of the object that a change speaks of; the name is `*` where it speaks of more than one."""
    match change:
        case NodeSeen() | PodSeen() | TopologySeen():
            return _KINDS[type(change)], _name(change)
        case NodeGone(name) | TopologyGone(name) | PodGone(name):
            return _KINDS[type(change)], name
        case TelemetrySeen(name):
            return "telemetry", name
        case DraObjectSeen(kind, key) | DraObjectGone(kind, key):
            return kind, key
        case SetAside(kind, name):
            return kind, name
        case Listed(kind) | Silenced(kind) | Heard(kind):
            return kind, "*"
        case ClassesSeen():
            return "classes", "*"
        case ClockTicked():
            return "clock", "*"
        case _:
            assert_never(change)


def node_of(change: Change) -> str | None:
    """The node that a change concerns, where it names one."""
    match change:
        case NodeSeen() | TopologySeen():
            return _name(change)
        case PodSeen(pod):
            return pod.spec.node_name
        case TelemetrySeen(name):
            return name
        case _:
            return None


def _name(change: ObjectSeen) -> str:
    match change:
        case NodeSeen(node):
            return node.metadata.name
        case PodSeen(pod):
            return pod.key
        case TopologySeen(name, _):
            return name
        case _:
            assert_never(change)
