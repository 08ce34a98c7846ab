"""The service behind the scheduler verbs and `explain`: reads one moment, evaluates the pod, and applies what follows from the decision.

A decision places an assumed pod, is logged, and tells the requeuer whether the pod waits. Arguments and results are typed values; the web
layer decodes and encodes them. Only `bind` writes to the API server, and only `bind` may block.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

from extender.decision.cycle.pod_groups import by_feasibility_in_group
from extender.decision.cycle.preemption import Candidate, preferred
from extender.decision.cycle.scheduling_cycle import (
    Evaluation,
    EvaluationContext,
    Moment,
    by_feasibility,
    by_rank,
    evaluate_pod,
    known_nodes,
)
from extender.decision.cycle.sent_nodes import with_sent_nodes
from extender.decision.evaluate.by_name.verdict_table import Unevaluated, VerdictTable
from extender.decision.evaluate.scorers import Ranker
from extender.decision.node.claims_on_node import all_on_view
from extender.decision.node.interned_states import with_extra_pods
from extender.decision.report.placement_record import placement_record_of
from extender.decision.request.kubernetes_objects import Node, Pod
from extender.decision.request.other_resources import others_needed
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Rejection
from extender.scheduling.assume import assumed_pod_of
from extender.scheduling.binder import NOT_SYNCED, Binder
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.decision_log import Decision, DecisionLog
from extender.scheduling.requeue import Requeuer
from extender.settings import Settings

STALE = "fabricwise has not reached the API server for too long to decide; try again, and check its log and network if this stays"

logger = logging.getLogger("fabricwise.verbs")


@dataclass(frozen=True, slots=True)
class NotDecided:
    """Why a verb has no answer now; kube-scheduler tries the pod again."""

    cause: str
    """Short, for the metric of errors."""
    message: str


_MOST_NEWLY_ASSUMED = 64

STILL_EVALUATING = "fabricwise still evaluates the nodes for a request that it has not seen before; try again"


class Foreign:
    """The answer about a pod of another scheduler: it is not evaluated, and every node passes."""


FOREIGN = Foreign()

SentNodes = Mapping[str, Node]
"""Whole Nodes of a call, by name."""

NO_SENT_NODES: SentNodes = MappingProxyType({})

_CYCLE_SECONDS = 5.0
"""The longest time between filter and prioritize of one scheduling cycle."""


class SchedulingService:
    """filter, prioritize, preempt, bind and explain over one cluster. Safe to be called from several threads."""

    def __init__(
        self,
        *,
        store: ClusterStore,
        context: EvaluationContext,
        ranker: Ranker,
        settings: Settings,
        log: DecisionLog,
        requeuer: Requeuer,
        binder: Binder,
    ) -> None:
        self.store, self.log = store, log
        self._context, self._ranker, self._settings = context, ranker, settings
        self._requeuer, self._binder = requeuer, binder
        self._rank = by_rank(ranker)
        self._table = VerdictTable(context.evaluator, ranker, threading.Lock())
        self._with_table = replace(context, table=self._table)
        """For the verbs that are called with thousands of nodes and must not block."""
        self.newly_assumed: deque[str] = deque(maxlen=_MOST_NEWLY_ASSUMED)
        """Nodes for which `evaluate_assumed` has work."""
        self._last_filter: tuple[str, Moment] | None = None
        """Pod key and moment of the last filter call; None where the cluster has no ResourceSlices."""
        self.recorder: Callable[[Decision], object] | None = None
        """Called with every decision; it must only append."""

    @property
    def resource(self) -> str:
        """The resource that counts GPUs."""
        return self._settings.resource

    @property
    def size_mix(self) -> Mapping[int, float]:
        """The mix of sizes that fragmentation is currently computed with: GPUs per container -> weight."""
        return self._context.evaluator.size_mix

    def moment(self) -> Moment:
        """Return the newest state, now."""
        return self.store.moment(time.monotonic())

    def filter(
        self, pod: Pod, names: Sequence[str], body_bytes: int, sent: SentNodes = NO_SENT_NODES
    ) -> Evaluation | NotDecided | Foreign | Unevaluated:
        """Return the evaluation of the pod on the named nodes, whose verdicts say which nodes can take it and why others cannot.

        `body_bytes` is the length of the request; it bounds the memory that the names take in the decision log. `sent`: Nodes of the
        call, of which those that the watch does not know are judged as sent. Unevaluated: call `evaluate` with it, which takes longer than
        the verbs may block, and then `filter` again.
        """
        started, mix = time.perf_counter(), self._context.evaluator.size_mix
        if self._is_foreign(pod):
            return FOREIGN
        moment = self.moment()
        not_decided = self._not_decided(moment)
        if not_decided is not None:
            return not_decided
        self.store.release(*moment.assumed_pods.reverted_by(pod.key))  # a new call replaces the earlier decision about the pod
        moment = replace(moment, assumed_pods=self.store.assumed_pods)
        self._last_filter = (pod.key, moment) if moment.snapshot.dra.slices_of else None
        decide = by_feasibility if pod.group is None else by_feasibility_in_group
        evaluation = evaluate_pod(*self._with_sent(moment, sent), pod, names, decide)
        if evaluation.unevaluated is not None:
            return evaluation.unevaluated
        self._log_decision(_Call("filter", body_bytes, started, mix, sent), pod, evaluation, moment)
        if evaluation.stall is not None:
            return NotDecided(evaluation.stall.name.lower(), evaluation.stall.value)
        self._assume(pod, evaluation, moment)
        self._update_requeuer(pod, evaluation)
        return evaluation

    def evaluate(self, unevaluated: Unevaluated) -> None:
        """Compute the verdicts that a filter or prioritize call lacks. Takes long; safe in another thread."""
        self._table.evaluate(unevaluated)

    def evaluate_assumed(self) -> None:
        """Evaluate the nodes on which pods were assumed lately, with these pods, for the latest demands: the next pod may ask for one.

        For another thread. A state that cannot be derived is left to the verb that needs it.
        """
        moment, evaluator = self.moment(), self._context.evaluator
        extra_pods = moment.assumed_pods.extra_pods(moment.snapshot, moment.monotonic_seconds, "")
        while self.newly_assumed:
            node = self.newly_assumed.popleft()
            view, demands = moment.snapshot.views.get(node), extra_pods.get(node)
            if view is not None and demands is not None:
                with suppress(Exception):
                    evaluator.evaluate_for_latest((with_extra_pods(view.state, all_on_view(demands, view), evaluator.decided_mix),))

    def prioritize(self, pod: Pod, names: Sequence[str], body_bytes: int, sent: SentNodes = NO_SENT_NODES) -> list[int] | Unevaluated:
        """Return a score from 0 to 10 for each named node, in order; 10 for one node alone.

        All scores are 0 for a pod of another scheduler, for one that requests no GPU, and before the cluster is listed. Unevaluated: as in
        `filter`.
        """
        started, mix = time.perf_counter(), self._context.evaluator.size_mix
        moment = self._moment_of_filter(pod, self.moment())
        if self._is_foreign(pod) or not moment.snapshot.synced:
            return [0] * len(names)
        evaluation = evaluate_pod(*self._with_sent(moment, sent), pod, names, self._rank, to_rank=True)
        if evaluation.unevaluated is not None:
            return evaluation.unevaluated
        if not evaluation.cycle.requests_gpus:
            return [0] * len(names)
        self._log_decision(_Call("prioritize", body_bytes, started, mix, sent), pod, evaluation, moment)
        self._assume(pod, evaluation, moment)
        return evaluation.scores()

    def preempt(self, pod: Pod, candidates: Sequence[Candidate]) -> Sequence[Candidate] | NotDecided:
        """Return the candidates whose eviction helps the pod and costs least, some of their victims spared; none vetoes preemption."""
        moment = self.moment()
        if self._is_foreign(pod):
            return candidates
        not_decided = self._not_decided(moment)
        if not_decided is not None:
            return not_decided
        cycle = evaluate_pod(self._context, moment, pod, ()).cycle  # `preferred` evaluates the nodes, without their victims
        if isinstance(cycle.demand, Rejection):
            return ()
        if not cycle.demand.may_hold_gpus:
            return candidates
        options = preferred(cycle, cycle.demand, candidates, others_needed(pod, self._settings.resource), self._context)
        meta = pod.metadata
        helping = "; ".join(f"{len(one.candidate.victims)} victims, {one.gpus} GPUs on {one.candidate.node}" for one in options)
        logger.info("preempt for %s/%s: %d candidates, %s", meta.namespace, meta.name, len(candidates), helping or "none helps")
        return [option.candidate for option in options]

    def bind(self, namespace: str, name: str, uid: str, node: str) -> str:
        """Bind a pod to a node; see `Binder.bind`. May block."""
        return self._binder.bind(namespace, name, uid, node)

    def explain(self, pod: Pod, moment: Moment, excluded: Collection[str] = ()) -> Evaluation:
        """Return the evaluation of the pod on all known nodes as prioritize makes it. It changes nothing.

        `excluded`: nodes that kube-scheduler's own filters refuse; they have a verdict and no rank.
        """
        return evaluate_pod(self._context, moment, pod, known_nodes(moment.snapshot), by_rank(self._ranker, excluded))

    def _moment_of_filter(self, pod: Pod, now: Moment) -> Moment:
        """Return the moment of the pod's filter call where Dynamic Resource Allocation serves nodes, else `now`.

        kube-scheduler chooses the devices right before it calls filter; devices that become free after that are not among them.
        """
        last = self._last_filter
        if last is None or last[0] != pod.key or now.monotonic_seconds - last[1].monotonic_seconds > _CYCLE_SECONDS:
            return now
        return replace(last[1], monotonic_seconds=now.monotonic_seconds)

    def _with_sent(self, moment: Moment, sent: SentNodes) -> tuple[EvaluationContext, Moment]:
        """Return what evaluates a request, and the moment with the views of Nodes that the call brings and the watch does not know."""
        if not sent:
            return self._with_table, moment
        snapshot = with_sent_nodes(moment.snapshot, sent, self._settings.resource, self.store.defaults)
        return self._context, replace(moment, snapshot=snapshot)

    def _is_foreign(self, pod: Pod) -> bool:
        return self._settings.is_foreign(pod.spec.scheduler_name)

    def _not_decided(self, moment: Moment) -> NotDecided | None:
        """Return why the state is not good enough to decide; None where it is."""
        if not moment.snapshot.synced:
            return NotDecided("not synced", NOT_SYNCED)
        if moment.snapshot.age_seconds(moment.monotonic_seconds) > self._settings.kube.max_state_age_seconds:
            return NotDecided("stale", STALE)
        return None

    def _assume(self, pod: Pod, evaluation: Evaluation, moment: Moment) -> None:
        """Count the pod on its decided node until the watch shows where it is."""
        node, verdict, demand = evaluation.decided_node, evaluation.decided_verdict, evaluation.cycle.demand
        ttl_seconds = self._settings.assumed_pods.ttl_seconds
        if node is None or verdict is None or isinstance(demand, Rejection) or not demand.may_hold_gpus or ttl_seconds <= 0:
            return
        record = placement_record_of(pod.key, node, verdict.evidence)
        self.store.assume(assumed_pod_of(pod, demand, verdict.evidence, record, moment.monotonic_seconds, ttl_seconds))
        self.newly_assumed.append(node)
        self.log.add_record(pod.key, record)

    def _update_requeuer(self, pod: Pod, evaluation: Evaluation) -> None:
        """A pod that is infeasible everywhere may fit later; a pod whose request is invalid cannot."""
        meta, demand = pod.metadata, evaluation.cycle.demand
        if evaluation.verdicts.feasible.any():
            self._requeuer.accepted(meta.uid)
        elif isinstance(demand, Demand):
            self._requeuer.rejected(meta.namespace or "default", meta.name, meta.uid, demand, evaluation.names)

    def _log_decision(self, call: _Call, pod: Pod, evaluation: Evaluation, moment: Moment) -> None:
        meta, snapshot, stall = pod.metadata, moment.snapshot, evaluation.stall
        decision = Decision(
            at_seconds=time.time(),
            verb=call.verb,
            pod=meta.name,
            namespace=meta.namespace or "default",
            uid=meta.uid,
            spec=pod,
            demand=evaluation.cycle.demand,
            names=evaluation.names,
            verdicts=evaluation.verdicts.without_values(),
            ranks=evaluation.ranks,
            body_bytes=call.body_bytes,
            took_seconds=time.perf_counter() - call.started,
            revision=snapshot.revision,
            decided=evaluation.decided,
            stall=stall.value if stall else None,
            state_age_seconds=snapshot.age_seconds(moment.monotonic_seconds),
            id=self.log.next_id(),
            moment=moment,
            mix=call.mix if call.mix is self._context.evaluator.size_mix else None,
            sent=call.sent,
        )
        self.log.add(decision)
        if self.recorder is not None:
            self.recorder(decision)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a verb, as the decision log has it."""

    verb: str
    body_bytes: int
    started: float
    """`time.perf_counter` at its start."""
    mix: Mapping[int, float]
    """The mix of sizes at its start."""
    sent: SentNodes
