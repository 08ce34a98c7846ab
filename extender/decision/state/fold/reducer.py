"""Changes in, one fold: the only place where the state of the cluster changes.

Folding is idempotent: the same change twice changes nothing. Only the views of the nodes that a change concerns are derived anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from extender.decision.dra.dra_state import DRA_KINDS, DraObjectGone, DraObjectSeen
from extender.decision.node.node_state import NODE_DEFAULTS, NodeDefaults
from extender.decision.state.changes import (
    Change,
    ClassesSeen,
    ClockTicked,
    DraObjectChange,
    Listed,
    NodeGone,
    NodeSeen,
    ObjectGone,
    ObjectSeen,
    PodGone,
    PodSeen,
    TelemetrySeen,
    TopologyGone,
    TopologySeen,
    WatchLost,
    WatchRestored,
    node_of,
    subject_of,
)
from extender.decision.state.fold.device_changes import dra_kind_listed, dra_object_changed
from extender.decision.state.fold.draft import Draft
from extender.decision.state.fold.node_changes import (
    classes_seen,
    clock_ticked,
    node_gone,
    node_seen,
    telemetry_seen,
    topology_gone,
    topology_seen,
)
from extender.decision.state.fold.pod_changes import is_known_pod, known_pods, pod_gone, pod_seen
from extender.decision.state.fold.versions import forget_versions, is_deletion_news, is_news, keep_tombstone, remember_version
from extender.decision.state.fold.view_derivation import derived_snapshot
from extender.decision.state.isolation import SetAside, described
from extender.decision.state.snapshot import Snapshot


def fold(snapshot: Snapshot, change: Change, resource: str, defaults: NodeDefaults = NODE_DEFAULTS) -> Snapshot:
    """Return the snapshot after one change; `resource` is the one that counts GPUs."""
    return fold_all(snapshot, (change,), resource, defaults)


def fold_all(snapshot: Snapshot, changes: Iterable[Change], resource: str, defaults: NodeDefaults = NODE_DEFAULTS) -> Snapshot:
    """Return the snapshot after some changes, in order: the same as after one by one, but cheaper.

    A change that raises is set aside: what was known of its object stays, and the changes after it are folded.
    """
    draft = Draft(snapshot, resource, defaults)
    for change in changes:
        _apply_or_set_aside(draft, change)
    return derived_snapshot(draft)


def derived_anew(snapshot: Snapshot, resource: str, defaults: NodeDefaults) -> Snapshot:
    """Return the snapshot with the view of every node derived with other defaults."""
    draft = Draft(snapshot, resource, defaults)
    draft.touched |= set(draft.nodes.now)
    return derived_snapshot(draft)


def _apply_or_set_aside(draft: Draft, change: Change) -> None:
    try:
        _apply(draft, change)
    except Exception as error:
        kind, key = subject_of(change)
        draft.put_aside(SetAside(kind, key, "fold", described(error), node_of(change), getattr(change, "version", None)))
    else:
        if isinstance(change, ObjectSeen | ObjectGone | DraObjectChange | TelemetrySeen):
            kind, key = subject_of(change)
            draft.set_aside.put(f"{kind}/{key}", None)


def _apply(draft: Draft, change: Change) -> None:
    match change:
        case NodeSeen() | PodSeen() | TopologySeen():
            kind, key = subject_of(change)
            if is_news(draft, kind, key, change.version):
                _object_seen(draft, change)
                is_kept = not isinstance(change, PodSeen) or is_known_pod(draft, key)
                remember_version(draft, kind, key, change.version, is_kept)
        case NodeGone() | PodGone() | TopologyGone():
            kind, key = subject_of(change)
            if is_deletion_news(draft, kind, key, change.version):
                _object_gone(draft, change)
                keep_tombstone(draft, kind, key, change.version)
        case DraObjectSeen() | DraObjectGone():
            dra_object_changed(draft, change)
        case SetAside():
            _set_aside(draft, change)
        case ClockTicked(now_seconds, monotonic_seconds):
            clock_ticked(draft, now_seconds, now_seconds if monotonic_seconds is None else monotonic_seconds)
        case TelemetrySeen():
            telemetry_seen(draft, change)
        case ClassesSeen(classes):
            classes_seen(draft, classes)
        case Listed(kind, changes, version):
            _relist(draft, kind, changes, version)
            draft.list_versions.put(kind, version)
        case WatchLost() | WatchRestored():
            _watch_changed(draft, change)
        case _:
            assert_never(change)


def _set_aside(draft: Draft, entry: SetAside) -> None:
    if is_news(draft, entry.kind, entry.name, entry.version):
        draft.put_aside(entry)
        remember_version(draft, entry.kind, entry.name, entry.version, is_kept=False)


def _watch_changed(draft: Draft, change: WatchLost | WatchRestored) -> None:
    """Record since when a kind is not watched: the first loss counts until the watch is restored."""
    since = draft.watch_lost_at.now.get(change.kind, change.since_monotonic_seconds) if isinstance(change, WatchLost) else None
    draft.watch_lost_at.put(change.kind, since)


def _object_seen(draft: Draft, change: ObjectSeen) -> None:
    match change:
        case NodeSeen(node):
            node_seen(draft, node)
        case TopologySeen(name, record):
            topology_seen(draft, name, record)
        case PodSeen(pod):
            pod_seen(draft, pod)


def _object_gone(draft: Draft, change: ObjectGone) -> None:
    match change:
        case NodeGone(name):
            node_gone(draft, name)
        case TopologyGone(name):
            topology_gone(draft, name)
        case PodGone(key):
            pod_gone(draft, key)


def _relist(draft: Draft, kind: str, changes: tuple[ObjectSeen | DraObjectSeen | SetAside, ...], version: int | None) -> None:
    """Take over the list of a kind: objects that are not in it are gone."""
    if kind in DRA_KINDS:
        dra_kind_listed(draft, kind, changes, version)
        return
    forget_versions(draft, kind)
    for key in _absent(draft, kind, changes):
        match kind:
            case "nodes":
                _apply_or_set_aside(draft, NodeGone(key))
            case "topologies":
                _apply_or_set_aside(draft, TopologyGone(key))
            case _:
                _apply_or_set_aside(draft, PodGone(key))
    for change in changes:
        _apply_or_set_aside(draft, change)
    draft.listed = draft.listed | {kind}


def _absent(draft: Draft, kind: str, changes: tuple[ObjectSeen | DraObjectSeen | SetAside, ...]) -> list[str]:
    """Return the keys of known objects of a kind that are not in its list."""
    known: set[str]
    match kind:
        case "nodes":
            known = set(draft.nodes.now)
        case "topologies":
            known = set(draft.topologies.now)
        case _:
            known = known_pods(draft)
    known |= {entry.name for entry in draft.set_aside.now.values() if entry.kind == kind and entry.stage != "derive"}
    return sorted(known - {subject_of(change)[1] for change in changes})
