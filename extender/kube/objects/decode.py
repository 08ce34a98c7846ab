"""Kubernetes objects as parsed JSON or YAML -> changes. Every source uses these functions."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.decision.dra.dra_state import DraObjectGone, DraObjectSeen
from extender.decision.dra.resource_objects import PLURALS
from extender.decision.request.kubernetes_objects import Node, Pod
from extender.decision.state.changes import NodeGone, NodeSeen, PodGone, PodSeen, TopologyGone, TopologySeen
from extender.decision.state.isolation import SetAside, described
from extender.errors import ClusterSourceError
from extender.kube.objects.dra_decode import dra_gone, dra_key, dra_seen
from extender.kube.objects.shared_parts import with_shared_parts
from topology.gputopology.manifest_decoding import decode
from topology.machine.hardware import TopologyError

KINDS = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies", **PLURALS}
Seen = NodeSeen | PodSeen | TopologySeen | DraObjectSeen

_MOST_DIGITS = 20
"""Digits of the largest resourceVersion, a number of 64 bits. Python refuses to convert thousands of digits."""


def seen(kind: str, manifest: Any) -> Seen:
    """Return the change for an existing object of `kind`.

    Raises ClusterSourceError for an invalid Node or Pod. For an invalid GpuTopology the change carries the reason as text, because the
    node itself can still be used.
    """
    name = object_name(manifest)
    if kind in PLURALS:
        return dra_seen(kind, manifest, _version(manifest))
    if kind == "GpuTopology":
        try:
            return TopologySeen(name, decode(manifest), _version(manifest))
        except TopologyError as error:
            return TopologySeen(name, str(error), _version(manifest))
        except Exception as error:  # any failure of the decoder concerns this object alone
            return TopologySeen(name, f"GpuTopology {name}: {described(error)}", _version(manifest))
    try:
        if kind == "Node":
            return NodeSeen(with_shared_parts(msgspec.convert(manifest, Node, strict=False)), _version(manifest))
        return PodSeen(msgspec.convert(manifest, Pod, strict=False), _version(manifest))
    except msgspec.ValidationError as error:
        raise ClusterSourceError(f"{kind} {name}: {error}; `kubectl explain {kind.lower()}` has the fields") from error


def seen_or_set_aside(kind: str, manifest: Any) -> Seen | SetAside:
    """Return the change for an existing object; for an invalid one, a change that sets it aside by name.

    Raises ClusterSourceError if the object has no name.
    """
    name = object_name(manifest)
    try:
        return seen(kind, manifest)
    except Exception as error:  # any failure of the decoder concerns this object alone
        why = str(error) if isinstance(error, ClusterSourceError) else described(error)
        if kind in PLURALS:
            return SetAside(PLURALS[kind], dra_key(manifest), "decode", why, None, _version(manifest))
        if kind == "Node":
            return SetAside("nodes", name, "decode", why, name, _version(manifest))
        spec = manifest.get("spec")
        node = spec.get("nodeName") if isinstance(spec, dict) else None
        return SetAside("pods", _pod_key(manifest), "decode", why, node if isinstance(node, str) else None, _version(manifest))


def _pod_key(manifest: dict[str, Any]) -> str:
    """Return what `Pod.key` would be, for a manifest that may be invalid in other fields."""
    metadata = manifest["metadata"]
    uid, namespace = metadata.get("uid"), metadata.get("namespace")
    if isinstance(uid, str) and uid:
        return uid
    return f"{namespace if isinstance(namespace, str) and namespace else 'default'}/{metadata['name']}"


def gone(kind: str, manifest: Any) -> NodeGone | PodGone | TopologyGone | DraObjectGone:
    """Return the change for a deleted object. Raises ClusterSourceError if it has no name."""
    name = object_name(manifest)
    if kind in PLURALS:
        return dra_gone(kind, manifest, _version(manifest))
    if kind == "Node":
        return NodeGone(name, _version(manifest))
    if kind == "GpuTopology":
        return TopologyGone(name, _version(manifest))
    return PodGone(_pod_key(manifest), _version(manifest))


def _version(manifest: dict[str, Any]) -> int | None:
    """Return the resourceVersion as a number; None if absent, as in a file written by hand."""
    return version_number(manifest["metadata"].get("resourceVersion"))


def version_number(text: Any) -> int | None:
    """Return a resourceVersion as the increasing number that it is (Kubernetes 1.35, KEP-5504); None where it is none."""
    is_number = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if is_number else None


def object_name(manifest: Any) -> str:
    """Return metadata.name. Raises ClusterSourceError if there is none."""
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise ClusterSourceError("an object has no metadata.name: give each object its name")
    return name
