"""The kinds that are read from an API server: their paths and field selectors."""

from __future__ import annotations

from dataclasses import dataclass

from topology.gputopology import GROUP, PLURAL, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind to read; `listed_as` is its name in changes and in messages."""

    kind: str
    listed_as: str
    path: str
    field_selector: str | None = None
    optional: bool = False
    """Whether status 404 (its CRD is not installed) means an empty list."""


RESOURCES = (
    Resource("Node", "nodes", "/api/v1/nodes"),
    Resource("Pod", "pods", "/api/v1/pods", "status.phase!=Succeeded,status.phase!=Failed"),
    Resource("GpuTopology", "topologies", f"/apis/{GROUP}/{VERSION}/{PLURAL}", optional=True),
)
