"""Whole objects kept while a cluster is listed, for commands that need more fields and kinds than decisions do."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from extender.decision.kube_filters.pod_objects import KubePod, PersistentVolume, PersistentVolumeClaim
from extender.decision.kube_filters.surroundings import ClaimKey


@dataclass(frozen=True, slots=True)
class ObjectName:
    """The name of one object of a cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name} in namespace {self.namespace}"


@dataclass(slots=True)
class CollectedObjects:
    """Called with (kind, parsed manifest) of every object that is read. Invalid objects are left out, and counted."""

    wanted: ObjectName | None = None
    """The object that the question is about."""
    manifest: dict[str, Any] | None = None
    """The manifest of `wanted`, once it was read."""
    pods: dict[str, list[KubePod]] = field(default_factory=lambda: defaultdict(list))
    """Node name -> pods bound to it that have not ended."""
    pending: dict[str, KubePod] = field(default_factory=dict)
    """Pod key (`Pod.key`) -> pod that is not bound and has not ended."""
    claims: dict[ClaimKey, PersistentVolumeClaim] = field(default_factory=dict)
    volumes: dict[str, PersistentVolume] = field(default_factory=dict)
    seen_kinds: set[str] = field(default_factory=set)
    undecoded: int = 0

    def __call__(self, kind: str, manifest: Any) -> None:
        """Keep the needed fields of an object."""
        self.seen_kinds.add(kind)
        if self.wanted is not None and _name_of(kind, manifest) == self.wanted:
            self.manifest = {**manifest, "kind": kind}
        try:
            self._keep(kind, manifest)
        except msgspec.ValidationError:
            self.undecoded += 1

    def _keep(self, kind: str, manifest: Any) -> None:
        if kind == "Pod":
            pod = msgspec.convert(manifest, KubePod, strict=False)
            if pod.spec.node_name and not pod.has_ended:
                self.pods[pod.spec.node_name].append(pod)
            elif not pod.has_ended:
                self.pending[pod.metadata.uid or f"{pod.namespace}/{pod.metadata.name}"] = pod
        elif kind == "PersistentVolumeClaim":
            claim = msgspec.convert(manifest, PersistentVolumeClaim, strict=False)
            self.claims[claim.metadata.namespace or "default", claim.metadata.name] = claim
        elif kind == "PersistentVolume":
            volume = msgspec.convert(manifest, PersistentVolume, strict=False)
            self.volumes[volume.metadata.name] = volume


def _name_of(kind: str, manifest: Any) -> ObjectName | None:
    metadata = manifest.get("metadata") if isinstance(manifest, dict) else None
    return ObjectName(kind, str(metadata.get("namespace") or "default"), str(metadata.get("name"))) if isinstance(metadata, dict) else None
