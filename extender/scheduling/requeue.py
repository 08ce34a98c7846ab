"""Requeues pods that were infeasible everywhere, once telemetry or topology has resolved a rejection.

kube-scheduler tries a rejected pod again when a pod or a node changes, not when a GpuTopology or telemetry does: the pod would wait for
the flush after five minutes. Changes that kube-scheduler sees itself are left to it. Only a change within `LAG_SECONDS` of the rejection
requeues pods all the same, because kube-scheduler may have seen it before the rejection.

Which pods wait is read from their PodScheduled conditions; a rejection that this replica answered adds the names of the nodes. Only the
replica that leads requeues pods, and one that begins to lead evaluates all waiting pods.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from extender.decision.cycle.scheduling_cycle import EvaluationContext, demand_in
from extender.decision.node.claims_on_node import on_view
from extender.decision.node.node_state import NodeView
from extender.decision.request.pod_request import Demand
from extender.decision.state.pods import Pending
from extender.decision.state.snapshot import Snapshot
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.ports import ClusterWriter, Leadership
from extender.scheduling.set_aside_log import SetAsideLog
from extender.scheduling.supervision import Supervisor
from extender.settings import RequeueSettings

MOST_NAMES = 64
"""The names of a pod's nodes are kept up to this number: five thousand pods with five thousand names each are gigabytes."""

LAG_SECONDS = 1.0
"""How far kube-scheduler's state may be ahead of the extender's. 25 ms were measured; the rest is a margin."""

_MOST_FAILURES = 3
_MOST_DOUBLINGS = 6


@dataclass(slots=True)
class Waiting:
    """A pending pod that was infeasible on every node."""

    namespace: str
    name: str
    uid: str
    demand: Demand | None
    """None: to be read from the pending pod."""
    nodes: frozenset[str] | None
    """The nodes of the filter call; None: not known, or too many. Then any node may become feasible."""
    rejected_seconds: float = float("-inf")
    """When this replica rejected the pod last (monotonic)."""
    requeued_seconds: float | None = None
    requeues: int = 0
    """How often it was requeued: each time doubles the pause until the next."""
    failures: int = 0


