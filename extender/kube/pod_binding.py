"""Binding pods to nodes on the API server. A binding is written with the pod's uid, so a pod that came back under the same name is never
bound by mistake; and whatever the API server answered, or did not, success is said only of a pod that is bound."""

from __future__ import annotations

from typing import Any

import msgspec

from extender.decision.request.kubernetes_objects import Pod
from extender.kube.api_requests import KubeObjects
from topology.agent.publisher import ApiError


class PodBinding:
    """Writes bindings. Safe for several threads."""

    def __init__(self, api: KubeObjects) -> None:
        self._api = api

    def bind(self, namespace: str, name: str, uid: str, node: str, annotations: dict[str, str]) -> str:
        """Bind the pod, with annotations that the API server puts on it in the same step. The empty string, or why it is not bound."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/binding"
        manifest = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "annotations": annotations},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            self._api.create(path, manifest)
        except ApiError as error:
            return self._made_sure(namespace, name, uid, node, error)
        return ""

    def _made_sure(self, namespace: str, name: str, uid: str, node: str, error: ApiError) -> str:
        """A refusal may mean that the pod is bound already, no answer may mean that it was bound all the same: look."""
        try:
            found = self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        except ApiError as second:
            return str(error) if second.status == 404 else f"{error}; and whether the pod is bound could not be seen: {second}"
        if found.get("metadata", {}).get("uid") != uid:
            return f"pod {namespace}/{name} has been replaced by another of that name"
        where = found.get("spec", {}).get("nodeName")
        if where == node:
            return ""
        return f"pod {namespace}/{name} is already bound to {where}" if where else str(error)

    def pod(self, namespace: str, name: str) -> Pod | str:
        """The pod as it is now, or why it cannot be had."""
        try:
            found: Any = self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
            return msgspec.convert(found, Pod, strict=False)
        except ApiError as error:
            return f"pod {namespace}/{name} is not there" if error.status == 404 else str(error)
        except msgspec.ValidationError as error:
            return f"pod {namespace}/{name}: {error}"
