"""Preemption: which of kube-scheduler's candidates would really help the pod, and at whose cost. Pure.

kube-scheduler chooses victims by counting; whether the devices they leave are joined well enough, or sound, it cannot know. We may only
veto candidates and spare victims.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

from extender.decision.cycle import Cycle, World
from extender.decision.demand import Demand
from extender.decision.holdings import BoundPod
from extender.decision.requests import Requests, covers
from extender.decision.verdict import Verdict
from extender.decision.views import with_guests, without_pods

MOST_VICTIMS = 8
"""Of which every combination is tried; of more victims none is spared."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node, and the uids of the pods that would be evicted there."""

    node: str
    victims: tuple[str, ...]
    pdb_violations: int = 0


@dataclass(frozen=True, slots=True)
class Sacrifice:
    """A candidate that helps, and what it costs."""

    candidate: Candidate
    gpus: int
    """GPUs taken from running pods."""
    highest_priority: int
    verdict: Verdict
    """On the node with these victims gone."""

    @property
    def cost(self) -> tuple[float, ...]:
        """What is compared, in this order: broken disruption budgets and the best victim's priority, as kube-scheduler does; then GPUs
        disturbed; then how good the resulting set is."""
        evidence = self.verdict.evidence
        return (
            float(self.candidate.pdb_violations),
            float(self.highest_priority),
            float(self.gpus),
            -(evidence.effective_gbps or 0.0),
            -(evidence.worst_gbps or 0.0),
        )


def preferred(cycle: Cycle, demand: Demand, candidates: Sequence[Candidate], needed: Requests, world: World) -> tuple[Sacrifice, ...]:
    """The candidates that help and cost least; several where they cost the same, none where nothing helps.

    `needed`: what the pod asks for beside GPUs.
    """
    found = [one for candidate in candidates if (one := _sacrifice(cycle, demand, candidate, needed, world)) is not None]
    least = min((one.cost for one in found), default=None)
    return tuple(one for one in found if one.cost == least)


def _sacrifice(cycle: Cycle, demand: Demand, candidate: Candidate, needed: Requests, world: World) -> Sacrifice | None:
    """The cheapest part of a candidate's victims that helps; None where none does."""
    view = cycle.snapshot.views.get(candidate.node)
    if view is None or not candidate.victims:
        return None
    known = {pod.key: pod for pod in view.pods}
    best: Sacrifice | None = None
    for part in _parts(candidate, known, needed):
        found = _if_gone(cycle, demand, candidate, part, known, world)
        if found is not None and (best is None or _within(found) < _within(best)):
            best = found
    return best


def _within(one: Sacrifice) -> tuple[float, ...]:
    """Within a node the fewest GPUs come first: all these victims were up for eviction anyway."""
    return (float(one.gpus), float(len(one.candidate.victims)), *one.cost[1:])


def _parts(candidate: Candidate, known: dict[str, BoundPod], needed: Requests) -> Iterator[tuple[str, ...]]:
    """The victims, and fewer of them where those that hold no GPU, or that nobody knows, all stay victims: what they are evicted for is not
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


def _if_gone(
    cycle: Cycle, demand: Demand, candidate: Candidate, victims: tuple[str, ...], known: dict[str, BoundPod], world: World
) -> Sacrifice | None:
    state = without_pods(cycle.snapshot, candidate.node, frozenset(victims), world.resource, world.defaults, strangers_left=True)
    if state is None:
        return None
    verdict = world.judge.judge(demand, with_guests(state, cycle.guests.get(candidate.node, ())))
    if not verdict.feasible:
        return None
    pods = [known[key] for key in victims if key in known]
    kept = Candidate(candidate.node, victims, min(candidate.pdb_violations, len(victims)))
    return Sacrifice(kept, sum(pod.demand.total for pod in pods), max((pod.priority for pod in pods), default=0), verdict)
