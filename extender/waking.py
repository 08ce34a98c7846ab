"""Waking pods that we rejected everywhere, when telemetry or topology has cured that.

kube-scheduler tries a rejected pod again when a pod or a node changes, not when a GpuTopology or a gauge does: without a nudge it would
wait for the five-minute flush. Pods that a Kubernetes event wakes anyway are left to it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from extender.decision.cluster import Snapshot
from extender.decision.demand import Demand
from extender.decision.judge import Judge
from extender.live import LiveCluster
from extender.metrics import Metrics
from extender.reports import Reports
from extender.settings import Waking

log = logging.getLogger("fabricwise.waking")

MOST_NAMES = 64
"""Of a pod that was refused on more nodes, the names are not kept: five thousand pods times five thousand names are gigabytes."""

_MOST_FAILURES = 3
_MOST_DOUBLINGS = 6


@dataclass(slots=True)
class Waiting:
    """A pod that found no node."""

    namespace: str
    name: str
    uid: str
    demand: Demand
    nodes: frozenset[str] | None
    """That were asked about and refused; None: many, any may help."""
    woken_seconds: float | None = None
    wakes: int = 0
    """Times it was woken and rejected again: each doubles the pause."""
    failures: int = 0


class Waker:
    """Remembers rejected pods, and has those woken that a change of state helps. Nothing here is on a verb's path but `rejected`."""

    def __init__(self, live: LiveCluster, judge: Judge, settings: Waking, metrics: Metrics, reports: Reports) -> None:
        self._live, self._judge, self._settings, self._metrics, self._reports = live, judge, settings, metrics, reports
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._cured: queue.SimpleQueue[tuple[Snapshot, Snapshot, frozenset[str]]] = queue.SimpleQueue()
        self._due: OrderedDict[str, None] = OrderedDict()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> tuple[str, ...]:
        """The uids of the pods remembered, oldest first."""
        with self._lock:
            return tuple(self._waiting)

    def rejected(self, namespace: str, name: str, uid: str, demand: Demand, nodes: Sequence[str]) -> None:
        """A filter call left the pod without a node."""
        if not self._settings.enabled or self._reports.wake is None or not uid:
            return
        with self._lock:
            before = self._waiting.pop(uid, None)
            named = frozenset(nodes) if len(nodes) <= MOST_NAMES else None
            past = (before.woken_seconds, before.wakes) if before else (None, 0)
            self._waiting[uid] = Waiting(namespace, name, uid, demand, named, *past)
            while len(self._waiting) > self._settings.max_pods:
                self._waiting.popitem(last=False)

    def accepted(self, uid: str) -> None:
        """A filter call found the pod a node."""
        if uid in self._waiting:
            self.forget(uid)

    def forget(self, uid: str) -> None:
        """The pod waits no more."""
        with self._lock:
            self._waiting.pop(uid, None)
            self._due.pop(uid, None)

    def observe(self, before: Snapshot, after: Snapshot) -> None:
        """State has moved. Under the state's lock: only notes what may have cured something."""
        if not self._waiting:
            return
        moved = frozenset(name for name in after.changed if _unheard_of(name, before, after))
        if moved:
            self._cured.put((before, after, moved))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="waking", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        """Woken one by one, at the configured rate."""
        pause = 1.0 / self._settings.max_per_second
        while True:
            try:
                self._note_cured(*self._cured.get(timeout=0.2 if self._due else 5.0))
                while True:  # all that waits: each keeps two snapshots alive
                    self._note_cured(*self._cured.get_nowait())
            except queue.Empty:
                pass
            except Exception:  # a bug must not silently end the waking
                log.exception("waking: unexpected")
            if self._wake_next():
                time.sleep(pause)

    def _note_cured(self, before: Snapshot, after: Snapshot, moved: frozenset[str]) -> None:
        with self._lock:
            waiting = list(self._waiting.values())
        cured: dict[Demand, frozenset[str]] = {}
        for pod in waiting:
            if pod.demand not in cured:
                cured[pod.demand] = frozenset(name for name in moved if self._cures(pod.demand, before, after, name))
            if cured[pod.demand] if pod.nodes is None else cured[pod.demand] & pod.nodes:
                with self._lock:
                    if pod.uid in self._waiting:
                        self._due[pod.uid] = None

    def _cures(self, demand: Demand, before: Snapshot, after: Snapshot, name: str) -> bool:
        old, new = before.views.get(name), after.views.get(name)
        if old is None or new is None or old.state is new.state:
            return False
        return not self._judge.judge(demand, old.state).feasible and self._judge.judge(demand, new.state).feasible

    def _wake_next(self) -> bool:
        """Wake the pod that is due longest and still would fit; whether one was tried."""
        now = time.monotonic()
        with self._lock:
            due = [self._waiting[uid] for uid in self._due if uid in self._waiting]
        for pod in due:
            pause = self._settings.pod_pause_seconds * 2.0 ** min(pod.wakes - 1, _MOST_DOUBLINGS)
            if pod.woken_seconds is not None and now - pod.woken_seconds < pause:
                continue
            with self._lock:
                self._due.pop(pod.uid, None)
            if pod.uid in self._live.snapshot.pods:
                self.forget(pod.uid)
                continue
            if not self._fits(pod):
                continue
            self._wake(pod, now)
            return True
        return False

    def _fits(self, pod: Waiting) -> bool:
        """An earlier one may have taken the place meanwhile."""
        views = self._live.snapshot.views
        names = views if pod.nodes is None else [name for name in pod.nodes if name in views]
        return any(self._judge.judge(pod.demand, views[name].state).feasible for name in names)

    def _wake(self, pod: Waiting, now: float) -> None:
        pod.woken_seconds, pod.wakes = now, pod.wakes + 1
        wake = self._reports.wake
        done = wake is not None and wake(pod.namespace, pod.name, pod.uid)
        self._metrics.woken.labels("ok" if done else "failed").inc()
        if not done and pod.failures < _MOST_FAILURES:
            pod.failures += 1
            with self._lock:
                self._due[pod.uid] = None


def _unheard_of(name: str, before: Snapshot, after: Snapshot) -> bool:
    """Whether a node's state moved without an event that kube-scheduler hears: its Node and its pods are as they were."""
    old, new = before.views.get(name), after.views.get(name)
    if old is None or new is None or old.state is new.state:
        return False
    return old.pods == new.pods and before.nodes.get(name) is after.nodes.get(name)
