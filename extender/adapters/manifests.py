"""Kubernetes objects as parsed JSON or YAML -> changes. Shared by every source, so all read objects alike."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.decision.changes import NodeGone, NodeSeen, PodGone, PodSeen, TopologyGone, TopologySeen
from extender.decision.objects import Node, Pod
from extender.errors import ClusterSourceError
from topology.hardware import TopologyError
from topology.record import decode

KINDS = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}
Seen = NodeSeen | PodSeen | TopologySeen


def seen(kind: str, manifest: Any) -> Seen:
    """An object that exists -> its change.

    Raises ClusterSourceError for a Node or Pod that is none. A GpuTopology that cannot be read is no error here: the
    node stays, the reason travels with it.
    """
    name = object_name(manifest)
    if kind == "GpuTopology":
        try:
            return TopologySeen(name, decode(manifest), _version(manifest))
        except TopologyError as error:
            return TopologySeen(name, str(error), _version(manifest))
    try:
        if kind == "Node":
            return NodeSeen(msgspec.convert(manifest, Node, strict=False), _version(manifest))
        return PodSeen(msgspec.convert(manifest, Pod, strict=False), _version(manifest))
    except msgspec.ValidationError as error:
        raise ClusterSourceError(f"{kind} {name}: {error}; `kubectl explain {kind.lower()}` has the fields") from error


def gone(kind: str, manifest: Any) -> NodeGone | PodGone | TopologyGone:
    """An object that was deleted -> its change."""
    name = object_name(manifest)
    if kind == "Node":
        return NodeGone(name, _version(manifest))
    if kind == "GpuTopology":
        return TopologyGone(name, _version(manifest))
    change = seen("Pod", manifest)
    assert isinstance(change, PodSeen)
    return PodGone(change.pod.key, change.version)


def _version(manifest: dict[str, Any]) -> int | None:
    """resourceVersion, which is a growing number (Kubernetes 1.35, KEP-5504); None where there is none, as in a file written by hand."""
    text = manifest["metadata"].get("resourceVersion")
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else None


def object_name(manifest: Any) -> str:
    """metadata.name. Raises ClusterSourceError where there is none."""
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise ClusterSourceError("an object has no metadata.name: give each object its name")
    return name
