"""One line of a watch -> an event with its change.

Pods are most of what an API server sends, so their lines are decoded straight into the fields that decisions read, at half the cost of
decoding all fields first. Other lines (other kinds, errors, bookmarks, a pod with an invalid field) are decoded as plain data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from extender.decision.dra.dra_state import DraObjectGone
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.state.changes import ObjectGone, PodGone, PodSeen
from extender.decision.state.isolation import SetAside
from extender.errors import ClusterSourceError
from extender.kube.objects.decode import Seen, gone, seen_or_set_aside, version_number

TYPES = ("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR")
"""Types of events that Kubernetes defines."""


class UnreadableLineError(Exception):
    """A line is no event."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """An event of a watch."""

    type: str
    change: Seen | SetAside | ObjectGone | DraObjectGone | None
    """None: the event changes nothing, or its object cannot be used."""
    version: str | None
    """resourceVersion of its object, to resume the watch at."""
    problem: str | None = None
    """Why the object cannot be used."""
    error_code: int = 0
    """The status code of an event of type ERROR."""
    error_message: str = ""


class _HeadMeta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class _HeadObject(msgspec.Struct):
    metadata: _HeadMeta


class _Head(msgspec.Struct):
    """The type of an event and the identity of its object."""

    type: str
    object: _HeadObject


class _PodEvent(msgspec.Struct):
    object: Pod


class _PlainEvent(msgspec.Struct):
    type: str
    object: dict[str, Any]


_HEAD = msgspec.json.Decoder(_Head)
_POD_EVENT = msgspec.json.Decoder(_PodEvent, strict=False)
_PLAIN_EVENT = msgspec.json.Decoder(_PlainEvent)


def watch_event(kind: str, line: bytes) -> WatchEvent:
    """Return the event of one line of the watch of `kind`. Raises UnreadableLineError."""
    try:
        return (_pod_event(line) if kind == "Pod" else None) or plain_event(kind, line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableLineError(f"a line is not an event: {error}") from error


def _pod_event(line: bytes) -> WatchEvent | None:
    """Return the event of a valid pod; None where the line has to be decoded as plain data."""
    try:
        head = _HEAD.decode(line)
        meta = head.object.metadata
        if not meta.name or head.type not in ("ADDED", "MODIFIED", "DELETED"):
            return None
        text = meta.resource_version
        version = version_number(text)
        if head.type == "DELETED":
            return WatchEvent(head.type, PodGone(meta.uid or f"{meta.namespace or 'default'}/{meta.name}", version), text or None)
        return WatchEvent(head.type, PodSeen(_POD_EVENT.decode(line).object, version), text or None)
    except msgspec.ValidationError:
        return None


def plain_event(kind: str, line: bytes) -> WatchEvent:
    """Return the event of one line of any kind and type, decoded as plain data first.

    Raises msgspec.DecodeError, UnicodeDecodeError and RecursionError.
    """
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


def _resource_version(manifest: dict[str, Any]) -> str | None:
    """Return metadata.resourceVersion; None if there is none."""
    metadata = manifest.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return version if isinstance(version, str) and version else None
