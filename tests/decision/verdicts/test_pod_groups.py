"""Pods of a PodGroup: kube-scheduler's round without victims, and rounds that it reverts."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod
from extender.decision.cycle.pod_groups import by_feasibility_in_group
from extender.decision.cycle.scheduling_cycle import Evaluation, EvaluationContext, Moment, by_feasibility, evaluate_pod
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.evaluate.verdict import Evidence
from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.request.pod_request import Demand
from extender.scheduling.scheduling_service import SchedulingService
from extender.server.service import build_service
from extender.settings import Settings
from extender.sources.simulated import simulated
from tests.objects import GPU, node, pod, pod_struct, snapshot, topology

GROUP = {"schedulingGroup": {"podGroupName": "gang"}}
NODE = (node("a", 8), topology("a", "dgx-1v"))


def member(gpus: int, name: str = "member", min_busbw: str | None = None) -> dict[str, Any]:
    """A pod of the PodGroup `gang`."""
    return pod(
        gpus,
        name=name,
        spec=GROUP | {"priority": 10},
        annotations={} if min_busbw is None else {"fabricwise.dev/min-busbw": min_busbw},
    )


def running(gpus: int, priority: int, name: str = "victim") -> dict[str, Any]:
    """A pod on node a."""
    return pod(gpus, name=name, node="a", spec={"priority": priority})


def evaluated(asked: dict[str, Any], *objects: dict[str, Any], in_group: bool = True) -> Evaluation:
    """The evaluation of a filter call for node a."""
    context = EvaluationContext(Evaluator(DEFAULT_POLICY), GPU, NODE_DEFAULTS)
    decide = by_feasibility_in_group if in_group else by_feasibility
    return evaluate_pod(context, Moment(snapshot(*NODE, *objects), NO_ASSUMED_PODS, 1.0), pod_struct(asked), ["a"], decide)


# name -> (the pod, pods on the node, whether the node passes)
ROUNDS: dict[str, tuple[dict[str, Any], tuple[dict[str, Any], ...], bool]] = {
    "the GPUs of victims are needed": (member(4), (running(8, 0),), True),
    "the pods on the node have the same priority": (member(4), (running(8, 10),), False),
    "victims do not hold enough": (member(4), (running(2, 0), running(6, 10, "other")), False),
    "the node has fewer GPUs": (member(9), (running(8, 0),), False),
    "the snapshot counts room, and only the links are missing": (member(4, min_busbw="130"), (running(4, 0),), False),
}


@pytest.mark.parametrize("name", ROUNDS)
def test_node_whose_gpus_possible_victims_hold_passes_for_a_pod_of_a_group(name: str) -> None:
    asked, objects, passes = ROUNDS[name]
    evaluation = evaluated(asked, *objects)
    assert evaluation.verdicts[0].feasible is passes
    assert evaluation.decided_node is None, "its victims are still there"


def test_pod_without_a_group_is_rejected_as_before() -> None:
    assert not evaluated(member(4), running(8, 0), in_group=False).verdicts[0].feasible


def test_new_cycle_of_a_pod_reverts_the_pods_of_its_group_that_were_decided_after_it() -> None:
    assumed_pods = NO_ASSUMED_PODS
    for key, group in (("x", "team/gang"), ("y", "team/gang"), ("other", None), ("z", "team/gang"), ("foreign", "team/other")):
        demand = Demand(((1, False),), 1)
        assumed_pods = assumed_pods.placed(AssumedPod(key, "team", key, "a", demand, Evidence(), 0.0, 30.0, "id", group))
    assert assumed_pods.reverted_by("y") == ("y", "z")
    assert assumed_pods.reverted_by("other") == ("other",)
    assert assumed_pods.reverted_by("unknown") == ()


def test_group_that_is_tried_again_is_not_blocked_by_its_own_earlier_round() -> None:
    service = build_service(Settings())
    service.store.apply(simulated(GPU).listing())
    scheduling = service.scheduling
    names = ["t4-0"]
    for _ in range(3):
        for name in ("first", "second"):
            outcome = _filtered(scheduling, member(2, name), names)
            assert outcome.verdicts[0].feasible
            assert outcome.decided_node == "t4-0"


def _filtered(scheduling: SchedulingService, asked: dict[str, Any], names: list[str]) -> Evaluation:
    outcome = scheduling.filter(pod_struct(asked), names, 0)
    assert isinstance(outcome, Evaluation), outcome
    return outcome
