"""The scheduling cycle of one pod: what it asks for, what is known, how nodes are evaluated and which node is decided. Pure.

`evaluate_pod` serves every verb and `explain`; the verbs differ in the function that decides: `by_feasibility` for filter and bind,
`by_rank` for prioritize and explain. Preempt takes the cycle alone, because it evaluates nodes without their victims.

kube-scheduler filters by its own count of GPUs before it calls the extender, and its state is some milliseconds ahead of the extender's.
Where only this lead explains a call about a node that seems full, filter answers neither yes nor no: see `Stall`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations

import numpy as np

from extender.decision.cycle.assumed_pods import AssumedPods, nominees, rank_of, together
from extender.decision.dra.claim_requests import pod_claims
from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts
from extender.decision.evaluate.by_name.verdict_table import Unevaluated, VerdictTable
from extender.decision.evaluate.evaluator import Evaluator, evaluate_nodes, evaluate_with_extra_pods
from extender.decision.evaluate.scorers import NO_RANKS, TOP_SCORE, Ranker, Ranks
from extender.decision.evaluate.verdict import Verdict
from extender.decision.node.claims_on_node import all_on_view, on_view
from extender.decision.node.node_state import NodeDefaults, NodeView
from extender.decision.request.inferred_workload import with_inference
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand, classified, demand_of
from extender.decision.request.reasons import Reason, Rejection
from extender.decision.state.leaving_pods import without_pods
from extender.decision.state.pods import NO_EXTRA_PODS, ExtraPods
from extender.decision.state.snapshot import Snapshot

MOST_GOING = 6
"""Terminating pods of a node of which every combination is evaluated; with more, only the case that all are gone."""

_BY_TELEMETRY = (Reason.MEMORY_IN_USE, Reason.TELEMETRY_UNKNOWN)
"""Rejections that the last scrape may still cause on a device whose pod has been evicted since."""


class Stall(StrEnum):
    """Why filter has no answer yet. kube-scheduler tries the pod again, and the next call has one."""

    LAGGING = "fabricwise does not yet see the GPUs free that were nominated to this pod; try again"
    CLAIM = "fabricwise does not yet see a ResourceClaim of this pod; try again"
    HELD = "pods that were decided a moment ago stand in the way until their bindings are seen; try again"


@dataclass(frozen=True, slots=True)
class EvaluationContext:
    """What an evaluation needs beside the state: the evaluator, the name of the GPU resource, and the defaults of nodes."""

    evaluator: Evaluator
    resource: str
    defaults: NodeDefaults
    table: VerdictTable | None = None
    """Verdicts by name, for requests about thousands of nodes. With it an evaluation can be `Unevaluated`."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The state at one moment: what the watch has shown, the assumed pods, and the monotonic time."""

    snapshot: Snapshot
    assumed_pods: AssumedPods
    monotonic_seconds: float


