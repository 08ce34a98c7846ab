"""Events on pods, for what their owners should not have to look for."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

from extender.adapters.kube_objects import KubeObjects
from extender.decision.outcomes import Known
from topology.agent.publisher import ApiError

log = logging.getLogger("fabricwise.events")


def _log_bug(posted: Future[None]) -> None:
    """What a thread raises is otherwise heard by nobody."""
    error = posted.exception()
    if error is not None:
        log.error("event not posted: %s: %s", type(error).__name__, error)


class PodEvents:
    """Posts events from a thread of its own: who reports must not wait for the API server."""

    def __init__(self, api: KubeObjects) -> None:
        self._api = api
        self._posting = ThreadPoolExecutor(1, thread_name_prefix="events")

    def floor_missed(self, known: Known, floor_gbps: float) -> None:
        """A pod got less bandwidth than the floor it asked for."""
        gpus = ",".join(map(str, known.gpus))
        text = f"asked for {floor_gbps:g} GB/s all-reduce bandwidth, got GPUs {gpus} of {known.node}, which give {known.busbw_gbps:g}"
        self._posting.submit(self._post, known, "BandwidthBelowFloor", text).add_done_callback(_log_bug)

    def _post(self, known: Known, reason: str, text: str) -> None:
        """One name per pod and reason: of several replicas the first to post is heard, the others find it there."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{known.name}.{known.key[:8]}.{reason.lower()}", "namespace": known.namespace},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": known.name, "namespace": known.namespace, "uid": known.key},
            "reason": reason,
            "message": text,
            "type": "Warning",
            "source": {"component": "fabricwise"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self._api.create(f"/api/v1/namespaces/{known.namespace}/events", event)
        except ApiError as error:
            if error.status != 409:
                log.warning("event on pod %s/%s not posted: %s", known.namespace, known.name, error)
