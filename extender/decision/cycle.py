"""One pod's scheduling cycle as it looks at one moment: what is asked, what is known, and who is on his way. Pure.

kube-scheduler filters by its own count before it asks us, and its view is a few milliseconds ahead of ours. Where only that can explain
that it asks about a node which seems full, the honest answer is neither yes nor no: see `Stall`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations

from extender.decision.claims_on_node import for_node, guests_on
from extender.decision.cluster import NodeDefaults, NodeView, Snapshot
from extender.decision.demand import Demand, classified, demand_of
from extender.decision.dra.requests import pod_claims
from extender.decision.holds import NO_GUESTS, Guests, Holds, nominees, rank_of, together
from extender.decision.inferred import with_inference
from extender.decision.judge import Judge, judge_all, judge_with_guests
from extender.decision.objects import Pod
from extender.decision.reasons import Reason, Rejection
from extender.decision.verdict import Verdict
from extender.decision.views import without_pods

MOST_GOING = 6
"""Terminating pods of a node of which every combination is tried; with more, all or none count as gone."""


_BY_TELEMETRY = (Reason.MEMORY_IN_USE, Reason.TELEMETRY_UNKNOWN)
"""What the last look may still say of a device whose holder has been evicted since."""


class Stall(StrEnum):
    """Why there is no answer yet: asked again in a moment, there is one."""

    LAGGING = "fabricwise does not yet see the GPUs free that were nominated to this pod; try again"
    CLAIM = "fabricwise does not yet see a ResourceClaim of this pod; try again"
    HELD = "pods that were decided a moment ago stand in the way until their bindings are seen; try again"


@dataclass(frozen=True, slots=True)
class World:
    """What judging needs beside a snapshot."""

    judge: Judge
    resource: str
    defaults: NodeDefaults


@dataclass(frozen=True, slots=True)
class Cycle:
    """A pod and what is to be reckoned with for it."""

    snapshot: Snapshot
    key: str
    priority: int
    nominated: str | None
    demand: Demand | Rejection
    held: Guests
    """Pods decided but not visible yet."""
    guests: Guests
    """Those, and the nominated ones this pod must leave room for."""


def begin(snapshot: Snapshot, holds: Holds, pod: Pod, resource: str, steady_seconds: float, decided: bool = False) -> Cycle:
    """The pod's cycle at this moment. What it may itself have been decided for does not stand in its own way.

    `decided`: the pod has been decided for and comes to be bound: who was decided after it comes after it.
    """
    priority, demand = pod.spec.priority or 0, demand_in(snapshot, pod, resource)
    held = holds.guests(snapshot, steady_seconds, pod.key, decided) if holds.by_pod else NO_GUESTS
    coming = nominees(snapshot, rank_of(pod)) if snapshot.nominated else NO_GUESTS
    nominated = (pod.status.nominated_node_name if pod.status else None) or None
    return Cycle(snapshot, pod.key, priority, nominated, demand, held, together(held, coming))


def demand_in(snapshot: Snapshot, pod: Pod, resource: str) -> Demand | Rejection:
    """What a pod asks for, with what its workload class and its model add."""
    demand = with_inference(classified(demand_of(pod, resource), snapshot.classes), pod, resource)
    if isinstance(demand, Rejection):
        return demand
    claims = pod_claims(pod, snapshot.dra, resource)
    return demand if claims is None else replace(demand, claims=claims)


@dataclass(frozen=True, slots=True)
class Filtered:
    """What becomes of a filter call."""

    verdicts: Sequence[Verdict]
    stall: Stall | None = None
    decided: str | None = None
    """The node that the pod will be on for certain: the only one left. Prioritize is not called then."""


def filtered(cycle: Cycle, names: Sequence[str], verdicts: Sequence[Verdict], world: World) -> Filtered:
    """The answer to filter, of the verdicts on its names (with the cycle's guests)."""
    if isinstance(cycle.demand, Demand) and _awaits_a_claim(cycle):
        return Filtered(verdicts, Stall.CLAIM)
    feasible = [name for name, verdict in zip(names, verdicts, strict=True) if verdict.feasible]
    if feasible:
        return Filtered(verdicts, None, feasible[0] if len(feasible) == 1 else None)
    if isinstance(cycle.demand, Rejection):
        return Filtered(verdicts)
    if cycle.nominated is not None and cycle.nominated in names:
        place = list(names).index(cycle.nominated)
        verdict = _second_look(cycle, cycle.demand, cycle.nominated, verdicts[place], world)
        if verdict is None:
            return Filtered(verdicts, Stall.LAGGING)
        if verdict.feasible:
            return Filtered([*verdicts[:place], verdict, *verdicts[place + 1 :]], None, cycle.nominated)
    if _held_back(cycle, cycle.demand, names, verdicts, world.judge):
        return Filtered(verdicts, Stall.HELD)
    return Filtered(verdicts)


def _awaits_a_claim(cycle: Cycle) -> bool:
    """Whether a claim of the pod is on its way: kube-scheduler asks about no pod whose claims do not exist."""
    claims = cycle.demand.claims if isinstance(cycle.demand, Demand) else None
    return claims is not None and claims.is_lagging and not any(one.kind == "resourceclaims" for one in cycle.snapshot.set_aside.values())


def _held_back(cycle: Cycle, demand: Demand, names: Sequence[str], verdicts: Sequence[Verdict], judge: Judge) -> bool:
    """Whether a node would do if nobody were on his way there. Who is may never arrive: that is not known for a no.

    Room for nominated pods is left as kube-scheduler leaves it; but where by its own count there is none to leave, it has dropped the
    nomination already.
    """
    held = [name for name, verdict in zip(names, verdicts, strict=True) if name in cycle.guests and _may_vanish(cycle, name, verdict)]
    return any(verdict.feasible for verdict in judge_all(judge, cycle.snapshot, demand, held))


def _may_vanish(cycle: Cycle, name: str, verdict: Verdict) -> bool:
    if name in cycle.held:
        return verdict.curable
    return verdict.rejection is not None and verdict.rejection.reason is Reason.TOO_FEW_FREE


def _second_look(cycle: Cycle, demand: Demand, name: str, verdict: Verdict, world: World) -> Verdict | None:
    """The verdict on the node nominated to the pod, knowing that kube-scheduler counts room for it there; None: nobody can tell yet.

    Which of the terminating pods are gone is not known, only that together they leave so much room. If the pod fits in every case, it
    fits; if in none, not even were all gone that it may have evicted, it does not.
    """
    view = cycle.snapshot.views.get(name)
    if verdict.rejection is not None and verdict.rejection.reason in _BY_TELEMETRY:
        return None
    if view is None or not verdict.curable:
        return verdict
    demand = for_node(demand, view, cycle.snapshot.dra)
    guests = cycle.guests.get(name, ())
    room = view.state.allocatable - view.state.requested - sum(guest.total for guest in guests_on(guests, view, cycle.snapshot.dra))
    cases = [gone for gone in _departures(view) if room + sum(p.demand.total for p in view.pods if p.key in gone) >= demand.total]
    found = [_without(cycle, demand, name, gone, world) for gone in cases]
    if found and all(one is not None and one.feasible for one in found):
        return found[-1]
    evictable = frozenset(pod.key for pod in view.pods if pod.terminating or pod.priority < cycle.priority)
    hopeful = [*found, _without(cycle, demand, name, evictable, world)]
    return None if not found or any(one is not None and one.feasible for one in hopeful) else verdict


def _departures(view: NodeView) -> Iterator[frozenset[str]]:
    """Every set of the node's terminating pods that may be gone by now, the largest last."""
    going = [pod.key for pod in view.pods if pod.terminating]
    if len(going) > MOST_GOING:
        yield frozenset(going)
        return
    for count in range(len(going) + 1):
        yield from map(frozenset, combinations(going, count))


def _without(cycle: Cycle, demand: Demand, name: str, gone: frozenset[str], world: World) -> Verdict | None:
    try:
        state = without_pods(cycle.snapshot, name, gone, world.resource, world.defaults, strangers_left=True)
    except Exception as error:  # it stays with this node
        return world.judge.broken(demand, cycle.snapshot.views[name].state, error)
    if state is None:
        return None
    view, dra = cycle.snapshot.views[name], cycle.snapshot.dra
    return judge_with_guests(world.judge, for_node(demand, view, dra), state, guests_on(cycle.guests.get(name, ()), view, dra))
