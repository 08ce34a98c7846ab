"""Keeps the node's GpuTopology on the API server current: server-side apply of `spec` and `status`.

After an outage the newest record is written; no state is lost.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from topology.gputopology.manifest_encoding import encode
from topology.gputopology.manifest_fields import API_VERSION, GROUP, KIND, PLURAL, VERSION
from topology.gputopology.topology_record import TopologyRecord

log = logging.getLogger("fabricwise.agent")

FIELD_MANAGER = "fabricwise-agent"
_FIRST_RETRY_SECONDS, _MOST_RETRY_SECONDS = 1.0, 60.0


class ApiError(Exception):
    """The API server refused, or did not answer (`status` 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api(Protocol):
    """The API server as the publisher uses it. Both methods raise ApiError."""

    def get(self, path: str) -> dict[str, Any]:
        """Return the object at an API path."""

    def apply(self, path: str, manifest: dict[str, Any], field_manager: str) -> dict[str, Any]:
        """Server-side apply an object, or its subresource, with force, and return it."""


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a manifest as JSON, without the time of observation, which alone is no reason to write."""

    spec: str
    status: str


class Publisher:
    """Writes one node's object. Not safe for several threads: the agent's loop owns it."""

    def __init__(
        self,
        api: Api,
        node: str,
        heartbeat_seconds: float,
        monotonic: Callable[[], float],
        chance: random.Random,
        node_uid: str | None = None,
    ) -> None:
        """`node_uid` is the uid in the agent's token; where the token has none, it is read from the Node. `monotonic` returns seconds."""
        self._api, self._node, self._heartbeat_seconds, self._token_uid = api, node, heartbeat_seconds, node_uid
        self._monotonic, self._random = monotonic, chance
        self._path = f"/apis/{GROUP}/{VERSION}/{PLURAL}/{node}"
        self._owners: list[dict[str, str]] | None = None
        """The object's ownerReferences; None = not known yet."""
        self._written: Content | None = None
        self._next_heartbeat = 0.0
        self._retry_at, self._failures = 0.0, 0
        self.last_error: str | None = None

    def publish(self, record: TopologyRecord) -> bool:
        """Write `record` where its content has changed or a heartbeat is due. Return whether something was written.

        After a refusal or an outage, later calls retry with growing pauses.
        """
        now = self._monotonic()
        manifest = encode(record)
        content = _content(manifest)
        if now < self._retry_at or (content == self._written and now < self._next_heartbeat):
            return False
        try:
            self._write(manifest, content)
        except ApiError as error:
            self._failures += 1
            pause = min(_MOST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** min(self._failures - 1, 16))
            self._retry_at = now + pause * self._random.uniform(0.5, 1.0)
            self.last_error = str(error)
            if error.status == 404:  # the Node was recreated, or the object or the CRD was deleted: write everything again
                self._written = self._owners = None
            return False
        self._failures, self._retry_at, self.last_error = 0, 0.0, None
        self._written = content
        self._next_heartbeat = now + self._heartbeat_seconds * self._random.uniform(0.8, 1.2)
        return True

    def _write(self, manifest: dict[str, Any], content: Content) -> None:
        head = {"apiVersion": API_VERSION, "kind": KIND}
        if self._written is None or content.spec != self._written.spec:
            if self._owners is None:
                self._owners = self._find_owners()
            metadata = {"name": self._node, "ownerReferences": self._owners}
            self._apply(self._path, {**head, "metadata": metadata, "spec": manifest["spec"]})
        status = {**head, "metadata": {"name": self._node}, "status": manifest["status"]}
        self._apply(f"{self._path}/status", status)

    def _find_owners(self) -> list[dict[str, str]]:
        """The Node as the object's owner, so that the object is deleted with it; empty where the agent may not read the Node."""
        uid = self._token_uid
        if uid is None:
            try:
                uid = str(self._api.get(f"/api/v1/nodes/{self._node}")["metadata"]["uid"])
            except ApiError as error:
                if error.status == 404:
                    raise ApiError(404, NO_SUCH_NODE.format(node=self._node)) from error
                if error.status != 403:
                    raise
                log.warning(NO_OWNER, self._node)
                return []
        return [{"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": uid}]

    def _apply(self, path: str, manifest: dict[str, Any]) -> None:
        try:
            self._api.apply(path, manifest, FIELD_MANAGER)
        except ApiError as error:
            remedy = _remedy(error, path)
            if remedy is None:
                raise
            raise ApiError(error.status, f"{error}. {remedy}") from error


NO_SUCH_NODE = (
    "there is no Node {node}: the agent's node name is wrong, or the Node is not registered yet. "
    "Set NODE_NAME from spec.nodeName as manifests/agent does, or --node-name to a name that `kubectl get nodes` lists"
)
NO_OWNER = (
    "GpuTopology %s has no owner reference: the agent's token names no node (Kubernetes before 1.30, or a token that is "
    "not bound to a pod), and its account may not `get nodes`. The object stays when the Node is deleted: delete it then, or allow the "
    "optional right in manifests/agent/rbac.yaml"
)


def _remedy(error: ApiError, path: str) -> str | None:
    """The remedy for a refused write; None where the error message is sufficient."""
    if error.status == 401:
        return "The API server does not accept the agent's token: check whether its service account was deleted or its issuer changed"
    if error.status == 404 and not path.endswith("/status"):
        return "Is the CRD installed? kubectl apply -k manifests/crd"
    if error.status != 403:
        return None
    if "its token names none" in str(error):
        return (
            "The policy fabricwise-agent-own-node-only needs the node in the agent's token: run the agent as a pod on Kubernetes 1.30 or "
            "later, or delete the policy's binding and accept that an agent may write about any node"
        )
    if "of its own node" in str(error):
        return "The agent's node name is not that of its token: set NODE_NAME from spec.nodeName as manifests/agent does"
    return "The agent's account may not write GpuTopologies: kubectl apply -k manifests/agent, or see its rbac.yaml"


def _content(manifest: dict[str, Any]) -> Content:
    status = {name: value for name, value in manifest["status"].items() if name != "observedAt"}
    return Content(json.dumps(manifest["spec"], sort_keys=True), json.dumps(status, sort_keys=True))
