"""Running a CUDA sample on one node, in a pod pinned there, with a deadline; the pod is taken away again whatever happens."""

from __future__ import annotations

import time
import uuid
from typing import Any

from extender.adapters.kube_objects import KubeObjects
from topology.agent.publisher import ApiError

POLL_SECONDS = 0.5


def smoke(api: KubeObjects, node: str, image: str, resource: str, namespace: str, deadline_seconds: float) -> tuple[bool, str]:
    """(passed, evidence). The pod's own deadline ends it too, should we be cut off."""
    name = f"fabricwise-smoke-{uuid.uuid4().hex[:10]}"
    path = f"/api/v1/namespaces/{namespace}/pods"
    try:
        api.create(path, smoke_pod(name, node, image, resource, namespace, int(deadline_seconds)))
    except ApiError as error:
        return False, f"pod not created: {error}"
    result = _watched(api, f"{path}/{name}", image, deadline_seconds)
    try:
        api.delete(f"{path}/{name}")
    except ApiError as error:
        if error.status != 404:  # worse than how the sample went
            return False, f"pod {namespace}/{name} could not be deleted: {error}"
    return result


def _watched(api: KubeObjects, path: str, image: str, deadline_seconds: float) -> tuple[bool, str]:
    started, status = time.monotonic(), dict[str, Any]()
    try:
        while time.monotonic() - started < deadline_seconds:
            status = api.get(path).get("status", {})
            if status.get("phase") in ("Succeeded", "Failed"):
                took = time.monotonic() - started
                return status["phase"] == "Succeeded", f"{image} {status['phase'].lower()} after {took:.1f} s{_why(status)}"
            time.sleep(POLL_SECONDS)
    except ApiError as error:
        return False, f"lost sight of the pod: {error}"
    return False, f"{image} did not end within {deadline_seconds:g} s{_why(status)}"


def smoke_pod(name: str, node: str, image: str, resource: str, namespace: str, deadline_seconds: int) -> dict[str, Any]:
    """One GPU, on that node whatever the scheduler thinks, through any taint."""
    container = {"name": "sample", "image": image, "resources": {"limits": {resource: "1"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": "fabricwise-smoke"}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": max(1, deadline_seconds),
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
        },
    }


def _why(status: dict[str, Any]) -> str:
    parts = [str(status.get(key)) for key in ("reason", "message") if status.get(key)]
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or (container.get("state") or {}).get("terminated") or {}
        parts += [str(waiting[key]) for key in ("reason", "message") if waiting.get(key)]
    return f": {', '.join(parts)[:300]}" if parts else ""
