"""Keeps the node's GpuTopology on the API server as it should be: server-side apply of `spec` and `status`.

What is wanted is kept until it has been written: an outage loses nothing, the newest state is sent when the server is back.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from topology.record import API_VERSION, GROUP, KIND, PLURAL, VERSION, TopologyRecord, encode

FIELD_MANAGER = "fabricwise-agent"
_FIRST_RETRY_SECONDS, _MOST_RETRY_SECONDS = 1.0, 60.0


class ApiError(Exception):
    """The API server, or the way to it, said no; `status` 0 = no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api(Protocol):
    """What the publisher needs of an API server. Both raise ApiError."""

    def get(self, path: str) -> dict[str, Any]:
        """An object."""

    def apply(self, path: str, manifest: dict[str, Any], field_manager: str) -> dict[str, Any]:
        """Server-side apply of an object, or of its subresource, with force."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be on the server; times of observation left out, for they alone change nothing."""

    spec: str
    status: str


class Publisher:
    """One node's object. Not safe for several threads: the agent's loop owns it."""

    def __init__(
        self, api: Api, node: str, heartbeat_seconds: float, clock: Callable[[], float], chance: random.Random, node_uid: str | None = None
    ) -> None:
        """`node_uid` is the Node's, where it is known from elsewhere; else the Node is read for it."""
        self._api, self._node, self._heartbeat_seconds, self._told_uid = api, node, heartbeat_seconds, node_uid
        self._clock, self._random = clock, chance
        self._path = f"/apis/{GROUP}/{VERSION}/{PLURAL}/{node}"
        self._owner_uid: str | None = None
        self._written: Wanted | None = None
        self._next_heartbeat = 0.0
        self._retry_at, self._failures = 0.0, 0
        self.last_error: str | None = None

    def publish(self, record: TopologyRecord) -> bool:
        """Bring the server up to `record` where it is behind, or a heartbeat is due. True where something was written.

        A refusal or an outage is remembered and tried again with growing pauses, on later calls.
        """
        now = self._clock()
        manifest = encode(record)
        wanted = _wanted(manifest)
        if now < self._retry_at or (wanted == self._written and now < self._next_heartbeat):
            return False
        try:
            self._write(manifest, wanted)
        except ApiError as error:
            self._failures += 1
            pause = min(_MOST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** (self._failures - 1))
            self._retry_at = now + pause * self._random.uniform(0.5, 1.0)
            self.last_error = str(error)
            if error.status == 404:  # the Node was made anew, or the object or CRD is gone: begin from the start
                self._written = self._owner_uid = None
            return False
        self._failures, self._retry_at, self.last_error = 0, 0.0, None
        self._written = wanted
        self._next_heartbeat = now + self._heartbeat_seconds * self._random.uniform(0.8, 1.2)
        return True

    def _write(self, manifest: dict[str, Any], wanted: Wanted) -> None:
        head = {"apiVersion": API_VERSION, "kind": KIND}
        if self._written is None or wanted.spec != self._written.spec:
            if self._owner_uid is None:
                self._owner_uid = self._told_uid or str(self._api.get(f"/api/v1/nodes/{self._node}")["metadata"]["uid"])
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": self._owner_uid}
            metadata = {"name": self._node, "ownerReferences": [owner]}
            self._api.apply(self._path, {**head, "metadata": metadata, "spec": manifest["spec"]}, FIELD_MANAGER)
        status = {**head, "metadata": {"name": self._node}, "status": manifest["status"]}
        self._api.apply(f"{self._path}/status", status, FIELD_MANAGER)


def _wanted(manifest: dict[str, Any]) -> Wanted:
    status = {name: value for name, value in manifest["status"].items() if name != "observedAt"}
    return Wanted(json.dumps(manifest["spec"], sort_keys=True), json.dumps(status, sort_keys=True))
