"""A Pending pod that fits, or whose reason only others know: assumed pods, the reports of kube-scheduler, its own state and claims."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod
from extender.decision.cycle.scheduling_cycle import Stall
from extender.decision.evaluate.verdict import Evidence
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.request.pod_request import Demand
from extender.decision.why.why_pod import why_answer
from extender.sources.simulated_dra import claim_manifest, exact_request
from tests.dra.dra_objects import claim_pod, cluster
from tests.why.why_questions import TAINT, Manifest, ask, failed, machine_node, question, remedy, waiting_pod


def assumed(node_name: str, gpus: int) -> Any:
    held = AssumedPod("uid-other", "team", "other", node_name, Demand(((gpus, False),), gpus), Evidence(), 0.0, 100.0, "id")
    return NO_ASSUMED_PODS.placed(held)


def test_pod_that_only_an_assumed_pod_keeps_out_waits() -> None:
    answer = ask(waiting_pod(8), *machine_node("a", "hgx-h100"), assumed_pods=assumed("a", 4))
    assert answer.reason == "pods that were decided a moment ago are not visible on their nodes yet"
    assert remedy(answer, "wait").text.startswith("wait some seconds: team/other was decided a moment ago")


def test_pod_waits_for_an_assumed_pod_that_only_the_report_of_kube_scheduler_tells_of() -> None:
    answer = ask(waiting_pod(8), *machine_node("a", "hgx-h100"), events=[failed(Stall.HELD.value)])
    assert answer.reason == "pods that were decided a moment ago are not visible on their nodes yet"
    assert answer.remedies[0].kind == "wait"


def test_nothing_is_wrong_with_a_pod_that_was_not_tried_yet() -> None:
    answer = ask(waiting_pod(2, spec={"schedulerName": "gpu-scheduler"}), *machine_node("a", "hgx-h100"))
    assert answer.reason == "not tried yet"
    assert "Nothing is wrong with the pod: it fits on 1 node, first a with 360 GB/s expected" in answer.sentence
    assert answer.fits is not None


def test_probable_name_of_the_scheduler_is_offered() -> None:
    held = machine_node("a", "hgx-h100", {"x": (0,)})
    held[2]["spec"]["schedulerName"] = "gpu-scheduler"
    answer = ask(waiting_pod(2, spec={"schedulerName": "gpu-schedular"}), *held)
    assert "is schedulerName gpu-schedular right? Other pods are scheduled by gpu-scheduler" in [each.text for each in answer.remedies]


def test_report_that_the_state_contradicts_is_older() -> None:
    report = failed("0/1 nodes are available: 1 too few free GPUs. preemption: none.", ago_seconds=40)
    answer = ask(waiting_pod(2), *machine_node("a", "hgx-h100"), events=[report])
    assert answer.reason == "it fits now"
    assert "kube-scheduler's last attempt was 40 s ago" in answer.sentence
    assert answer.reported is not None
    assert answer.reported.is_older


def test_report_fills_in_what_could_not_be_checked() -> None:
    report = failed("0/2 nodes are available: 1 Insufficient cpu, 1 node(s) exceed max volume count.")
    answer = ask(waiting_pod(2), *machine_node("a", "hgx-h100"), events=[report], are_pods_known=False)
    assert answer.reason == "Insufficient cpu"
    assert {cause.reason for group in answer.groups for cause in group.causes} >= {"Insufficient cpu", "node(s) exceed max volume count"}


def test_report_that_leaves_feasible_nodes_is_older_even_if_it_was_not_checked() -> None:
    objects = [each for name in "ab" for each in machine_node(name, "hgx-h100")]
    report = failed("0/2 nodes are available: 1 Insufficient cpu, 1 too few free GPUs.")
    assert ask(waiting_pod(2), *objects, events=[report], are_pods_known=False).reason == "it fits now"


def test_error_of_kube_scheduler_is_the_reason_of_a_pod_that_fits() -> None:
    report = failed('Post "http://fabricwise:8888/scheduler/filter": context deadline exceeded')
    answer = ask(waiting_pod(2), *machine_node("a", "hgx-h100"), events=[report])
    assert answer.reason == "kube-scheduler reports an error"
    assert "the extender is down or not reachable" in answer.remedies[0].text


def test_pod_of_which_the_extender_keeps_a_part_is_answered_with_the_report_for_the_rest() -> None:
    report = failed("0/1 nodes are available: 1 node(s) had untolerated taint {team: research}.")
    answer = ask(waiting_pod(2), *machine_node("a", "hgx-h100", taints=[TAINT]), events=[report], is_kept=True)
    assert answer.reason == "node(s) had untolerated taint {team: research}"
    assert any("send its manifest" in check for check in answer.not_checked)


def test_scheduling_gates_are_the_reason_before_all_others() -> None:
    answer = ask(waiting_pod(2, spec={"schedulingGates": [{"name": "queue"}]}), *machine_node("a", "hgx-h100"))
    assert answer.reason == "the pod has scheduling gates"
    assert "queue" in answer.sentence


def test_cluster_without_nodes_is_answered_by_the_report_alone() -> None:
    answer = ask(waiting_pod(2), events=[failed("0/3 nodes are available: 2 Insufficient cpu, 1 too few free GPUs.")])
    assert answer.reason == "Insufficient cpu"
    assert [group.nodes for group in answer.groups] == [2, 1]
    assert ask(waiting_pod(2)).reason == "no nodes are known"


def test_filters_of_fabricwise_do_not_count_for_a_pod_of_another_scheduler() -> None:
    objects = machine_node("a", "hgx-h100")
    assert ask(waiting_pod(1, min_gpu_memory="140Gi"), *objects, is_foreign=True).reason == "not tried yet"


def test_manifest_that_was_not_created_yet_is_answered_with_where_it_would_go() -> None:
    answer = ask(waiting_pod(2), *machine_node("a", "hgx-h100"), is_new=True)
    assert (answer.state, answer.reason) == ("new", "it fits")


def test_search_that_runs_out_of_time_says_so() -> None:
    steps = iter([True] * 3)
    answer = why_answer(question(waiting_pod(4, min_busbw="500"), *machine_node("a", "hgx-h100")), lambda: next(steps, False))
    assert not answer.complete
    assert answer.reason == "bandwidth floor out of reach"


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"metadata": {"name": "w", "uid": "1", "deletionTimestamp": "2027-01-01T00:00:00Z"}}, "terminating"),
        ({"status": {"phase": "Succeeded"}}, "finished"),
        ({"status": {"phase": "Failed"}}, "finished"),
    ],
)
def test_pod_that_has_ended_or_ends_is_answered_in_one_sentence(changed: Manifest, state: str) -> None:
    answer = ask({**waiting_pod(2), **changed}, *machine_node("a", "hgx-h100"))
    assert answer.state == state
    assert answer.remedies == []


def test_pod_whose_resource_claim_does_not_exist_waits_for_it() -> None:
    asked = question(claim_pod("missing"))
    asked = replace(asked, moment=replace(asked.moment, snapshot=cluster()), around=Surroundings(cluster().nodes, {}))
    answer = why_answer(asked)
    assert answer.reason == "a ResourceClaim of the pod is not known"
    assert "team/missing" in answer.sentence


def test_pod_with_a_claim_is_evaluated_by_the_devices_of_its_claim() -> None:
    state = cluster(claim_manifest("four", [exact_request(9)], "team"))
    asked = question(claim_pod("four"))
    asked = replace(asked, moment=replace(asked.moment, snapshot=state), around=Surroundings(state.nodes, {}))
    answer = why_answer(asked)
    assert answer.fits is None
    assert answer.reason == "node has fewer GPUs than the pod requests"


def test_node_outside_the_pool_that_an_assumed_pod_fills_is_not_offered_as_one_to_label() -> None:
    classes = [{"name": "prod", "pools": [{"pool": "prod"}]}]
    nodes, wanted = machine_node("a", "hgx-h100"), waiting_pod(8, workload_class="prod")
    free = ask(wanted, *nodes, classes=classes)
    assert [each.text.split(",")[0] for each in free.remedies if each.fits and each.node == "a"] == ["kubectl label node a pool=prod"]
    taken = ask(wanted, *nodes, classes=classes, assumed_pods=assumed("a", 4))
    assert not [each for each in taken.remedies if each.fits and each.node == "a"]
