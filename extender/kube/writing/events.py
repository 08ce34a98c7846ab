"""Events on pods: the placement of a pod, and a bandwidth below the floor that it requested."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.report.placement_record import PlacementRecord
from extender.decision.report.prediction_outcomes import Known
from extender.kube.api_requests import ApiRequests
from topology.agent.publisher import ApiError

log = logging.getLogger("fabricwise.events")


def _log_bug(posted: Future[None]) -> None:
    """Log an exception of the posting thread, which the executor would discard."""
    error = posted.exception()
    if error is not None:
        log.error("event not posted: %s: %s", type(error).__name__, error)


MOST_NAME = 200
"""Characters of the pod's name in the event's name, which also has uid and reason and must not exceed 253 characters."""

RETRY_SECONDS = (1.0, 4.0)
"""Pauses before further attempts to post an event, after no answer, status 429 or status 5xx."""

MOST_WAITING = 5_000
"""Most events that wait for an API server that does not answer; further ones are dropped with a log line."""


COLLECT_SECONDS = 0.1
"""How long events are collected before they are posted: one event each time costs twice the CPU time, most of it to change threads."""


@dataclass(frozen=True, slots=True)
class _About:
    """The pod that an event is about."""

    namespace: str
    name: str
    uid: str


class PodEvents:
    """Posts events from its own thread, so that callers do not wait for the API server."""

    def __init__(self, api: ApiRequests, sleep: Callable[[float], None] = time.sleep) -> None:
        self._api, self._sleep = api, sleep
        self._posting = ThreadPoolExecutor(1, thread_name_prefix="events")
        self._lock = threading.Lock()
        self._queue: list[tuple[_About, str, str, str]] = []
        """(pod, reason, type, text) of the events that the next run of `_post_all` posts."""
        self._waiting = 0
        """Events that are not posted yet."""

    def floor_missed(self, known: Known, floor_gbps: float) -> None:
        """Report that a pod got less bandwidth than the floor that it requested."""
        gpus = ",".join(map(str, known.gpus))
        text = f"asked for {floor_gbps:g} GB/s all-reduce bandwidth, got GPUs {gpus} of {known.node}, which give {known.busbw_gbps:g}"
        self._submit(_About(known.namespace, known.name, known.key), "BandwidthBelowFloor", "Warning", text)

    def placed(self, pod: BoundPod, record: PlacementRecord) -> None:
        """Report the decision for a pod that is now bound."""
        self._submit(_About(pod.namespace, pod.name, pod.key), "GpusPredicted", "Normal", record.as_sentence())

    def _submit(self, about: _About, reason: str, kind: str, text: str) -> None:
        with self._lock:
            if self._waiting >= MOST_WAITING:
                log.warning("event on pod %s/%s dropped: %d others wait for the API server", about.namespace, about.name, self._waiting)
                return
            self._waiting += 1
            self._queue.append((about, reason, kind, text))
            is_first = len(self._queue) == 1
        if is_first:
            self._posting.submit(self._post_all).add_done_callback(_log_bug)

    def _post_all(self) -> None:
        """Collect events for `COLLECT_SECONDS`, and post them one after another."""
        time.sleep(COLLECT_SECONDS)
        with self._lock:
            queue, self._queue = self._queue, []
        for event in queue:
            try:
                self._post(*event)
            except Exception as error:  # an error about one event must not lose the others
                log.error("event not posted: %s: %s", type(error).__name__, error)
            finally:
                with self._lock:
                    self._waiting -= 1

    def _post(self, about: _About, reason: str, kind: str, text: str) -> None:
        """Create the event. Its name is unique per pod and reason, so that two replicas that both lead for a moment create one event."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        prefix = about.name[:MOST_NAME].rstrip(".-")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{prefix}.{about.uid[:8]}.{reason.lower()}", "namespace": about.namespace},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": about.name, "namespace": about.namespace, "uid": about.uid},
            "reason": reason,
            "message": text,
            "type": kind,
            "source": {"component": "fabricwise"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        for pause in (*RETRY_SECONDS, None):
            error = self._attempt(f"/api/v1/namespaces/{about.namespace}/events", event)
            if error is None:
                return
            if pause is None or not (error.status in (0, 429) or error.status >= 500):
                log.warning("event on pod %s/%s not posted: %s", about.namespace, about.name, error)
                return
            self._sleep(pause)

    def _attempt(self, path: str, event: dict[str, Any]) -> ApiError | None:
        """Post the event once. Returns None if it exists now, created by this replica or another one; else the error."""
        try:
            self._api.create(path, event)
        except ApiError as error:
            return None if error.status == 409 else error
        return None
