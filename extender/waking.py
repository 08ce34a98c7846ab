"""Waking pods that we rejected everywhere, when telemetry or topology has cured that.

kube-scheduler tries a rejected pod again when a pod or a node changes, not when a GpuTopology or a gauge does: without a nudge it would
wait for the five-minute flush. Pods that a Kubernetes event wakes anyway are left to it; but an event that reached us within moments of
the rejection may have reached kube-scheduler before it, and will not come again.

Which pods wait is known from the API alone, by kube-scheduler's own word on them; a rejection that this replica answered adds the names
asked about. Only the replica that leads wakes; one that begins to lead looks at all that wait.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from extender.decision.claims_on_node import for_node
from extender.decision.cluster import NodeView, Snapshot
from extender.decision.cycle import demand_in
from extender.decision.demand import Demand
from extender.decision.judge import Judge
from extender.live import LiveCluster
from extender.metrics import Metrics
from extender.reports import Reports
from extender.set_aside import SetAsideLog
from extender.settings import Waking
from extender.supervision import Supervisor

MOST_NAMES = 64
"""Of a pod that was refused on more nodes, the names are not kept: five thousand pods times five thousand names are gigabytes."""

LAG_SECONDS = 1.0
"""By so much kube-scheduler's view may be ahead of ours, with a wide margin: 25 ms were measured."""

_MOST_FAILURES = 3
_MOST_DOUBLINGS = 6


@dataclass(slots=True)
class Waiting:
    """A pod that found no node."""

    namespace: str
    name: str
    uid: str
    demand: Demand | None
    """None: to be read from the pod itself."""
    nodes: frozenset[str] | None
    """That were asked about and refused; None: many, or not known: any may help."""
    rejected_seconds: float = float("-inf")
    """When this replica refused it last (monotonic)."""
    woken_seconds: float | None = None
    wakes: int = 0
    """Times it was woken and rejected again: each doubles the pause."""
    failures: int = 0


