"""One pod's scheduling cycle as it looks at one moment: what is asked, what is known, and who is on his way. Pure.

kube-scheduler filters by its own count before it asks us, and its view is a few milliseconds ahead of ours. Where only that can explain
that it asks about a node which seems full, the honest answer is neither yes nor no: see `Stall`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from extender.decision.cycle.assumed_pods import AssumedPods, nominees, rank_of, together
from extender.decision.evaluate.evaluator import Evaluator, evaluate_nodes, evaluate_with_extra_pods
from extender.decision.evaluate.verdict import Verdict
from extender.decision.node.node_state import NodeDefaults, NodeView
from extender.decision.request.inferred_workload import with_inference
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand, classified, demand_of
from extender.decision.request.reasons import Reason, Rejection
from extender.decision.state.leaving_pods import without_pods
from extender.decision.state.pods import NO_EXTRA_PODS, ExtraPods
from extender.decision.state.snapshot import Snapshot

MOST_GOING = 6
"""Terminating pods of a node of which every combination is tried; with more, all or none count as gone."""


_BY_TELEMETRY = (Reason.MEMORY_IN_USE, Reason.TELEMETRY_UNKNOWN)
"""What the last look may still say of a device whose holder has been evicted since."""


class Stall(StrEnum):
    """Why there is no answer yet: asked again in a moment, there is one."""

    LAGGING = "fabricwise does not yet see the GPUs free that were nominated to this pod; try again"
    HELD = "pods that were decided a moment ago stand in the way until their bindings are seen; try again"


@dataclass(frozen=True, slots=True)
class EvaluationContext:
    """What judging needs beside a snapshot."""

    evaluator: Evaluator
    resource: str
    defaults: NodeDefaults


@dataclass(frozen=True, slots=True)
class SchedulingCycle:
    """A pod and what is to be reckoned with for it."""

    snapshot: Snapshot
    key: str
    priority: int
    nominated: str | None
    demand: Demand | Rejection
    held: ExtraPods
    """Pods decided but not visible yet."""
    extra_pods: ExtraPods
    """Those, and the nominated ones this pod must leave room for."""


def begin(
    snapshot: Snapshot, assumed_pods: AssumedPods, pod: Pod, resource: str, monotonic_seconds: float, decided: bool = False
) -> SchedulingCycle:
    """The pod's cycle at this moment. What it may itself have been decided for does not stand in its own way.

    `decided`: the pod has been decided for and comes to be bound: who was decided after it comes after it.
    """
    priority, demand = pod.spec.priority or 0, demand_in(snapshot, pod, resource)
    held = assumed_pods.extra_pods(snapshot, monotonic_seconds, pod.key, decided) if assumed_pods.by_pod else NO_EXTRA_PODS
    coming = nominees(snapshot, rank_of(pod)) if snapshot.nominated else NO_EXTRA_PODS
    nominated = (pod.status.nominated_node_name if pod.status else None) or None
    return SchedulingCycle(snapshot, pod.key, priority, nominated, demand, held, together(held, coming))


def demand_in(snapshot: Snapshot, pod: Pod, resource: str) -> Demand | Rejection:
    """What a pod asks for, with what its workload class and its model add."""
    return with_inference(classified(demand_of(pod, resource), snapshot.classes), pod, resource)


@dataclass(frozen=True, slots=True)
class Filtered:
    """What becomes of a filter call."""

    verdicts: Sequence[Verdict]
    stall: Stall | None = None
    decided: str | None = None
    """The node that the pod will be on for certain: the only one left. Prioritize is not called then."""


def filtered(cycle: SchedulingCycle, names: Sequence[str], verdicts: Sequence[Verdict], context: EvaluationContext) -> Filtered:
    """The answer to filter, of the verdicts on its names (with the cycle's guests)."""
    feasible = [name for name, verdict in zip(names, verdicts, strict=True) if verdict.feasible]
    if feasible:
        return Filtered(verdicts, None, feasible[0] if len(feasible) == 1 else None)
    if isinstance(cycle.demand, Rejection):
        return Filtered(verdicts)
    if cycle.nominated is not None and cycle.nominated in names:
        place = list(names).index(cycle.nominated)
        verdict = _second_look(cycle, cycle.demand, cycle.nominated, verdicts[place], context)
        if verdict is None:
            return Filtered(verdicts, Stall.LAGGING)
        if verdict.feasible:
            return Filtered([*verdicts[:place], verdict, *verdicts[place + 1 :]], None, cycle.nominated)
    if _held_back(cycle, cycle.demand, names, verdicts, context.evaluator):
        return Filtered(verdicts, Stall.HELD)
    return Filtered(verdicts)


def _held_back(cycle: SchedulingCycle, demand: Demand, names: Sequence[str], verdicts: Sequence[Verdict], evaluator: Evaluator) -> bool:
    """Whether a node would do if nobody were on his way there. Who is may never arrive: that is not known for a no.

    Room for nominated pods is left as kube-scheduler leaves it; but where by its own count there is none to leave, it has dropped the
    nomination already.
    """
    held = [name for name, verdict in zip(names, verdicts, strict=True) if name in cycle.extra_pods and _may_vanish(cycle, name, verdict)]
    return any(verdict.feasible for verdict in evaluate_nodes(evaluator, cycle.snapshot, demand, held))


def _may_vanish(cycle: SchedulingCycle, name: str, verdict: Verdict) -> bool:
    if name in cycle.held:
        return verdict.resolvable
    return verdict.rejection is not None and verdict.rejection.reason is Reason.TOO_FEW_FREE


def _second_look(cycle: SchedulingCycle, demand: Demand, name: str, verdict: Verdict, context: EvaluationContext) -> Verdict | None:
    """The verdict on the node nominated to the pod, knowing that kube-scheduler counts room for it there; None: nobody can tell yet.

    Which of the terminating pods are gone is not known, only that together they leave so much room. If the pod fits in every case, it
    fits; if in none, not even were all gone that it may have evicted, it does not.
    """
    view = cycle.snapshot.views.get(name)
    if verdict.rejection is not None and verdict.rejection.reason in _BY_TELEMETRY:
        return None
    if view is None or not verdict.resolvable:
        return verdict
    extra_pods = cycle.extra_pods.get(name, ())
    room = view.state.allocatable - view.state.requested - sum(guest.total for guest in extra_pods)
    cases = [gone for gone in _departures(view) if room + sum(p.demand.total for p in view.pods if p.key in gone) >= demand.total]
    found = [_without(cycle, demand, name, gone, context) for gone in cases]
    if found and all(one is not None and one.feasible for one in found):
        return found[-1]
    evictable = frozenset(pod.key for pod in view.pods if pod.terminating or pod.priority < cycle.priority)
    hopeful = [*found, _without(cycle, demand, name, evictable, context)]
    return None if not found or any(one is not None and one.feasible for one in hopeful) else verdict


def _departures(view: NodeView) -> Iterator[frozenset[str]]:
    """Every set of the node's terminating pods that may be gone by now, the largest last."""
    going = [pod.key for pod in view.pods if pod.terminating]
    if len(going) > MOST_GOING:
        yield frozenset(going)
        return
    for count in range(len(going) + 1):
        yield from map(frozenset, combinations(going, count))


def _without(cycle: SchedulingCycle, demand: Demand, name: str, gone: frozenset[str], context: EvaluationContext) -> Verdict | None:
    try:
        state = without_pods(cycle.snapshot, name, gone, context.resource, context.defaults, strangers_left=True)
    except Exception as error:  # it stays with this node
        return context.evaluator.broken(demand, cycle.snapshot.views[name].state, error)
    return None if state is None else evaluate_with_extra_pods(context.evaluator, demand, state, cycle.extra_pods.get(name, ()))
