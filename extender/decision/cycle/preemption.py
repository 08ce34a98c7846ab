"""Preemption: which of kube-scheduler's candidates make the pod schedulable, and at which cost. Pure.

kube-scheduler chooses victims by counting GPUs. It does not know whether the freed devices have the links the pod demands, or are healthy.
An extender can only remove candidates and reprieve victims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations

from extender.decision.cycle.scheduling_cycle import EvaluationContext, SchedulingCycle
from extender.decision.evaluate.evaluator import evaluate_with_extra_pods
from extender.decision.evaluate.verdict import Verdict
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.claims_on_node import all_on_view, on_view
from extender.decision.request.other_resources import Requests, covers
from extender.decision.request.pod_request import Demand
from extender.decision.state.leaving_pods import without_pods

MOST_VICTIMS = 8
"""Up to this number of victims every combination of reprieves is tried; with more victims none is reprieved."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node, and the uids of the pods that kube-scheduler would evict there."""

    node: str
    victims: tuple[str, ...]
    pdb_violations: int = 0


Cost = tuple[int, int, int, int]
"""(disruption budgets violated, the victims' highest priority, GPUs taken, number of victims); the lower cost is preferred.

kube-scheduler compares the first two in the same order.
"""


@dataclass(frozen=True, slots=True)
class PreemptionOption:
    """Some or all of a candidate's victims, and their cost."""

    candidate: Candidate
    cost: Cost
    gpus: int
    """GPUs taken from running pods."""
    verdict: Verdict | None = None
    """The verdict for the node without these victims; None: not evaluated."""

    @property
    def quality(self) -> tuple[float, float]:
        """Bandwidth in GB/s that the pod would get: (effective, worst). Of options with equal cost the higher is preferred."""
        evidence = self.verdict.evidence if self.verdict else None
        return (evidence.effective_gbps or 0.0, evidence.worst_gbps or 0.0) if evidence else (0.0, 0.0)


def preferred(
    cycle: SchedulingCycle, demand: Demand, candidates: Sequence[Candidate], needed: Requests, context: EvaluationContext
) -> tuple[PreemptionOption, ...]:
    """Return the options with the lowest cost, and among those the highest quality; () if no candidate makes the pod schedulable.

    Several options are returned if they are equal in cost and quality. `needed`: the pod's requests other than GPUs. Options are evaluated
    in order of cost, so that hundreds of candidates take hardly longer than a few.
    """
    options = [option for candidate in candidates for option in _options(cycle, demand, candidate, needed)]
    best_by_node: dict[str, PreemptionOption] = {}
    for option in sorted(options, key=lambda option: (option.cost, option.candidate.node, option.candidate.victims)):
        if best_by_node and option.cost > next(iter(best_by_node.values())).cost:
            break
        evaluated = _evaluated(cycle, demand, option, context)
        before = best_by_node.get(option.candidate.node)
        if evaluated is not None and (before is None or evaluated.quality > before.quality):
            best_by_node[option.candidate.node] = evaluated
    best_quality = max((option.quality for option in best_by_node.values()), default=None)
    return tuple(option for option in best_by_node.values() if option.quality == best_quality)


def _options(cycle: SchedulingCycle, demand: Demand, candidate: Candidate, needed: Requests) -> Iterator[PreemptionOption]:
    """Yield the candidate, and the candidate with fewer victims, where these leave as many GPUs as the pod requests."""
    view = cycle.snapshot.views.get(candidate.node)
    if view is None or not candidate.victims:
        return
    demand = on_view(demand, view)
    known = {pod.key: pod for pod in view.pods}
    extra_pods = all_on_view(cycle.extra_pods.get(candidate.node, ()), view)
    room = view.state.allocatable - view.state.requested - sum(extra.total for extra in extra_pods)
    for victims in _sets_of_victims(candidate, known, needed):
        pods = [known[key] for key in victims if key in known]
        gpus = sum(pod.demand.total for pod in pods)
        if room + gpus >= demand.total:
            kept = Candidate(candidate.node, victims, min(candidate.pdb_violations, len(victims)))
            cost = kept.pdb_violations, max((pod.priority for pod in pods), default=0), gpus, len(victims)
            yield PreemptionOption(kept, cost, gpus)


def _sets_of_victims(candidate: Candidate, known: dict[str, BoundPod], needed: Requests) -> Iterator[tuple[str, ...]]:
    """Yield all victims, then each smaller set of victims that frees enough CPU, memory and other requests.

    Victims without GPUs and unknown victims are never reprieved: kube-scheduler evicts them for a reason that is not known here.
    """
    yield candidate.victims
    reprievable = [key for key in candidate.victims if key in known]
    if len(reprievable) > MOST_VICTIMS:
        return
    for count in range(1, len(reprievable) + 1):
        for reprieved in combinations(reprievable, count):
            left = tuple(key for key in candidate.victims if key not in reprieved)
            if left and covers(_freed([known[key] for key in left if key in known]), needed):
                yield left


def _freed(pods: Sequence[BoundPod]) -> dict[str, Decimal]:
    """Return resource -> amount that the pods request, without GPUs."""
    total: dict[str, Decimal] = {}
    for pod in pods:
        for name, amount in pod.others:
            total[name] = total.get(name, Decimal(0)) + amount
    return total


def _evaluated(cycle: SchedulingCycle, demand: Demand, option: PreemptionOption, context: EvaluationContext) -> PreemptionOption | None:
    """Return the option with the verdict for its node; None where the node is infeasible without the victims too."""
    node, victims = option.candidate.node, frozenset(option.candidate.victims)
    try:
        state = without_pods(cycle.snapshot, node, victims, context.resource, context.defaults, strangers_left=True)
    except Exception as error:  # the state without the victims is unknown: drop this candidate and evaluate the others
        context.evaluator.broken(demand, cycle.snapshot.views[node].state, error)
        return None
    if state is None:
        return None
    view = cycle.snapshot.views[node]
    extra_pods = all_on_view(cycle.extra_pods.get(node, ()), view)
    verdict = evaluate_with_extra_pods(context.evaluator, on_view(demand, view), state, extra_pods)
    return replace(option, verdict=verdict) if verdict.feasible else None
