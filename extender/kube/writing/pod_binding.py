"""Binding pods to nodes on the API server.

A binding carries the pod's uid, so that a new pod of the same name is not bound by mistake. After a failed or unanswered request the pod
is read again: the result is success only if the pod is bound to the node.
"""

from __future__ import annotations

from typing import Any

import msgspec

from extender.decision.request.kubernetes_objects import Pod
from extender.kube.api_requests import ApiRequests
from topology.agent.publisher import ApiError


class PodBinding:
    """Writes bindings. Safe for several threads."""

    def __init__(self, api: ApiRequests) -> None:
        self._api = api

    def bind(self, namespace: str, name: str, uid: str, node: str, annotations: dict[str, str]) -> str:
        """Bind the pod, with annotations that the API server adds to it in the same request.

        Returns the empty string, or why the pod is not bound.
        """
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
            return self._verified(namespace, name, uid, node=node, error=error)
        return ""

    def _verified(self, namespace: str, name: str, uid: str, *, node: str, error: ApiError) -> str:
        """Return the result of a binding that failed with `error`, after reading the pod.

        A refusal can mean that the pod is already bound; without an answer, the binding may have succeeded.
        """
        try:
            pod = self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        except ApiError as read_error:
            return str(error) if read_error.status == 404 else f"{error}; and whether the pod is bound could not be read: {read_error}"
        if pod.get("metadata", {}).get("uid") != uid:
            return f"pod {namespace}/{name} has been replaced by another of that name"
        bound_to = pod.get("spec", {}).get("nodeName")
        if bound_to == node:
            return ""
        return f"pod {namespace}/{name} is already bound to {bound_to}" if bound_to else str(error)

    def pod(self, namespace: str, name: str) -> Pod | str:
        """Return the current pod, or why it cannot be read."""
        try:
            manifest: Any = self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
            return msgspec.convert(manifest, Pod, strict=False)
        except ApiError as error:
            return f"pod {namespace}/{name} does not exist" if error.status == 404 else str(error)
        except msgspec.ValidationError as error:
            return f"pod {namespace}/{name}: {error}"
