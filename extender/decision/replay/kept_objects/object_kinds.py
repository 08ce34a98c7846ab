"""OBJECT_KINDS: how each kind of object of a snapshot is found, written without what no decision reads, read, and put back into a draft."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from extender.decision.dra.dra_state import DraObjectGone, DraObjectSeen
from extender.decision.dra.resource_objects import PLURALS, TYPES
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.allocation.ended_pods import EndedPod
from extender.decision.replay.kept_objects.kept_dra_objects import dra_key, kept_dra_object
from extender.decision.replay.kept_objects.kept_nodes import (
    kept_class,
    kept_node,
    kept_record,
    kept_set_aside,
    kept_telemetry,
    pool_labels_of,
)
from extender.decision.replay.kept_objects.kept_pods import kept_bound_pod, kept_ended_pods, kept_pending
from extender.decision.replay.kept_objects.named_texts import Names, Naming
from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.workload_classes import WorkloadClass
from extender.decision.state.fold.draft import Draft
from extender.decision.state.fold.pod_changes import set_pending
from extender.decision.state.isolation import SetAside
from extender.decision.state.pods import Pending
from extender.decision.state.snapshot import Snapshot, Tombstone
from extender.decision.state.status_times import StatusTime
from extender.decision.tables import add, discard
from extender.telemetry.conditions import DeviceCondition, EngineCondition, NodeTelemetry
from topology.gputopology.manifest_decoding import decode
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord

TOMBSTONE_PREFIX = "pods/"
"""Of the deletions only those of pods are read, and of these only those of pods that hold claims."""


@dataclass(frozen=True, slots=True)
class Writing:
    """What the writer of a journal knows when it writes an object."""

    naming: Naming
    resource: str
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """One kind of object."""

    of: Callable[[Snapshot], Mapping[str, Any]]
    """The objects of a snapshot by key."""
    key: Callable[[str, Naming], str]
    """The key as it is written."""
    kept: Callable[[Any, Writing], Any]
    """The object as it is written; None where no decision reads it."""
    read: Callable[[str, msgspec.Raw], Any]
    """(key, written object) -> the object. Raises ValueError where it is none."""
    put: Callable[[Draft, str, Any], None]
    """Put an object into a draft, or remove it (None), and mark the nodes whose views depend on it."""


class TopologyLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A GpuTopology: why it cannot be read, or its hardware as in its manifest and its status."""

    error: str | None = None
    spec: dict[str, Any] | None = None
    status: DeviceStatus | None = None


class TelemetryLine(msgspec.Struct, frozen=True):
    """The telemetry of a node."""

    devices: list[DeviceCondition]
    engines: dict[str, EngineCondition]
    seen_seconds: frozenset[float]


def _named(kind: Names) -> Callable[[str, Naming], str]:
    return lambda key, naming: naming.name(kind, key)


def _typed(kind: Any) -> Callable[[str, msgspec.Raw], Any]:
    decoder = msgspec.json.Decoder(kind)
    return lambda _, text: decoder.decode(text)


def _topology_line(record: TopologyRecord | str, writing: Writing) -> TopologyLine:
    if isinstance(record, str):
        return TopologyLine(error="hidden" if writing.naming.is_hidden else record)
    kept = kept_record(record, writing.naming)
    return TopologyLine(spec=encode(TopologyRecord(kept.node, kept.machine))["spec"], status=kept.status)


_TOPOLOGY = msgspec.json.Decoder(TopologyLine)


def _record(name: str, text: msgspec.Raw) -> TopologyRecord | str:
    line = _TOPOLOGY.decode(text)
    if line.error is not None or line.spec is None:
        return line.error or "it has no spec"
    record = decode({"metadata": {"name": name}, "spec": line.spec})
    known = {gpu.index for gpu in record.machine.gpus}
    status = line.status
    if status is not None and not known.issuperset(_indices(status)):
        raise ValueError(f"the status of GpuTopology {name} names a GPU that it does not have")
    return TopologyRecord(name, record.machine, status)


def _indices(status: DeviceStatus) -> set[int]:
    """Return all nvidia-smi indices that a status names."""
    named = {*(status.free or ()), *(entry.index for entry in status.allocated), *(index for index, _ in status.unhealthy)}
    if status.steering is not None:
        named |= {index for index, _ in (*status.steering.unknown_memory, *status.steering.pressure)}
    return named


def _telemetry_line(telemetry: NodeTelemetry, writing: Writing) -> TelemetryLine:
    kept = kept_telemetry(telemetry, writing.naming)
    return TelemetryLine(list(kept.devices.values()), dict(kept.engines), kept.seen_seconds)


_TELEMETRY = msgspec.json.Decoder(TelemetryLine)


def _telemetry(_: str, text: msgspec.Raw) -> NodeTelemetry:
    line = _TELEMETRY.decode(text)
    devices = {(device.reading.uuid, device.reading.mig_instance): device for device in line.devices}
    return NodeTelemetry(devices, line.engines, (), line.seen_seconds)


def _put_node(draft: Draft, name: str, node: Node | None) -> None:
    draft.nodes.put(name, node)
    draft.touched.add(name)


def _put_topology(draft: Draft, name: str, record: TopologyRecord | str | None) -> None:
    draft.topologies.put(name, record)
    draft.touched.add(name)


def _put_pod(draft: Draft, key: str, pod: BoundPod | None) -> None:
    before = draft.pods.pop(key)
    if before is not None:
        discard(draft.by_node, before.node, key)
        draft.touched.add(before.node)
    if pod is not None:
        draft.pods.set(key, pod)
        add(draft.by_node, pod.node, key)
        draft.touched.add(pod.node)


