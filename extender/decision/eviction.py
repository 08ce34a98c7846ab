"""Preemption: which of kube-scheduler's candidates would really help the pod, and at whose cost. Pure.

kube-scheduler chooses victims by counting; whether the devices they leave are joined well enough, or sound, it cannot know. We may only
veto candidates and spare victims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations

from extender.decision.claims_on_node import for_node, guests_on
from extender.decision.cycle import Cycle, World
from extender.decision.demand import Demand
from extender.decision.holdings import BoundPod
from extender.decision.judge import judge_with_guests
from extender.decision.requests import Requests, covers
from extender.decision.verdict import Verdict
from extender.decision.views import without_pods

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
class Sacrifice:
    """Some of a candidate's victims, and what they cost."""

    candidate: Candidate
    cost: Cost
    gpus: int
    """GPUs taken from running pods."""
    verdict: Verdict | None = None
    """On the node with these victims gone; None: not judged."""

    @property
    def worth(self) -> tuple[float, float]:
        """How good the set is that the pod would get: among equal costs more is better."""
        evidence = self.verdict.evidence if self.verdict else None
        return (evidence.effective_gbps or 0.0, evidence.worst_gbps or 0.0) if evidence else (0.0, 0.0)


def preferred(cycle: Cycle, demand: Demand, candidates: Sequence[Candidate], needed: Requests, world: World) -> tuple[Sacrifice, ...]:
    """The candidates that help and cost least; several where neither cost nor worth tells them apart, none where nothing helps.

    `needed`: what the pod asks for beside GPUs. Judged from the cheapest on, so that hundreds of candidates cost hardly more than a few.
    """
    offers = [offer for candidate in candidates for offer in _offers(cycle, demand, candidate, needed)]
    found: dict[str, Sacrifice] = {}
    for offer in sorted(offers, key=lambda one: (one.cost, one.candidate.node, one.candidate.victims)):
        if found and offer.cost > next(iter(found.values())).cost:
            break
        judged = _judged(cycle, demand, offer, world)
        before = found.get(offer.candidate.node)
        if judged is not None and (before is None or judged.worth > before.worth):
            found[offer.candidate.node] = judged
    best = max((one.worth for one in found.values()), default=None)
    return tuple(one for one in found.values() if one.worth == best)


def _offers(cycle: Cycle, demand: Demand, candidate: Candidate, needed: Requests) -> Iterator[Sacrifice]:
    """The candidate, and what is left of it when victims are spared: as many as the count allows."""
    view = cycle.snapshot.views.get(candidate.node)
    if view is None or not candidate.victims:
        return
    dra = cycle.snapshot.dra
    demand = for_node(demand, view, dra)
    known = {pod.key: pod for pod in view.pods}
    room = (
        view.state.allocatable - view.state.requested - sum(one.total for one in guests_on(cycle.guests.get(candidate.node, ()), view, dra))
    )
    for victims in _parts(candidate, known, needed):
        pods = [known[key] for key in victims if key in known]
        gpus = sum(pod.demand.total for pod in pods)
        if room + gpus >= demand.total:
            kept = Candidate(candidate.node, victims, min(candidate.pdb_violations, len(victims)))
            cost = kept.pdb_violations, max((pod.priority for pod in pods), default=0), gpus, len(victims)
            yield Sacrifice(kept, cost, gpus)


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


def _judged(cycle: Cycle, demand: Demand, offer: Sacrifice, world: World) -> Sacrifice | None:
    """The offer with the verdict on its node; None where the pod could not go there all the same."""
    node, victims = offer.candidate.node, frozenset(offer.candidate.victims)
    try:
        state = without_pods(cycle.snapshot, node, victims, world.resource, world.defaults, strangers_left=True)
    except Exception as error:  # this candidate is vetoed: what its victims leave is not known; the others are judged
        world.judge.broken(demand, cycle.snapshot.views[node].state, error)
        return None
    if state is None:
        return None
    view, dra = cycle.snapshot.views[node], cycle.snapshot.dra
    wanted, guests = for_node(demand, view, dra), guests_on(cycle.guests.get(node, ()), view, dra)
    verdict = judge_with_guests(world.judge, wanted, state, guests)
    return replace(offer, verdict=verdict) if verdict.feasible else None
