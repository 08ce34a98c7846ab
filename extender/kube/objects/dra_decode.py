"""Objects of resource.k8s.io as parsed JSON or YAML -> changes."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.decision.dra.dra_state import DraObjectGone, DraObjectSeen
from extender.decision.dra.resource_objects import PLURALS, TYPES
from extender.errors import ClusterSourceError


def dra_seen(kind: str, manifest: Any, version: int | None) -> DraObjectSeen:
    """Return the change for an existing object. Raises ClusterSourceError where it is invalid, or larger than the API server allows."""
    key = dra_key(manifest)
    try:
        item = msgspec.convert(manifest, TYPES[kind], strict=False)
    except msgspec.ValidationError as error:
        raise ClusterSourceError(f"{kind} {key}: {error}; `kubectl explain {kind.lower()}` has the fields") from error
    return DraObjectSeen(PLURALS[kind], key, item, version)


def dra_gone(kind: str, manifest: Any, version: int | None) -> DraObjectGone:
    """Return the change for a deleted object."""
    return DraObjectGone(PLURALS[kind], dra_key(manifest), version)


def dra_key(manifest: dict[str, Any]) -> str:
    """Return namespace/name, or the name of an object without a namespace."""
    metadata = manifest["metadata"]
    namespace, name = metadata.get("namespace"), metadata["name"]
    return f"{namespace}/{name}" if isinstance(namespace, str) and namespace else str(name)
