"""The kinds that are read from an API server: their paths, and what is left out of their lists."""

from __future__ import annotations

from dataclasses import dataclass

from extender.decision.dra.objects import PLURALS
from topology.record import GROUP, PLURAL, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind to read."""

    kind: str
    listed_as: str
    path: str
    field_selector: str | None = None
    optional: bool = False
    """Whether a 404 (its CRD is not installed, its API group not served) means an empty list."""
    may_be_forbidden: bool = False
    """Whether a 403 means an empty list too: the RBAC of an earlier version does not name it."""
    absent_retry_seconds: float | None = None
    """How long to wait before a kind that is not there is asked for again; None: the usual time."""
    other_path: str | None = None
    """Where it is served if `path` answers 404: an earlier version of its API."""


KUBERNETES_RESOURCES = (
    Resource("Node", "nodes", "/api/v1/nodes"),
    Resource("Pod", "pods", "/api/v1/pods", "status.phase!=Succeeded,status.phase!=Failed"),
    Resource("GpuTopology", "topologies", f"/apis/{GROUP}/{VERSION}/{PLURAL}", optional=True),
)
"""Kinds that Fabricwise has always read."""

_ABSENT_RETRY_SECONDS = 60.0
_V1, _V1BETA2 = "/apis/resource.k8s.io/v1", "/apis/resource.k8s.io/v1beta2"


def _dra(kind: str, version: str = _V1, other: str | None = None) -> Resource:
    plural = PLURALS[kind]
    other_path = f"{other}/{plural}" if other else None
    return Resource(kind, plural, f"{version}/{plural}", None, True, True, _ABSENT_RETRY_SECONDS, other_path)


DRA_RESOURCES = (
    _dra("ResourceSlice"),
    _dra("DeviceClass"),
    _dra("ResourceClaim"),
    _dra("ResourceClaimTemplate"),
    _dra("DeviceTaintRule", _V1, _V1BETA2),  # v1 from Kubernetes 1.37 on; behind a gate in 1.36
)
"""Kinds of Dynamic Resource Allocation, which an API server may not serve."""

RESOURCES = (*KUBERNETES_RESOURCES, *DRA_RESOURCES)
