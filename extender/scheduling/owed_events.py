"""Events that are owed to pods: one on what was predicted, and one where a pod got less bandwidth than it demands.

Only the replica that holds the Lease posts events. While no replica does (a restart, a failover) pods are bound all the same, so each
replica keeps the events that it would post for a while, and posts them when it begins to lead. An event's name is made of the pod's uid
and the reason, so the API server accepts an event that two replicas post only once.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from extender.decision.cycle.scheduling_cycle import EvaluationContext, demand_in
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.report.placement_record import PlacementRecord, placement_record_of
from extender.decision.report.prediction_outcomes import Known
from extender.decision.request.reasons import Rejection
from extender.decision.state.leaving_pods import without_pods
from extender.decision.state.snapshot import Snapshot
from extender.scheduling.decision_log import DecisionLog
from extender.scheduling.ports import ClusterWriter, Leadership
from extender.scheduling.set_aside_log import SetAsideLog
from extender.settings import Settings

MOST_OWED = 2_000
"""Events that are kept until this replica leads; with more, the oldest are dropped."""

OWED_SECONDS = 900.0
"""How long an event is owed. The API server keeps events for an hour by default, so it recognizes every event that it already has."""

MOST_AT_ONCE = 20
"""Predictions that are reconstructed per change of state: each takes some milliseconds under the state's lock."""

Reason = str


@dataclass(frozen=True, slots=True)
class _Owed:
    """An event to be posted."""

    since_seconds: float
    """Monotonic time."""
    post: Callable[[], None] | None
    """Posts it; None: the prediction has to be reconstructed from `snapshot`."""
    snapshot: Snapshot | None = None


class OwedEvents:
    """Events that this replica has not posted. Not thread-safe: `observe` and `floor_missed` are called under the state's lock."""

    def __init__(
        self,
        *,
        log: DecisionLog,
        context: EvaluationContext,
        settings: Settings,
        writer: ClusterWriter,
        leadership: Leadership,
        set_aside: SetAsideLog,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives monotonic seconds, `wall_clock` Unix time."""
        self._log, self._context, self._settings = log, context, settings
        self._writer, self._leadership, self._set_aside = writer, leadership, set_aside
        self._clock, self._wall_clock = clock, wall_clock
        self._owed: OrderedDict[tuple[str, Reason], _Owed] = OrderedDict()

    def __len__(self) -> int:
        return len(self._owed)

    def floor_missed(self, known: Known, floor_gbps: float, before: Snapshot, after: Snapshot) -> None:
        """Owe an event on a pod that got less bandwidth than it demands; of the pods in the first list only on those bound recently."""
        bound = after.pods.get(known.key)
        if bound is not None and not self._writer.is_read_only and (before.synced or self._is_young(bound)):
            self._owe(known.key, "floor missed", lambda: self._writer.post_floor_missed(known, floor_gbps))

    def observe(self, before: Snapshot, after: Snapshot) -> None:
        """Owe events on the pods that have just been bound, and post the owed events if this replica leads."""
        if not self._writer.is_read_only:
            if before.pods is not after.pods:
                self._owe_for_pending_pods(before, after)
            if after.synced and (not before.synced or "pods" in before.watch_lost_at):
                self._owe_for_pods_bound_unseen(before, after)
        if self._owed:
            self._post(after)

    def _owe_for_pending_pods(self, before: Snapshot, after: Snapshot) -> None:
        """Pods that were pending and are bound. Where another replica decided, the state before gives the same record as its own."""
        for key in sorted(key for key in after.changed_pods if key in before.pending and key not in after.pending):
            self._set_aside.guard("pods", "observe", key, self._owe_placement, before, after, key)

    def _owe_placement(self, before: Snapshot, after: Snapshot, key: str) -> None:
        pending_pod, bound = before.pending[key].pod, after.pods.get(key)
        if bound is None or not self._is_ours(bound):
            return
        record = self._log.record(key)
        if record is None or record.node != bound.node:
            view, demand = before.views.get(bound.node), demand_in(before, pending_pod, self._settings.resource)
            if view is None or isinstance(demand, Rejection):
                return
            record = placement_record_of(key, bound.node, self._context.evaluator.evaluate(demand, view.state).evidence)
        self._owe(key, "placed", self._placed(bound, record))

    def _owe_for_pods_bound_unseen(self, before: Snapshot, after: Snapshot) -> None:
        """Pods bound recently while this replica had not started or its watch was lost: maybe no replica led then."""
        known = before.pods if before.synced else {}
        for key in [key for key in after.pods if key not in before.pending and key not in known]:
            bound = after.pods[key]
            if self._is_ours(bound) and self._is_young(bound):
                self._owe(key, "placed", None, after)

    def _post(self, after: Snapshot) -> None:
        oldest = self._clock() - OWED_SECONDS
        while self._owed and next(iter(self._owed.values())).since_seconds < oldest:
            self._owed.popitem(last=False)
        if self._leadership.is_leading():
            for key, reason in [*self._due()]:
                self._set_aside.guard("pods", "observe", key, self._post_one, self._owed.pop((key, reason)), after.pods.get(key))

    def _post_one(self, owed: _Owed, bound: BoundPod | None) -> None:
        post = owed.post or (self._reconstructed(owed.snapshot, bound) if owed.snapshot and bound else None)
        if bound is not None and post is not None:
            post()

    def _due(self) -> Iterator[tuple[str, Reason]]:
        """Yield the events to post now: all that are ready, and some of those that have to be reconstructed."""
        reconstructed = 0
        for name, owed in self._owed.items():
            reconstructed += owed.post is None
            if owed.post is not None or reconstructed <= MOST_AT_ONCE:
                yield name

    def _reconstructed(self, snapshot: Snapshot, bound: BoundPod) -> Callable[[], None] | None:
        """Predict from the node's state without the pod and the pods admitted after it; None where the node is not known."""
        view = snapshot.views.get(bound.node)
        if view is None:
            return None
        later = frozenset(pod.key for pod in view.pods if pod.admission_order >= bound.admission_order)
        state = without_pods(snapshot, bound.node, later, self._context.resource, self._context.defaults)
        if state is None:
            return None
        evidence = self._context.evaluator.evaluate(bound.demand, state).evidence
        return self._placed(bound, replace(placement_record_of(bound.key, bound.node, evidence), is_reconstructed=True))

    def _placed(self, bound: BoundPod, record: PlacementRecord) -> Callable[[], None]:
        return lambda: self._writer.post_placement(bound, record)

    def _owe(self, key: str, reason: Reason, post: Callable[[], None] | None, snapshot: Snapshot | None = None) -> None:
        self._owed[key, reason] = _Owed(self._clock(), post, snapshot)
        if len(self._owed) > MOST_OWED:
            self._owed.popitem(last=False)

    def _is_ours(self, bound: BoundPod) -> bool:
        """Whether the pod is not of another scheduler, and its binding does not carry the record already."""
        return not bound.recorded and not self._settings.is_foreign(bound.scheduler)

    def _is_young(self, bound: BoundPod) -> bool:
        """Whether the pod was bound within `OWED_SECONDS`; False where that is unknown."""
        try:
            scheduled = datetime.fromisoformat(bound.scheduled)
        except ValueError:
            return False
        seconds = (scheduled if scheduled.tzinfo else scheduled.replace(tzinfo=UTC)).timestamp()
        return self._wall_clock() - seconds <= OWED_SECONDS