def _put_telemetry(draft: Draft, name: str, telemetry: NodeTelemetry | None) -> None:
    draft.telemetry.put(name, telemetry)
    draft.touched.add(name)


def _put_ended(draft: Draft, name: str, pods: tuple[EndedPod, ...] | None) -> None:
    draft.put_ended(name, pods or ())
    draft.touched.add(name)


def _put_status_time(draft: Draft, name: str, time: StatusTime | None) -> None:
    draft.status_times.put(name, time)
    draft.touched.add(name)


def _put_deletion(draft: Draft, key: str, deleted: bool | None) -> None:
    draft.tombstones.put(key, Tombstone(0, 0) if deleted else None)
    uid = key.removeprefix(TOMBSTONE_PREFIX)
    dra = draft.dra.settled()
    for claim in dra.holders.get(uid, ()):
        allocation = dra.resourceclaims[claim].status.allocation
        for result in (allocation.devices.results or ()) if allocation is not None else ():
            draft.touched |= dra.nodes_of.get((result.driver, result.pool), frozenset())


def _put_class(draft: Draft, name: str, workload_class: WorkloadClass | None) -> None:
    draft.classes.put(name, workload_class)
    draft.touched |= set(draft.nodes.now)


def _put_set_aside(draft: Draft, key: str, entry: SetAside | None) -> None:
    draft.set_aside.put(key, entry)


def _put_dra(kind: str, draft: Draft, key: str, item: Any) -> None:
    draft.dra.apply(DraObjectGone(kind, key) if item is None else DraObjectSeen(kind, key, item))


def _deletions(snapshot: Snapshot) -> Mapping[str, bool]:
    """Return the deletions of pods that hold claims."""
    tombstones = snapshot.tombstones
    return {key: True for uid in snapshot.dra.holders if (key := f"{TOMBSTONE_PREFIX}{uid}") in tombstones} if tombstones else {}


def _set_aside(snapshot: Snapshot) -> Mapping[str, SetAside]:
    """Return what is set aside; a view that cannot be derived is found again by deriving it."""
    return {entry.key: entry for entry in snapshot.set_aside.values() if entry.stage != "derive"}


def _dra_kind(kind: str) -> ObjectKind:
    plural = PLURALS[kind]
    return ObjectKind(
        of=lambda snapshot: getattr(snapshot.dra, plural),
        key=lambda key, naming: dra_key(plural, key, naming),
        kept=lambda item, writing: kept_dra_object(item, writing.naming),
        read=_typed(TYPES[kind]),
        put=partial(_put_dra, plural),
    )


def _set_aside_key(key: str, naming: Naming) -> str:
    kind, _, name = key.partition("/")
    names = {"nodes": Names.NODE, "topologies": Names.NODE, "telemetry": Names.NODE, "pods": Names.KEY}.get(kind, Names.OBJECT)
    return f"{kind}/{naming.name(names, name)}"


OBJECT_KINDS: dict[str, ObjectKind] = {
    "class": ObjectKind(
        lambda snapshot: snapshot.classes,
        lambda key, _: key,
        lambda each, writing: kept_class(each, writing.naming),
        _typed(WorkloadClass),
        _put_class,
    ),
    **{PLURALS[kind]: _dra_kind(kind) for kind in TYPES},
    "node": ObjectKind(
        lambda snapshot: snapshot.nodes,
        _named(Names.NODE),
        lambda node, writing: kept_node(node, writing.naming, writing.resource, pool_labels_of(writing.snapshot.classes)),
        _typed(Node),
        _put_node,
    ),
    "topology": ObjectKind(lambda snapshot: snapshot.topologies, _named(Names.NODE), _topology_line, _record, _put_topology),
    "status_time": ObjectKind(
        lambda snapshot: snapshot.status_times, _named(Names.NODE), lambda time, _: time, _typed(StatusTime), _put_status_time
    ),
    "pod": ObjectKind(
        lambda snapshot: snapshot.pods,
        _named(Names.KEY),
        lambda pod, writing: kept_bound_pod(pod, writing.naming),
        _typed(BoundPod),
        _put_pod,
    ),
    "ended": ObjectKind(
        lambda snapshot: snapshot.ended,
        _named(Names.NODE),
        lambda pods, writing: kept_ended_pods(pods, writing.naming),
        _typed(tuple[EndedPod, ...]),
        _put_ended,
    ),
    "deletion": ObjectKind(
        _deletions,
        lambda key, naming: TOMBSTONE_PREFIX + naming.name(Names.KEY, key.removeprefix(TOMBSTONE_PREFIX)),
        lambda deleted, _: deleted,
        _typed(bool),
        _put_deletion,
    ),
    "pending": ObjectKind(
        lambda snapshot: snapshot.pending,
        _named(Names.KEY),
        lambda pending, writing: kept_pending(pending, writing.naming),
        _typed(Pending),
        set_pending,
    ),
    "telemetry": ObjectKind(lambda snapshot: snapshot.telemetry, _named(Names.NODE), _telemetry_line, _telemetry, _put_telemetry),
    "set_aside": ObjectKind(
        _set_aside, _set_aside_key, lambda entry, writing: kept_set_aside(entry, writing.naming), _typed(SetAside), _put_set_aside
    ),
}
"""Name -> kind, in the order in which the objects of a moment are written and read: an object comes after those that it refers to."""
