"""Requeueing of a pending pod: an annotation that changes the pod, so that kube-scheduler moves it to its active queue.

An admission policy (manifests/base/requeue-only.yaml) allows the extender no other change of a pod.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from extender.kube.api_requests import ApiRequests
from topology.agent.publisher import ApiError

log = logging.getLogger("fabricwise.requeue")

REQUEUED_AT = "fabricwise.dev/requeued-at"
"""Annotation: time at which a rejection of the pod was last resolved."""


class RequeueAnnotation:
    """Writes the annotation."""

    def __init__(self, api: ApiRequests) -> None:
        self._api = api

    def requeue(self, namespace: str, name: str, uid: str) -> bool:
        """Patch the pod. Returns whether it was patched or no longer exists; False: try again later."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        patch = {"metadata": {"uid": uid, "annotations": {REQUEUED_AT: now}}}
        try:
            self._api.merge(f"/api/v1/namespaces/{namespace}/pods/{name}", patch)
        except ApiError as error:
            if error.status in (404, 409):
                return True
            log.warning("pod %s/%s not requeued: %s", namespace, name, error)
            return False
        return True
