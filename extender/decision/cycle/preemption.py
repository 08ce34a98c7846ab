"""Preemption: which of kube-scheduler's candidates would really help the pod, and at whose cost. Pure.

kube-scheduler chooses victims by counting; whether the devices they leave are joined well enough, or sound, it cannot know. We may only
veto candidates and spare victims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations

from extender.decision.cycle.scheduling_cycle import EvaluationContext, SchedulingCycle
from extender.decision.evaluate.evaluator import evaluate_with_extra_pods
from extender.decision.evaluate.verdict import Verdict
from extender.decision.node.allocations import BoundPod
from extender.decision.request.other_resources import Requests, covers
from extender.decision.request.pod_request import Demand
from extender.decision.state.leaving_pods import without_pods

MOST_VICTIMS = 8
"""Of which every combination is tried; of more victims none is spared."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node, and the uids of the pods that would be evicted there."""

    node: str
    victims: tuple[str, ...]
    pdb_violations: int = 0


Cost = tuple[int, int, int, int]
"""Disruption budgets broken and the best victim's priority, as kube-scheduler compares them; then GPUs disturbed, then pods."""


@dataclass(frozen=True, slots=True)
class PreemptionOption:
    """Some of a candidate's victims, and what they cost."""

    candidate: Candidate
    cost: Cost
    gpus: int
    """GPUs taken from running pods."""
    verdict: Verdict | None = None
    """On the node with these victims gone; None: not judged."""

    @property
    def quality(self) -> tuple[float, float]:
        """How good the set is that the pod would get: among equal costs more is better."""
        evidence = self.verdict.evidence if self.verdict else None
        return (evidence.effective_gbps or 0.0, evidence.worst_gbps or 0.0) if evidence else (0.0, 0.0)


def preferred(
    cycle: SchedulingCycle, demand: Demand, candidates: Sequence[Candidate], needed: Requests, context: EvaluationContext
) -> tuple[PreemptionOption, ...]:
    """The candidates that help and cost least; several where neither cost nor worth tells them apart, none where nothing helps.

    `needed`: what the pod asks for beside GPUs. Judged from the cheapest on, so that hundreds of candidates cost hardly more than a few.
    """
    offers = [offer for candidate in candidates for offer in _offers(cycle, demand, candidate, needed)]
    found: dict[str, PreemptionOption] = {}
    for offer in sorted(offers, key=lambda one: (one.cost, one.candidate.node, one.candidate.victims)):
        if found and offer.cost > next(iter(found.values())).cost:
            break
        judged = _evaluated(cycle, demand, offer, context)
        before = found.get(offer.candidate.node)
        if judged is not None and (before is None or judged.quality > before.quality):
            found[offer.candidate.node] = judged
    best = max((one.quality for one in found.values()), default=None)
    return tuple(one for one in found.values() if one.quality == best)


def _offers(cycle: SchedulingCycle, demand: Demand, candidate: Candidate, needed: Requests) -> Iterator[PreemptionOption]:
    """The candidate, and what is left of it when victims are spared: as many as the count allows."""
    view = cycle.snapshot.views.get(candidate.node)
    if view is None or not candidate.victims:
        return
    known = {pod.key: pod for pod in view.pods}
    room = view.state.allocatable - view.state.requested - sum(guest.total for guest in cycle.extra_pods.get(candidate.node, ()))
    for victims in _parts(candidate, known, needed):
        pods = [known[key] for key in victims if key in known]
        gpus = sum(pod.demand.total for pod in pods)
        if room + gpus >= demand.total:
            kept = Candidate(candidate.node, victims, min(candidate.pdb_violations, len(victims)))
            cost = kept.pdb_violations, max((pod.priority for pod in pods), default=0), gpus, len(victims)
            yield PreemptionOption(kept, cost, gpus)


def _parts(candidate: Candidate, known: dict[str, BoundPod], needed: Requests) -> Iterator[tuple[str, ...]]:
    """The victims, and fewer of them. Those that hold no GPU, or that nobody knows, all stay victims: what they are evicted for is not
    for us to judge. Fewer must still leave enough CPU, memory and the like behind."""
    yield candidate.victims
    spared = [key for key in candidate.victims if key in known]
    if len(spared) > MOST_VICTIMS:
        return
    for count in range(1, len(spared) + 1):
        for some in combinations(spared, count):
            left = tuple(key for key in candidate.victims if key not in some)
            if left and covers(_freed([known[key] for key in left if key in known]), needed):
                yield left


def _freed(pods: Sequence[BoundPod]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for pod in pods:
        for name, amount in pod.others:
            total[name] = total.get(name, Decimal(0)) + amount
    return total


def _evaluated(cycle: SchedulingCycle, demand: Demand, offer: PreemptionOption, context: EvaluationContext) -> PreemptionOption | None:
    """The offer with the verdict on its node; None where the pod could not go there all the same."""
    node, victims = offer.candidate.node, frozenset(offer.candidate.victims)
    try:
        state = without_pods(cycle.snapshot, node, victims, context.resource, context.defaults, strangers_left=True)
    except Exception as error:  # this candidate is vetoed: what its victims leave is not known; the others are judged
        context.evaluator.broken(demand, cycle.snapshot.views[node].state, error)
        return None
    if state is None:
        return None
    verdict = evaluate_with_extra_pods(context.evaluator, demand, state, cycle.extra_pods.get(node, ()))
    return replace(offer, verdict=verdict) if verdict.feasible else None
