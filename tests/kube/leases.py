"""Leases in memory, for tests of leader election."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from extender.settings import Lease
from topology.agent.publisher import ApiError

SETTINGS = Lease(duration_seconds=1.0, retry_seconds=0.05)


class Leases:
    """The Leases of one namespace, in memory, with resourceVersions as on an API server; `broken` can make every request fail.
    `reads` counts reads."""

    def __init__(self) -> None:
        self.object: dict[str, Any] | None = None
        self.broken: Callable[[], None] = lambda: None
        self.version = 0
        self.reads = 0

    def get(self, path: str) -> dict[str, Any]:
        self.broken()
        self.reads += 1
        if self.object is None:
            raise ApiError(404, "not there")
        return {**self.object, "metadata": dict(self.object["metadata"]), "spec": dict(self.object["spec"])}

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        self.broken()
        if self.object is not None:
            raise ApiError(409, "is there")
        return self._keep(manifest)

    def replace(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        self.broken()
        if self.object is None or manifest["metadata"]["resourceVersion"] != self.object["metadata"]["resourceVersion"]:
            raise ApiError(409, "has changed")
        return self._keep(manifest)

    def _keep(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.object = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}}
        return self.object
