"""Kubernetes objects as parsed JSON or YAML -> changes. Shared by every source, so all read objects alike."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.adapters.kube_dra import dra_gone, dra_key, dra_seen
from extender.decision.changes import NodeGone, NodeSeen, PodGone, PodSeen, SetAside, TopologyGone, TopologySeen
from extender.decision.dra.objects import PLURALS
from extender.decision.dra.state import DraObjectGone, DraObjectSeen
from extender.decision.isolation import described
from extender.decision.objects import Node, Pod
from extender.errors import ClusterSourceError
from topology.hardware import TopologyError
from topology.record import decode

KINDS = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies", **PLURALS}
Seen = NodeSeen | PodSeen | TopologySeen | DraObjectSeen


def seen(kind: str, manifest: Any) -> Seen:
    """An object that exists -> its change.

    Raises ClusterSourceError for a Node or Pod that is none. A GpuTopology that cannot be read is no error here: the
    node stays, the reason travels with it.
    """
    name = object_name(manifest)
    if kind in PLURALS:
        return dra_seen(kind, manifest, _version(manifest))
    if kind == "GpuTopology":
        try:
            return TopologySeen(name, decode(manifest), _version(manifest))
        except TopologyError as error:
            return TopologySeen(name, str(error), _version(manifest))
        except Exception as error:  # whatever an object makes of the decoder stays with that object
            return TopologySeen(name, f"GpuTopology {name}: {described(error)}", _version(manifest))
    try:
        if kind == "Node":
            return NodeSeen(msgspec.convert(manifest, Node, strict=False), _version(manifest))
        return PodSeen(msgspec.convert(manifest, Pod, strict=False), _version(manifest))
    except msgspec.ValidationError as error:
        raise ClusterSourceError(f"{kind} {name}: {error}; `kubectl explain {kind.lower()}` has the fields") from error


def seen_or_set_aside(kind: str, manifest: Any) -> Seen | SetAside:
    """An object that exists -> its change; one that cannot be read is set aside by name.

    Raises ClusterSourceError where it has no name.
    """
    name = object_name(manifest)
    try:
        return seen(kind, manifest)
    except Exception as error:  # whatever an object makes of the decoder stays with that object
        why = str(error) if isinstance(error, ClusterSourceError) else described(error)
        if kind in PLURALS:
            return SetAside(PLURALS[kind], dra_key(manifest), "decode", why, None, _version(manifest))
        if kind == "Node":
            return SetAside("nodes", name, "decode", why, name, _version(manifest))
        spec = manifest.get("spec")
        node = spec.get("nodeName") if isinstance(spec, dict) else None
        return SetAside("pods", _pod_key(manifest), "decode", why, node if isinstance(node, str) else None, _version(manifest))


def _pod_key(manifest: dict[str, Any]) -> str:
    """As `Pod.key`, of a pod that may be malformed elsewhere."""
    metadata = manifest["metadata"]
    uid, namespace = metadata.get("uid"), metadata.get("namespace")
    if isinstance(uid, str) and uid:
        return uid
    return f"{namespace if isinstance(namespace, str) and namespace else 'default'}/{metadata['name']}"


def gone(kind: str, manifest: Any) -> NodeGone | PodGone | TopologyGone | DraObjectGone:
    """An object that was deleted -> its change."""
    name = object_name(manifest)
    if kind in PLURALS:
        return dra_gone(kind, manifest, _version(manifest))
    if kind == "Node":
        return NodeGone(name, _version(manifest))
    if kind == "GpuTopology":
        return TopologyGone(name, _version(manifest))
    return PodGone(_pod_key(manifest), _version(manifest))


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
