"""One line of a watch -> an event with its change, decoded in one pass into the fields that decisions read.

Pods and nodes are most of what an API server sends. Decoding a line straight into their types costs a third of decoding all of its fields
first. A line that does not decode so (an error, a bookmark, an object with an invalid field) is decoded as plain data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from extender.decision.request.kubernetes_objects import Meta, Node, NodeSpec, NodeStatus, Owner, Pod, PodSpec, PodStatus
from extender.decision.state.changes import NodeGone, NodeSeen, ObjectGone, PodGone, PodSeen
from extender.decision.state.isolation import SetAside
from extender.errors import ClusterSourceError
from extender.kube.decode import Seen, gone, seen_or_set_aside

TYPES = ("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR")
"""Types of events that Kubernetes defines."""


class UnreadableLineError(Exception):
    """A line is no event."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """An event of a watch."""

    type: str
    change: Seen | SetAside | ObjectGone | None
    """None: the event changes nothing, or its object cannot be used."""
    version: str | None
    """resourceVersion of its object, to resume the watch at."""
    problem: str | None = None
    """Why the object cannot be used."""
    error_code: int = 0
    """The status code of an event of type ERROR."""
    error_message: str = ""


class _ObjectMeta(msgspec.Struct, rename="camel"):
    """ObjectMeta with its resourceVersion, which `Meta` leaves out: two pods that differ in nothing else are equal."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    owner_references: list[Owner] | None = None

    def meta(self) -> Meta:
        """Return it without the resourceVersion."""
        return Meta(
            self.name,
            self.namespace,
            self.uid,
            self.labels,
            self.annotations,
            self.creation_timestamp,
            self.deletion_timestamp,
            self.owner_references,
        )


class _PodObject(msgspec.Struct):
    metadata: _ObjectMeta
    spec: PodSpec
    status: PodStatus | None = None


class _NodeObject(msgspec.Struct):
    metadata: _ObjectMeta
    status: NodeStatus | None = None
    spec: NodeSpec | None = None


class _PodEvent(msgspec.Struct):
    type: str
    object: _PodObject


class _NodeEvent(msgspec.Struct):
    type: str
    object: _NodeObject


class _PlainEvent(msgspec.Struct):
    type: str
    object: dict[str, Any]


_POD_EVENT = msgspec.json.Decoder(_PodEvent, strict=False)
_NODE_EVENT = msgspec.json.Decoder(_NodeEvent, strict=False)
_PLAIN_EVENT = msgspec.json.Decoder(_PlainEvent)


def watch_event(kind: str, line: bytes) -> WatchEvent:
    """Return the event of one line of the watch of `kind`. Raises UnreadableLineError."""
    try:
        event = _TYPED[kind](line) if kind in _TYPED else None
        return event or plain_event(kind, line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnreadableLineError(f"a line is not an event: {error}") from error


def _pod_event(line: bytes) -> WatchEvent | None:
    """Return the event of a valid pod; None where the line has to be decoded as plain data."""
    try:
        event = _POD_EVENT.decode(line)
    except msgspec.ValidationError:
        return None
    pod, meta = event.object, event.object.metadata
    if not meta.name:
        return None
    version = _number(meta.resource_version)
    if event.type in ("ADDED", "MODIFIED"):
        return WatchEvent(event.type, PodSeen(Pod(meta.meta(), pod.spec, pod.status), version), meta.resource_version or None)
    if event.type == "DELETED":
        key = meta.uid or f"{meta.namespace or 'default'}/{meta.name}"
        return WatchEvent(event.type, PodGone(key, version), meta.resource_version or None)
    return None


def _node_event(line: bytes) -> WatchEvent | None:
    """Return the event of a valid node; None where the line has to be decoded as plain data."""
    try:
        event = _NODE_EVENT.decode(line)
    except msgspec.ValidationError:
        return None
    node, meta = event.object, event.object.metadata
    if not meta.name:
        return None
    version = _number(meta.resource_version)
    if event.type in ("ADDED", "MODIFIED"):
        return WatchEvent(event.type, NodeSeen(Node(meta.meta(), node.status, node.spec), version), meta.resource_version or None)
    if event.type == "DELETED":
        return WatchEvent(event.type, NodeGone(meta.name, version), meta.resource_version or None)
    return None


_TYPED = {"Pod": _pod_event, "Node": _node_event}


def plain_event(kind: str, line: bytes) -> WatchEvent:
    """Return the event of one line, decoded as plain data first: of every kind and type. Raises msgspec.DecodeError, RecursionError."""
    event = _PLAIN_EVENT.decode(line)
    manifest, version = event.object, _resource_version(event.object)
    if event.type == "ERROR":
        code = manifest.get("code")
        return WatchEvent("ERROR", None, version, None, code if isinstance(code, int) else 0, str(manifest.get("message")))
    try:
        if event.type in ("ADDED", "MODIFIED"):
            return WatchEvent(event.type, seen_or_set_aside(kind, manifest), version)
        if event.type == "DELETED":
            return WatchEvent(event.type, gone(kind, manifest), version)
    except ClusterSourceError as error:
        return WatchEvent(event.type, None, version, str(error))
    return WatchEvent(event.type, None, version)


def _number(version: str) -> int | None:
    """Return a resourceVersion as the increasing number that it is (KEP-5504); None where it is none."""
    return int(version) if version.isascii() and version.isdigit() else None


def _resource_version(manifest: dict[str, Any]) -> str | None:
    """Return metadata.resourceVersion; None if there is none."""
    metadata = manifest.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) and version else None