class Requeuer:
    """Keeps the waiting pods, and requeues those that a change of state makes feasible. Verbs call `rejected` and `accepted` alone."""

    def __init__(
        self,
        *,
        store: ClusterStore,
        context: EvaluationContext,
        settings: RequeueSettings,
        metrics: Metrics,
        writer: ClusterWriter,
        leadership: Leadership,
        supervisor: Supervisor,
        set_aside: SetAsideLog,
    ) -> None:
        self._store, self._evaluator, self._resource = store, context.evaluator, context.resource
        self._settings, self._metrics, self._supervisor, self._set_aside = settings, metrics, supervisor, set_aside
        self._writer, self._leadership = writer, leadership
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._moved: queue.Queue[_Moved] = queue.Queue()
        self._last_rejected_seconds = float("-inf")
        self._led = leadership.is_leading()
        """As of the last check. A replica that leads from the start has no predecessor whose work it takes over."""
        self._grouped: dict[Demand, list[Waiting]] | None = None
        """The waiting pods by demand; None: to be grouped again. Filled by the requeue thread alone."""
        self._due: OrderedDict[str, None] = OrderedDict()
        self._thread: threading.Thread | None = None

    @property
    def _is_enabled(self) -> bool:
        return self._settings.enabled and not self._writer.is_read_only

    @property
    def waiting(self) -> tuple[str, ...]:
        """The uids of the waiting pods, the one rejected longest ago first."""
        with self._lock:
            return tuple(self._waiting)

    def rejected(self, namespace: str, name: str, uid: str, demand: Demand, nodes: Sequence[str]) -> None:
        """A filter call found no feasible node for the pod."""
        if not self._is_enabled or not uid:
            return
        named = frozenset(nodes) if len(nodes) <= MOST_NAMES else None
        with self._lock:
            now = self._last_rejected_seconds = time.monotonic()
            known = self._waiting.get(uid)
            if known is not None and known.demand == demand:
                known.nodes, known.rejected_seconds = named, now
                self._waiting.move_to_end(uid)
                return
            past = (known.requeued_seconds, known.requeues) if known else (None, 0)
            self._waiting.pop(uid, None)
            self._add(Waiting(namespace, name, uid, demand, named, now, *past))

    def _add(self, pod: Waiting) -> None:
        """Under the lock."""
        self._grouped = None
        self._waiting[pod.uid] = pod
        while len(self._waiting) > self._settings.max_pods:
            self._waiting.popitem(last=False)
        if self._thread is None:
            self._thread = self._supervisor.start("requeue", self._run)

    def accepted(self, uid: str) -> None:
        """A filter call found a feasible node for the pod."""
        if uid in self._waiting:
            self.forget(uid)

    def forget(self, uid: str) -> None:
        """Remove a pod that does not wait any more."""
        with self._lock:
            self._drop(uid)

    def _drop(self, uid: str) -> None:
        """Under the lock."""
        if self._waiting.pop(uid, None) is not None:
            self._grouped = None
        self._due.pop(uid, None)

    def observe(self, before: Snapshot, after: Snapshot) -> None:
        """Note which pods wait, and which nodes may have become feasible. Called under the state's lock; evaluates nothing."""
        if before.pending is not after.pending and self._is_enabled:
            self._note_pending(before, after)
        if not self._waiting:
            return
        moved = frozenset(name for name in after.changed if _has_moved(name, before, after))
        unseen = frozenset(name for name in moved if _is_unseen(name, before, after))
        now = time.monotonic()
        if unseen or (moved and now - self._last_rejected_seconds < LAG_SECONDS):
            self._moved.put(_Moved(before, after, moved, unseen, now))

    def _note_pending(self, before: Snapshot, after: Snapshot) -> None:
        """Only the pods that the last batch changed are looked at: thousands may be pending."""
        refused: list[Pending] = []
        with self._lock:
            for key in after.changed_pods:
                was, now = before.pending.get(key), after.pending.get(key)
                if now is None and was is not None:
                    self._drop(key)
                elif now is not None and now.refused and now is not was and key not in self._waiting:
                    refused.append(now)
            for pending in sorted(refused, key=lambda pending: (pending.pod.metadata.creation_timestamp or "", pending.pod.key)):
                meta = pending.pod.metadata
                self._add(Waiting(meta.namespace or "default", meta.name, pending.pod.key, None, None))

    def _run(self) -> None:
        """Requeue pods one by one, at the configured rate. An error about one pod or demand is set aside; the supervisor handles others."""
        pause = 1.0 / self._settings.max_per_second
        while True:
            try:
                self._check_leadership()
                self._note_resolved(self._moved.get(timeout=0.2 if self._due else 1.0))
                while True:  # empties the queue, because each entry keeps two snapshots alive
                    self._note_resolved(self._moved.get_nowait())
            except queue.Empty:
                pass
            if self._led and self._requeue_next():
                time.sleep(pause)

    def _check_leadership(self) -> None:
        """Where this replica begins to lead, note all waiting pods that fit now: the replica before may not have requeued them."""
        leads = self._leadership.is_leading()
        if leads and not self._led:
            with self._lock:
                waiting = list(self._waiting.values())
            fitting = [pod.uid for pod in waiting if self._fits(pod)]
            with self._lock:
                self._due |= dict.fromkeys(fitting)
        elif not leads:
            self._due.clear()
        self._led = leads

    def _note_resolved(self, moved: _Moved) -> None:
        if not self._led:
            return
        for demand, pods in self._by_demand().items():
            self._set_aside.guard("pods", "requeue", ", ".join(pod.uid for pod in pods[:3]), self._note_resolved_of, demand, pods, moved)

    def _note_resolved_of(self, demand: Demand, pods: list[Waiting], moved: _Moved) -> None:
        resolved = frozenset(name for name in moved.all if self._resolves(demand, moved.before, moved.after, name))
        for pod in pods if resolved else ():
            candidates = resolved if moved.seconds - pod.rejected_seconds < LAG_SECONDS else resolved & moved.unseen
            if candidates if pod.nodes is None else candidates & pod.nodes:
                with self._lock:
                    if pod.uid in self._waiting:
                        self._due[pod.uid] = None

    def _by_demand(self) -> dict[Demand, list[Waiting]]:
        """Return the waiting pods by demand: thousands of pods have few demands. Grouped again only after a pod was added or removed."""
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
        """Return what a pod asks for; None where the request is invalid, or the pod is not pending any more."""
        if pod.demand is None:
            snapshot = self._store.snapshot
            pending = snapshot.pending.get(pod.uid)
            try:
                demand = demand_in(snapshot, pending.pod, self._resource) if pending else None
            except Exception as error:  # an error about one pod must not keep other pods waiting
                self._set_aside.note("pods", "requeue", pod.uid, error)
                demand = None
            pod.demand = demand if isinstance(demand, Demand) else None
        return pod.demand

    def _resolves(self, demand: Demand, before: Snapshot, after: Snapshot, name: str) -> bool:
        old, new = before.views.get(name), after.views.get(name)
        if old is None or new is None or old.state is new.state:
            return False
        return not self._is_feasible(demand, old) and self._is_feasible(demand, new)

    def _is_feasible(self, demand: Demand, view: NodeView) -> bool:
        return self._evaluator.evaluate(on_view(demand, view), view.state).feasible

    def _requeue_next(self) -> bool:
        """Requeue the due pod that was noted first and still fits. Return whether one was tried."""
        now = time.monotonic()
        with self._lock:
            due = [self._waiting[uid] for uid in self._due if uid in self._waiting]
        for pod in due:
            pause = self._settings.pod_pause_seconds * 2.0 ** min(pod.requeues - 1, _MOST_DOUBLINGS)
            if pod.requeued_seconds is not None and now - pod.requeued_seconds < pause:
                continue
            with self._lock:
                self._due.pop(pod.uid, None)
            if pod.uid in self._store.snapshot.pods:
                self.forget(pod.uid)
                continue
            if not self._fits(pod):
                continue
            self._set_aside.guard("pods", "requeue", pod.uid, self._requeue_pod, pod, now)
            return True
        return False

    def _fits(self, pod: Waiting) -> bool:
        """Whether a node is feasible for the pod now; a pod requeued before may have taken the GPUs. False where the evaluation raises."""
        try:
            return self._would_fit(pod)
        except Exception as error:
            self._set_aside.note("pods", "requeue", pod.uid, error)
            return False

    def _would_fit(self, pod: Waiting) -> bool:
        demand, views = self._demand(pod), self._store.snapshot.views
        names = views if pod.nodes is None else [name for name in pod.nodes if name in views]
        return demand is not None and any(self._is_feasible(demand, views[name]) for name in names)

    def _requeue_pod(self, pod: Waiting, now: float) -> None:
        pod.requeued_seconds, pod.requeues = now, pod.requeues + 1
        done = self._writer.requeue(pod.namespace, pod.name, pod.uid)
        self._metrics.requeued.labels("ok" if done else "failed").inc()
        if not done and pod.failures < _MOST_FAILURES:
            pod.failures += 1
            with self._lock:
                self._due[pod.uid] = None


@dataclass(frozen=True, slots=True)
class _Moved:
    """Two successive snapshots, and the nodes whose state differs."""

    before: Snapshot
    after: Snapshot
    all: frozenset[str]
    unseen: frozenset[str]
    """Those whose change was no event that kube-scheduler sees."""
    seconds: float
    """Monotonic time of the change."""


def _has_moved(name: str, before: Snapshot, after: Snapshot) -> bool:
    old, new = before.views.get(name), after.views.get(name)
    return old is not None and new is not None and old.state is not new.state


def _is_unseen(name: str, before: Snapshot, after: Snapshot) -> bool:
    """Whether a node's state changed without an event that kube-scheduler sees: its Node and its pods are unchanged."""
    old, new = before.views.get(name), after.views.get(name)
    if old is None or new is None or old.state is new.state:
        return False
    return old.pods == new.pods and before.nodes.get(name) is after.nodes.get(name)