@dataclass(frozen=True, slots=True)
class SchedulingCycle:
    """A pod, and the pods that count on nodes beside those of the snapshot."""

    snapshot: Snapshot
    key: str
    """The pod's uid, or its namespace and name where it has none."""
    priority: int
    nominated: str | None
    """The node that preemption has nominated for the pod."""
    demand: Demand | Rejection
    assumed: ExtraPods
    """Assumed pods that the snapshot does not show yet."""
    extra_pods: ExtraPods
    """The assumed pods, and the nominated pods that this pod must leave room for."""

    @property
    def requests_gpus(self) -> bool:
        """Whether the pod's request is valid, and it requests a whole GPU, or by claims devices that are GPUs on some node."""
        demand = self.demand
        if not isinstance(demand, Demand) or not demand.may_hold_gpus:
            return False
        return bool(demand.total) or any(on_view(demand, view).total for view in self.snapshot.views.values() if view.dra is not None)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A pod evaluated on nodes at one moment, and what is decided."""

    cycle: SchedulingCycle
    names: NodeNames
    """The nodes that were evaluated; empty where the pod needs no evaluation."""
    verdicts: NodeVerdicts
    """One per name, in order."""
    ranks: Ranks = NO_RANKS
    decided: int | None = None
    """The position in `names` of the node that the pod will be bound to: the only feasible one, or the one with the top score."""
    stall: Stall | None = None
    unevaluated: Unevaluated | None = None
    """What must be evaluated before there are verdicts; then `names` and `verdicts` are empty and nothing is decided."""

    @property
    def decided_node(self) -> str | None:
        """The name of the decided node; None where no node is decided."""
        return None if self.decided is None else self.names[self.decided]

    @property
    def decided_verdict(self) -> Verdict | None:
        """The verdict on the decided node; None where no node is decided."""
        return None if self.decided is None else self.verdicts[self.decided]

    def scores(self) -> list[int]:
        """The score of each name in order, 0 to 10: 10 on the decided node alone, 0 where the node is infeasible."""
        scores = np.minimum(self.ranks.scores, TOP_SCORE - 1)
        if self.decided is not None:
            scores[self.decided] = TOP_SCORE
        listed: list[int] = scores.tolist()
        return listed


_NO_NAMES, _NO_VERDICTS = NodeNames(()), NodeVerdicts.of(())

Decide = Callable[[Evaluation, EvaluationContext], Evaluation]
"""Adds what is decided to an evaluation that has verdicts alone."""


def undecided(evaluation: Evaluation, _context: EvaluationContext) -> Evaluation:
    """Decide nothing."""
    return evaluation


def evaluate_pod(
    context: EvaluationContext,
    moment: Moment,
    pod: Pod,
    names: Sequence[str],
    decide: Decide = undecided,
    *,
    is_decided: bool = False,
    to_rank: bool = False,
) -> Evaluation:
    """Return the evaluation of a pod on nodes: begin its cycle, evaluate the nodes, decide.

    `is_decided`: see `begin`. `to_rank`: the nodes will be ranked; a pod that requests no whole GPU, or whose request is invalid, is
    evaluated on no node.
    """
    cycle = begin(moment.snapshot, moment.assumed_pods, pod, context.resource, moment.monotonic_seconds, is_decided=is_decided)
    if to_rank and not cycle.requests_gpus:
        return Evaluation(cycle, _NO_NAMES, _NO_VERDICTS)
    node_names = NodeNames.of(names)
    if context.table is None or isinstance(cycle.demand, Rejection):
        verdicts = evaluate_nodes(context.evaluator, cycle.snapshot, cycle.demand, node_names.texts, cycle.extra_pods)
        return decide(Evaluation(cycle, node_names, verdicts), context)
    found = context.table.verdicts(cycle.snapshot, cycle.demand, node_names, cycle.extra_pods, to_rank=to_rank)
    if isinstance(found, Unevaluated):
        return Evaluation(cycle, _NO_NAMES, _NO_VERDICTS, unevaluated=found)
    return decide(Evaluation(cycle, node_names, found), context)


def begin(
    snapshot: Snapshot, assumed_pods: AssumedPods, pod: Pod, resource: str, monotonic_seconds: float, *, is_decided: bool = False
) -> SchedulingCycle:
    """Return the pod's cycle. An assumed pod of the same uid is the pod itself and does not count.

    `is_decided`: a node was decided for the pod and it is about to be bound; assumed pods that were decided after it do not count either,
    because their predictions already include this pod.
    """
    priority, demand = pod.spec.priority or 0, demand_in(snapshot, pod, resource)
    assumed = assumed_pods.extra_pods(snapshot, monotonic_seconds, pod.key, is_decided) if assumed_pods.by_pod else NO_EXTRA_PODS
    nominated_pods = nominees(snapshot, rank_of(pod), assumed_pods, monotonic_seconds) if snapshot.nominated else NO_EXTRA_PODS
    nominated = (pod.status.nominated_node_name if pod.status else None) or None
    return SchedulingCycle(snapshot, pod.key, priority, nominated, demand, assumed, together(assumed, nominated_pods))


def demand_in(snapshot: Snapshot, pod: Pod, resource: str) -> Demand | Rejection:
    """Return what a pod asks for, with what its workload class and its model add; a Rejection where the request is invalid."""
    demand = with_inference(classified(demand_of(pod, resource), snapshot.classes), pod, resource)
    if isinstance(demand, Rejection):
        return demand
    claims = pod_claims(pod, snapshot.dra, resource)
    return demand if claims is None else replace(demand, claims=claims)


def known_nodes(snapshot: Snapshot) -> list[str]:
    """Return the sorted names of all nodes, also of those whose state could not be derived."""
    return sorted({*snapshot.views, *(entry.name for entry in snapshot.set_aside.values() if entry.stage == "derive")})


def by_rank(ranker: Ranker, excluded: Collection[str] = ()) -> Decide:
    """Return a function that decides for the node with the top score; nodes in `excluded` are no candidates and have no rank."""

    def decide(evaluation: Evaluation, _context: EvaluationContext) -> Evaluation:
        cycle, names = evaluation.cycle, evaluation.names
        if isinstance(cycle.demand, Rejection):
            return evaluation
        positions = [position for position, name in enumerate(names.texts) if name in excluded] if excluded else ()
        ranks = ranker.rank(cycle.demand, evaluation.verdicts, positions)
        return replace(evaluation, ranks=ranks, decided=ranks.decided(names, cycle.key))

    return decide


def by_feasibility(evaluation: Evaluation, context: EvaluationContext) -> Evaluation:
    """Decide as filter does: for the only feasible node, because kube-scheduler does not call prioritize for a single node.

    Where no node is feasible, the node nominated to the pod is evaluated without the pods that may be gone; the evaluation stalls where
    kube-scheduler may know more than the snapshot shows, or where only assumed or nominated pods make a node infeasible.
    """
    cycle, names, verdicts = evaluation.cycle, evaluation.names, evaluation.verdicts
    if _awaits_a_claim(cycle):
        return replace(evaluation, stall=Stall.CLAIM)
    feasible = np.flatnonzero(verdicts.feasible)
    if len(feasible):
        return replace(evaluation, decided=int(feasible[0])) if len(feasible) == 1 else evaluation
    if isinstance(cycle.demand, Rejection):
        return evaluation
    if cycle.nominated is not None and cycle.nominated in names.texts:
        index = names.texts.index(cycle.nominated)
        verdict = _verdict_on_nominated_node(cycle, cycle.demand, cycle.nominated, verdicts[index], context)
        if verdict is None:
            return replace(evaluation, stall=Stall.LAGGING)
        if verdict.feasible:
            return replace(evaluation, verdicts=verdicts.replaced(index, verdict), decided=index)
    if _blocked_by_extra_pods(cycle, cycle.demand, names, verdicts, context.evaluator):
        return replace(evaluation, stall=Stall.HELD)
    return evaluation


def _awaits_a_claim(cycle: SchedulingCycle) -> bool:
    """Whether the watch of claims has yet to show a claim of the pod: kube-scheduler calls for no pod whose claims do not exist."""
    claims = cycle.demand.claims if isinstance(cycle.demand, Demand) else None
    if claims is None or not claims.is_lagging:
        return False
    return not any(entry.kind == "resourceclaims" for entry in cycle.snapshot.set_aside.values())


def _blocked_by_extra_pods(cycle: SchedulingCycle, demand: Demand, names: NodeNames, verdicts: NodeVerdicts, evaluator: Evaluator) -> bool:
    """Whether a node would be feasible without the assumed and nominated pods. They may never be bound, so a rejection would be wrong.

    kube-scheduler leaves room for nominated pods too. Where its own count leaves no room, it has dropped the nomination already.
    """
    if not cycle.extra_pods:
        return False
    named = zip(names.texts, verdicts, strict=True)
    blocked = [name for name, verdict in named if name in cycle.extra_pods and _is_provisional(cycle, name, verdict)]
    return bool(evaluate_nodes(evaluator, cycle.snapshot, demand, blocked).feasible.any())


def _is_provisional(cycle: SchedulingCycle, name: str, verdict: Verdict) -> bool:
    """Whether the rejection may be due to pods that are not bound to the node yet."""
    if name in cycle.assumed:
        return verdict.resolvable
    return verdict.rejection is not None and verdict.rejection.reason is Reason.TOO_FEW_FREE


def _verdict_on_nominated_node(
    cycle: SchedulingCycle, demand: Demand, name: str, verdict: Verdict, context: EvaluationContext
) -> Verdict | None:
    """Return the verdict on the node nominated to the pod, given that kube-scheduler counts room for the pod there; None: not known yet.

    Which of the terminating pods are gone is not known, only that together they leave enough GPUs. The pod fits if it fits in every such
    case. It does not fit if it fits in none, also not with every pod gone that it may have evicted.
    """
    view = cycle.snapshot.views.get(name)
    if verdict.rejection is not None and verdict.rejection.reason in _BY_TELEMETRY:
        return None
    if view is None or not verdict.resolvable:
        return verdict
    demand, extra_pods = on_view(demand, view), all_on_view(cycle.extra_pods.get(name, ()), view)
    room = view.state.allocatable - view.state.requested - sum(extra.total for extra in extra_pods)
    cases = [gone for gone in _departures(view) if room + sum(p.demand.total for p in view.pods if p.key in gone) >= demand.total]
    outcomes = [verdict_without(cycle, demand, name, gone, context) for gone in cases]
    if outcomes and all(outcome is not None and outcome.feasible for outcome in outcomes):
        return outcomes[-1]
    evictable = frozenset(pod.key for pod in view.pods if pod.terminating or pod.priority < cycle.priority)
    best_cases = [*outcomes, verdict_without(cycle, demand, name, evictable, context)]
    return None if not outcomes or any(case is not None and case.feasible for case in best_cases) else verdict


def _departures(view: NodeView) -> Iterator[frozenset[str]]:
    """Yield every set of the node's terminating pods that may be gone by now, the largest last."""
    terminating = [pod.key for pod in view.pods if pod.terminating]
    if len(terminating) > MOST_GOING:
        yield frozenset(terminating)
        return
    for count in range(len(terminating) + 1):
        yield from map(frozenset, combinations(terminating, count))


def verdict_without(cycle: SchedulingCycle, demand: Demand, name: str, gone: frozenset[str], context: EvaluationContext) -> Verdict | None:
    """Return the verdict on a node with some pods gone; None where the state without them cannot be derived."""
    try:
        state = without_pods(cycle.snapshot, name, gone, context.resource, context.defaults, strangers_left=True)
    except Exception as error:  # an error on this node must not fail the answer about other nodes
        return context.evaluator.broken(demand, cycle.snapshot.views[name].state, error)
    if state is None:
        return None
    view = cycle.snapshot.views[name]
    extra_pods = all_on_view(cycle.extra_pods.get(name, ()), view)
    return evaluate_with_extra_pods(context.evaluator, on_view(demand, view), state, extra_pods)
