"""The kinds that are read from an API server: their paths and field selectors."""

from __future__ import annotations

from dataclasses import dataclass

from extender.decision.dra.resource_objects import PLURALS
from topology.gputopology.manifest_fields import GROUP, PLURAL, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind to read; `listed_as` is its name in changes and in messages."""

    kind: str
    listed_as: str
    path: str
    field_selector: str | None = None
    optional: bool = False
    """Whether status 404 (its CRD is not installed, or its API group is not served) means an empty list."""
    may_be_forbidden: bool = False
    """Whether status 403 means an empty list too: the RBAC of an earlier version does not name the kind."""
    absent_retry_seconds: float | None = None
    """How long to wait before an absent kind is listed again; None: the usual time."""
    other_path: str | None = None
    """Where it is served if `path` answers with status 404: an earlier version of its API."""


KUBERNETES_RESOURCES = (
    Resource("Node", "nodes", "/api/v1/nodes"),
    Resource("Pod", "pods", "/api/v1/pods", "status.phase!=Succeeded,status.phase!=Failed"),
    Resource("GpuTopology", "topologies", f"/apis/{GROUP}/{VERSION}/{PLURAL}", optional=True),
)
"""Kinds without which nothing is decided."""

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

BUDGET_RESOURCE = Resource("PodDisruptionBudget", "poddisruptionbudgets", "/apis/policy/v1/poddisruptionbudgets", optional=True)
"""Read on demand, for advice on moves; no decision needs it."""