class Waker:
    """Remembers rejected pods, and has those woken that a change of state helps. Nothing here is on a verb's path but `rejected`."""

    def __init__(
        self, live: LiveCluster, judge: Judge, settings: Waking, metrics: Metrics, reports: Reports, resource: str = "nvidia.com/gpu",
        supervisor: Supervisor | None = None, set_aside: SetAsideLog | None = None,
    ) -> None:  # fmt: skip
        self._supervisor, self._aside = supervisor or Supervisor(metrics), set_aside or SetAsideLog(metrics)
        self._resource = resource
        self._live, self._judge, self._settings, self._metrics, self._reports = live, judge, settings, metrics, reports
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._cured: queue.SimpleQueue[_Moved] = queue.SimpleQueue()
        self._last_rejected_seconds = float("-inf")
        self._led = False
        self._grouped: dict[Demand, list[Waiting]] | None = None
        """None: to be made anew. Filled by the waking thread alone."""
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
        named = frozenset(nodes) if len(nodes) <= MOST_NAMES else None
        with self._lock:
            now = self._last_rejected_seconds = time.monotonic()
            known = self._waiting.get(uid)
            if known is not None and known.demand == demand:
                known.nodes, known.rejected_seconds = named, now
                self._waiting.move_to_end(uid)
                return
            past = (known.woken_seconds, known.wakes) if known else (None, 0)
            self._waiting.pop(uid, None)
            self._add(Waiting(namespace, name, uid, demand, named, now, *past))

    def _add(self, pod: Waiting) -> None:
        """Under the lock."""
        self._grouped = None
        self._waiting[pod.uid] = pod
        while len(self._waiting) > self._settings.max_pods:
            self._waiting.popitem(last=False)
        if self._thread is None:
            self._thread = self._supervisor.start("waking", self._run)

    def accepted(self, uid: str) -> None:
        """A filter call found the pod a node."""
        if uid in self._waiting:
            self.forget(uid)

    def forget(self, uid: str) -> None:
        """The pod waits no more."""
        with self._lock:
            self._drop(uid)

    def _drop(self, uid: str) -> None:
        """Under the lock."""
        if self._waiting.pop(uid, None) is not None:
            self._grouped = None
        self._due.pop(uid, None)

    def observe(self, before: Snapshot, after: Snapshot) -> None:
        """State has moved. Under the state's lock: only notes who waits, and what may have cured something."""
        if before.pending is not after.pending and self._settings.enabled and self._reports.wake is not None:
            self._note_pending(before, after)
        if not self._waiting:
            return
        moved = frozenset(name for name in after.changed if _has_moved(name, before, after))
        unheard = frozenset(name for name in moved if _unheard_of(name, before, after))
        now = time.monotonic()
        if unheard or (moved and now - self._last_rejected_seconds < LAG_SECONDS):
            self._cured.put(_Moved(before, after, moved, unheard, now))

    def _note_pending(self, before: Snapshot, after: Snapshot) -> None:
        with self._lock:
            for key in before.pending.keys() - after.pending.keys():
                self._drop(key)
            for key, pending in after.pending.items():
                if pending.refused and key not in self._waiting and pending is not before.pending.get(key):
                    meta = pending.pod.metadata
                    self._add(Waiting(meta.namespace or "default", meta.name, key, None, None))

    def _run(self) -> None:
        """Woken one by one, at the configured rate. What raises for one pod or one demand is set aside; all else is for the supervisor."""
        pause = 1.0 / self._settings.max_per_second
        while True:
            try:
                self._lead()
                self._note_cured(self._cured.get(timeout=0.2 if self._due else 1.0))
                while True:  # all that waits: each keeps two snapshots alive
                    self._note_cured(self._cured.get_nowait())
            except queue.Empty:
                pass
            if self._led and self._wake_next():
                time.sleep(pause)

    def _lead(self) -> None:
        """Who begins to lead cannot know what the one before him still meant to wake."""
        leads = self._reports.is_leading
        if leads and not self._led:
            with self._lock:
                waiting = list(self._waiting.values())
            fitting = [pod.uid for pod in waiting if self._fits(pod)] if self._reports.leading is not None else []
            with self._lock:
                self._due |= dict.fromkeys(fitting)
        elif not leads:
            self._due.clear()
        self._led = leads

    def _note_cured(self, moved: _Moved) -> None:
        if not self._led:
            return
        for demand, pods in self._by_demand().items():
            self._aside.guard("pods", "requeue", ", ".join(pod.uid for pod in pods[:3]), self._note_cured_of, demand, pods, moved)

    def _note_cured_of(self, demand: Demand, pods: list[Waiting], moved: _Moved) -> None:
        cured = frozenset(name for name in moved.all if self._cures(demand, moved.before, moved.after, name))
        for pod in pods if cured else ():
            helped = cured if moved.seconds - pod.rejected_seconds < LAG_SECONDS else cured & moved.unheard
            if helped if pod.nodes is None else helped & pod.nodes:
                with self._lock:
                    if pod.uid in self._waiting:
                        self._due[pod.uid] = None

    def _by_demand(self) -> dict[Demand, list[Waiting]]:
        """Who waits, by what they ask for: thousands of pods ask for a few things. Made anew only where somebody came or went."""
        with self._lock:
            grouped, waiting = self._grouped, list(self._waiting.values()) if self._grouped is None else []
            if grouped is None:
                self._grouped = grouped = {}
        for pod in waiting:
            demand = self._demand(pod)
            if demand is not None:
                grouped.setdefault(demand, []).append(pod)
        return grouped

    def _demand(self, pod: Waiting) -> Demand | None:
        """What a pod asks for; None where that makes no sense, or the pod is not there any more."""
        if pod.demand is None:
            snapshot = self._live.snapshot
            pending = snapshot.pending.get(pod.uid)
            try:
                found = demand_in(snapshot, pending.pod, self._resource) if pending else None
            except Exception as error:  # this pod waits for its own events; the others are looked at
                self._aside.note("pods", "requeue", pod.uid, error)
                found = None
            pod.demand = found if isinstance(found, Demand) else None
        return pod.demand

    def _cures(self, demand: Demand, before: Snapshot, after: Snapshot, name: str) -> bool:
        old, new = before.views.get(name), after.views.get(name)
        if old is None or new is None or old.state is new.state:
            return False
        return not self._is_feasible(demand, old, before) and self._is_feasible(demand, new, after)

    def _is_feasible(self, demand: Demand, view: NodeView, snapshot: Snapshot) -> bool:
        return self._judge.judge(for_node(demand, view, snapshot.dra), view.state).feasible

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
            self._aside.guard("pods", "requeue", pod.uid, self._wake, pod, now)
            return True
        return False

    def _fits(self, pod: Waiting) -> bool:
        """Whether a node would take the pod now; an earlier one may have taken the place meanwhile. False where that cannot be told."""
        try:
            return self._would_fit(pod)
        except Exception as error:
            self._aside.note("pods", "requeue", pod.uid, error)
            return False

    def _would_fit(self, pod: Waiting) -> bool:
        demand, snapshot = self._demand(pod), self._live.snapshot
        views = snapshot.views
        names = views if pod.nodes is None else [name for name in pod.nodes if name in views]
        return demand is not None and any(self._is_feasible(demand, views[name], snapshot) for name in names)

    def _wake(self, pod: Waiting, now: float) -> None:
        pod.woken_seconds, pod.wakes = now, pod.wakes + 1
        wake = self._reports.wake
        done = wake is not None and wake(pod.namespace, pod.name, pod.uid)
        self._metrics.woken.labels("ok" if done else "failed").inc()
        if not done and pod.failures < _MOST_FAILURES:
            pod.failures += 1
            with self._lock:
                self._due[pod.uid] = None


@dataclass(frozen=True, slots=True)
class _Moved:
    """Two snapshots, one after the other, and the nodes whose state differs."""

    before: Snapshot
    after: Snapshot
    all: frozenset[str]
    unheard: frozenset[str]
    """Those of them of which kube-scheduler heard nothing."""
    seconds: float


def _has_moved(name: str, before: Snapshot, after: Snapshot) -> bool:
    old, new = before.views.get(name), after.views.get(name)
    return old is not None and new is not None and old.state is not new.state


def _unheard_of(name: str, before: Snapshot, after: Snapshot) -> bool:
    """Whether a node's state moved without an event that kube-scheduler hears: its Node and its pods are as they were."""
    old, new = before.views.get(name), after.views.get(name)
    if old is None or new is None or old.state is new.state:
        return False
    return old.pods == new.pods and before.nodes.get(name) is after.nodes.get(name)
