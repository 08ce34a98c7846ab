"""Filter for a pod of a PodGroup (Kubernetes 1.37, feature gate GenericWorkload). Pure.

kube-scheduler preempts for a whole group: it removes the possible victims from its own snapshot and schedules the group's pods again, with
filter and prioritize of the extenders. It never calls `preempt` for a group, and no field of the arguments tells this round from the first.
Source: kubernetes 1.37 `pkg/scheduler/framework/preemption/podgrouppreemption.go`.
"""

from __future__ import annotations

from dataclasses import replace

from extender.decision.cycle.scheduling_cycle import Evaluation, EvaluationContext, by_feasibility, verdict_without
from extender.decision.evaluate.verdict import Verdict
from extender.decision.node.claims_on_node import all_on_view, on_view
from extender.decision.request.pod_request import Demand

MOST_CONTRADICTED = 100
"""Nodes per call that are evaluated without their possible victims; further ones keep their verdict."""


def by_feasibility_in_group(evaluation: Evaluation, context: EvaluationContext) -> Evaluation:
    """Decide as `by_feasibility`, for a pod of a PodGroup.

    kube-scheduler calls only for nodes with room by its own count of GPUs. Where the snapshot counts none, kube-scheduler's snapshot has
    fewer pods: the node is evaluated without the pods that this pod may evict. A node that is feasible only so is not decided, because its
    victims are still there.
    """
    demand = evaluation.cycle.demand
    if not isinstance(demand, Demand):
        return by_feasibility(evaluation, context)
    contradicted = [
        index
        for index, (name, verdict) in enumerate(zip(evaluation.names.texts, evaluation.verdicts, strict=True))
        if not verdict.feasible and verdict.resolvable and _has_no_room(evaluation, demand, name)
    ]
    verdicts = evaluation.verdicts
    for index in contradicted[:MOST_CONTRADICTED]:
        verdict = _without_victims(evaluation, demand, evaluation.names[index], context)
        if verdict is not None and verdict.feasible:
            verdicts = verdicts.replaced(index, verdict)
    if verdicts is evaluation.verdicts:
        return by_feasibility(evaluation, context)
    return replace(evaluation, verdicts=verdicts)


def _has_no_room(evaluation: Evaluation, demand: Demand, name: str) -> bool:
    """Whether the pod does not fit on the node by the snapshot's count of GPUs."""
    view = evaluation.cycle.snapshot.views.get(name)
    if view is None:
        return False
    extra_pods = all_on_view(evaluation.cycle.extra_pods.get(name, ()), view)
    room = view.state.allocatable - view.state.requested - sum(extra.total for extra in extra_pods)
    return on_view(demand, view).total > room


def _without_victims(evaluation: Evaluation, demand: Demand, name: str, context: EvaluationContext) -> Verdict | None:
    """Return the verdict on the node without the pods of lower priority and those that terminate."""
    cycle = evaluation.cycle
    victims = frozenset(pod.key for pod in cycle.snapshot.views[name].pods if pod.terminating or pod.priority < cycle.priority)
    return verdict_without(cycle, demand, name, victims, context) if victims else None
