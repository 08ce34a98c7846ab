"""Nudging a pending pod, so that kube-scheduler tries it again: an annotation of ours, nothing else.

An admission policy (manifests/base/requeue-only.yaml) holds the extender to that.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from extender.kube.api_requests import KubeObjects
from topology.agent.publisher import ApiError

log = logging.getLogger("fabricwise.requeue")

REQUEUED_AT = "fabricwise.dev/requeued-at"
"""Annotation: when a rejection of the pod was last cured."""


class RequeueAnnotation:
    """Patches pods."""

    def __init__(self, api: KubeObjects) -> None:
        self._api = api

    def requeue(self, namespace: str, name: str, uid: str) -> bool:
        """Whether the pod was patched, or is not there any more."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        patch = {"metadata": {"uid": uid, "annotations": {REQUEUED_AT: now}}}
        try:
            self._api.merge(f"/api/v1/namespaces/{namespace}/pods/{name}", patch)
        except ApiError as error:
            if error.status in (404, 409):
                return True
            log.warning("pod %s/%s not woken: %s", namespace, name, error)
            return False
        return True
