"""Events on pods, for what their owners should not have to look for."""

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from extender.adapters.kube_objects import KubeObjects
from extender.decision.holdings import BoundPod
from extender.decision.outcomes import Known
from extender.decision.record import Record
from topology.agent.publisher import ApiError

log = logging.getLogger("fabricwise.events")


def _log_bug(posted: Future[None]) -> None:
    """What a thread raises is otherwise heard by nobody."""
    error = posted.exception()
    if error is not None:
        log.error("event not posted: %s: %s", type(error).__name__, error)


MOST_WAITING = 5_000
"""Events that wait for an API server that does not answer; further ones are dropped, and said so."""


@dataclass(frozen=True, slots=True)
class _About:
    """The pod an event is about."""

    namespace: str
    name: str
    uid: str


class PodEvents:
    """Posts events from a thread of its own: who reports must not wait for the API server."""

    def __init__(self, api: KubeObjects) -> None:
        self._api = api
        self._posting = ThreadPoolExecutor(1, thread_name_prefix="events")
        self._waiting = 0

    def floor_missed(self, known: Known, floor_gbps: float) -> None:
        """A pod got less bandwidth than the floor it asked for."""
        gpus = ",".join(map(str, known.gpus))
        text = f"asked for {floor_gbps:g} GB/s all-reduce bandwidth, got GPUs {gpus} of {known.node}, which give {known.busbw_gbps:g}"
        self._submit(_About(known.namespace, known.name, known.key), "BandwidthBelowFloor", "Warning", text)

    def placed(self, pod: BoundPod, record: Record) -> None:
        """What was decided for a pod, now that it is bound."""
        self._submit(_About(pod.namespace, pod.name, pod.key), "GpusPredicted", "Normal", record.as_sentence())

    def _submit(self, about: _About, reason: str, kind: str, text: str) -> None:
        if self._waiting >= MOST_WAITING:
            log.warning("event on pod %s/%s dropped: %d others wait for the API server", about.namespace, about.name, self._waiting)
            return
        self._waiting += 1
        self._posting.submit(self._post, about, reason, kind, text).add_done_callback(self._done)

    def _done(self, posted: Future[None]) -> None:
        self._waiting -= 1
        _log_bug(posted)

    def _post(self, about: _About, reason: str, kind: str, text: str) -> None:
        """One name per pod and reason: should two replicas both think they lead, the first is heard and the other finds it there."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about.name}.{about.uid[:8]}.{reason.lower()}", "namespace": about.namespace},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": about.name, "namespace": about.namespace, "uid": about.uid},
            "reason": reason,
            "message": text,
            "type": kind,
            "source": {"component": "fabricwise"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self._api.create(f"/api/v1/namespaces/{about.namespace}/events", event)
        except ApiError as error:
            if error.status != 409:
                log.warning("event on pod %s/%s not posted: %s", about.namespace, about.name, error)
