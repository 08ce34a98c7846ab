"""A Pending pod: its dominant reason, its sentence with numbers, and the first remedy of the expected kind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod
from extender.decision.cycle.scheduling_cycle import Stall
from extender.decision.evaluate.policy import Policy
from extender.decision.evaluate.verdict import Evidence
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import TelemetrySeen
from extender.decision.why.why_pod import why_answer
from extender.sources.simulated_dra import claim_manifest, exact_request
from tests.dra.dra_objects import claim_pod, cluster
from tests.objects import node, pod
from tests.why.asking import Manifest, ask, failed, machine_node, question, reading, remedy, waiting_pod

TAINT = {"key": "team", "value": "research", "effect": "NoSchedule"}


def requesting(cpu: str, gpus: int = 2) -> Manifest:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}, "requests": {"cpu": cpu}}
    return waiting_pod(spec={"containers": [{"name": "server", "resources": resources}]})


@dataclass(frozen=True)
class Case:
    """A situation, and what the answer must say."""

    pod: Manifest
    objects: list[Manifest]
    reason: str
    sentence: str
    kind: str
    remedy: str
    more: dict[str, Any] = field(default_factory=dict)


CASES = {
    "bandwidth floor that free GPUs miss": Case(
        waiting_pod(2, min_busbw="40"),
        machine_node("a", "dgx-1v", {"chat-7": (1, 2, 3, 4, 6, 7)}),
        "free GPUs do not reach the bandwidth floor",
        "The free GPUs {0,5} of a reach 6 GB/s across the socket; the floor, min-busbw, is 40.",
        "evict",
        "evict team/chat-7; then it fits on a and gives",
    ),
    "bandwidth floor that no GPUs reach": Case(
        waiting_pod(4, min_busbw="500"),
        machine_node("a", "hgx-h100"),
        "bandwidth floor out of reach",
        "No 4 GPUs of 1 node reach the floor of 500 GB/s, min-busbw, not even when empty; the best are those of a with 360.",
        "lower",
        "lower min-busbw from 500 to 360",
    ),
    "memory": Case(
        waiting_pod(1, min_gpu_memory="140Gi"),
        machine_node("a", "hgx-h100"),
        "GPU memory class too small",
        "The pod demands 140 GiB per GPU",
        "lower",
        "lower min-gpu-memory from 140 GiB to 80Gi",
    ),
    "taint": Case(
        waiting_pod(2),
        machine_node("a", "hgx-h100", taints=[TAINT]),
        "node(s) had untolerated taint {team: research}",
        "a has the taint {team: research} of effect NoSchedule, which the pod does not tolerate.",
        "tolerate",
        "tolerate team=research:NoSchedule in the pod, or remove the taint from a",
    ),
    "cordoned": Case(
        waiting_pod(2),
        machine_node("a", "hgx-h100", unschedulable=True),
        "node(s) were unschedulable",
        "a is cordoned",
        "uncordon",
        "kubectl uncordon a",
    ),
    "CPU": Case(
        requesting("100"),
        machine_node("a", "hgx-h100"),
        "Insufficient cpu",
        "Insufficient cpu on 1 node: requested 100, free 64 of 64 (a).",
        "lower",
        "request cpu 64 in all instead of 100",
    ),
    "malformed annotation": Case(
        waiting_pod(2, min_busbw="200GB/s"),
        machine_node("a", "hgx-h100"),
        "pod annotation fabricwise.dev/min-busbw is malformed",
        "The pod's annotation fabricwise.dev/min-busbw: '200GB/s' is not a bandwidth in GB/s",
        "correct",
        'write fabricwise.dev/min-busbw: "200"; then it fits on a and gives 360 GB/s',
    ),
    "malformed annotation whose meaning is unknown": Case(
        waiting_pod(2, min_link="fast"),
        machine_node("a", "hgx-h100"),
        "pod annotation fabricwise.dev/min-link is malformed",
        "is none of nvlink, pix",
        "correct",
        "write fabricwise.dev/min-link as nvlink|pix|pxb|phb|node|sys, such as 'nvlink', or remove it",
    ),
    "class that is not defined": Case(
        waiting_pod(2, workload_class="bacth"),
        machine_node("a", "hgx-h100"),
        "pod names a workload class that is not defined",
        "The pod names a workload class that is not defined: 'bacth' is none of batch, prod",
        "correct",
        "use class batch; then it fits on a",
        {"classes": [{"name": "batch"}, {"name": "prod"}]},
    ),
    "class whose pool has no node": Case(
        waiting_pod(2, workload_class="prod"),
        machine_node("a", "hgx-h100"),
        "node is in no pool of the pod's workload class",
        "Node is in no pool of the pod's workload class on 1 node",
        "correct",
        "kubectl label node a pool=prod",
        {"classes": [{"name": "prod", "pools": [{"pool": "prod"}]}]},
    ),
    "health by the agent": Case(
        waiting_pod(8),
        machine_node("a", "hgx-h100", unhealthy=[(3, "XID 79")]),
        "too few healthy GPUs",
        "Too few healthy GPUs on 1 node: pod requests 8, 7 of 8 are healthy",
        "repair",
        "reset or replace 1 unhealthy GPU of a (GPU 3: XID 79)",
    ),
    "health by telemetry": Case(
        waiting_pod(8),
        machine_node("a", "hgx-h100"),
        "GPU reports a fatal XID error",
        "GPU reports a fatal XID error on 1 node",
        "repair",
        "drain a and reset the GPU",
        {"telemetry": [TelemetrySeen("a", 1.0, tuple(reading("a", gpu, xid=79 if gpu == 2 else 0) for gpu in range(8)))]},
    ),
    "unknown process": Case(
        waiting_pod(8),
        machine_node("a", "hgx-h100"),
        "GPU memory is in use by processes unknown to Kubernetes",
        "GPU memory is in use by processes unknown to Kubernetes on 1 node: GPU 4 has",
        "repair",
        "find and end the processes on a that Kubernetes does not know of (GPU 4: 60 of 80 GiB in use)",
        {"telemetry": [TelemetrySeen("a", 1.0, tuple(reading("a", gpu, 60 if gpu == 4 else 0) for gpu in range(8)))]},
    ),
    "telemetry required by the class": Case(
        waiting_pod(2, workload_class="prod"),
        machine_node("a", "hgx-h100"),
        "GPU telemetry is unknown and the pod's class requires it",
        "The pod's class prod requires GPU telemetry, which is missing on 1 node",
        "repair",
        "make dcgm-exporter answer on a",
        {"classes": [{"name": "prod", "telemetry": "required"}]},
    ),
    "telemetry required by the settings": Case(
        waiting_pod(2),
        machine_node("a", "hgx-h100"),
        "GPU telemetry is unknown and the pod's class requires it",
        "The settings require GPU telemetry",
        "repair",
        "make dcgm-exporter answer on a",
        {"policy": Policy(telemetry_required_for=frozenset("*"))},
    ),
    "16 GPUs are free, but not together": Case(
        waiting_pod(4),
        [*machine_node("a", "hgx-h100", {"x": (0, 1, 2, 3, 4)}), *machine_node("b", "hgx-h100", {"y": (0, 1, 2, 3, 4, 5)})],
        "Insufficient nvidia.com/gpu",
        "The pod needs 4 GPUs on one node; at most 3 are free together, on a; 5 are free in all, on 2 nodes.",
        "evict",
        "evict team/x; then it fits on a",
    ),
    "no node is large enough": Case(
        waiting_pod(8),
        machine_node("a", "l40s"),
        "Insufficient nvidia.com/gpu",
        "The pod needs 8 GPUs on one node; the largest, a, offers 4.",
        "add_node",
        "add one node of 8 x",
    ),
    "topology unknown": Case(
        waiting_pod(2, min_busbw="30"),
        [node("a", 8)],
        "bandwidth floor out of reach",
        "The links of a are unknown",
        "repair",
        "run the agent on a",
    ),
    "terminating pod": Case(
        waiting_pod(8),
        [
            *machine_node("a", "hgx-h100", {"x": (0,)})[:2],
            {
                **pod(1, name="x", node="a"),
                "metadata": {"name": "x", "namespace": "team", "uid": "uid-x", "deletionTimestamp": "2027-01-01T00:00:00Z"},
            },
        ],
        "terminating pods still hold their GPUs",
        "The pod waits: terminating pods still hold their GPUs.",
        "wait",
        "wait until team/x has ended",
    ),
    "node selector with a value that no node has": Case(
        waiting_pod(2, spec={"nodeSelector": {"zone": "west"}}),
        [machine_node("a", "hgx-h100")[0] | {"metadata": {"name": "a", "labels": {"zone": "east"}}}, machine_node("a", "hgx-h100")[1]],
        "node(s) didn't match Pod's node affinity/selector",
        "Node(s) didn't match Pod's node affinity/selector on 1 node: the pod requires zone=west",
        "correct",
        "change what the pod selects (zone=west); there zone is east",
    ),
    "compute capability": Case(
        waiting_pod(1, min_compute_capability="10.0"),
        [
            machine_node("a", "hgx-h100")[0]
            | {"metadata": {"name": "a", "labels": {"nvidia.com/gpu.compute.major": "9", "nvidia.com/gpu.compute.minor": "0"}}},
        ],
        "GPU compute capability too low",
        "GPU compute capability too low on 1 node",
        "lower",
        "lower min-compute-capability from 10.0 to 9.0",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cause_is_named_with_numbers_and_the_remedy_that_removes_it(case: Case) -> None:
    answer = ask(case.pod, *case.objects, **case.more)
    assert answer.state == "pending"
    assert answer.reason == case.reason, answer
    assert case.sentence in answer.sentence
    assert case.remedy in remedy(answer, case.kind).text
    assert answer.complete
    assert sum(group.nodes for group in answer.groups) == len([each for each in case.objects if each["kind"] == "Node"])


def test_remedies_come_in_the_order_of_their_costs_and_the_verified_ones_first() -> None:
    for case in CASES.values():
        remedies = ask(case.pod, *case.objects, **case.more).remedies
        assert [(not each.fits, each.cost) for each in remedies] == sorted((not each.fits, each.cost) for each in remedies)


def test_example_of_the_issue_has_eviction_the_lower_floor_and_a_node_in_this_order() -> None:
    answer = ask(waiting_pod(2, min_busbw="40"), *machine_node("a", "dgx-1v", {"chat-7": (1, 2, 3, 4, 6, 7)}))
    assert [each.kind for each in answer.remedies] == ["evict", "lower", "add_node"]
    assert answer.remedies[0].evict == ["team/chat-7"]
    assert answer.remedies[2].platform == "dgx-1v"


def test_pod_of_higher_priority_is_never_offered_for_eviction() -> None:
    held = machine_node("a", "hgx-h100", {"x": (0, 1, 2, 3, 4)}, priority=10)
    answer = ask(waiting_pod(8), *held)
    assert "evict" not in [each.kind for each in answer.remedies]
    lower = ask(waiting_pod(8, spec={"priority": 10}), *held)
    assert remedy(lower, "evict").evict == ["team/x"]


def test_pod_of_a_daemon_set_is_never_offered_for_eviction() -> None:
    held = machine_node("a", "hgx-h100", {"x": (0, 1, 2, 3, 4)})
    held[2]["metadata"]["ownerReferences"] = [{"kind": "DaemonSet", "name": "d", "uid": "1"}]
    assert "evict" not in [each.kind for each in ask(waiting_pod(8), *held).remedies]


def test_two_pods_are_evicted_where_one_is_not_enough() -> None:
    held = machine_node("a", "hgx-h100", {"x": (0, 1), "y": (2, 3), "z": (4, 5)})
    found = remedy(ask(waiting_pod(6), *held), "evict")
    assert len(found.evict) == 2


def test_pod_without_gpus_that_takes_the_cpu_is_offered_for_eviction() -> None:
    hog = pod(name="hog", node="a", spec={"containers": [{"name": "c", "resources": {"requests": {"cpu": "60"}}}]})
    answer = ask(requesting("10"), *machine_node("a", "hgx-h100"), hog)
    assert answer.reason == "Insufficient cpu"
    assert remedy(answer, "evict").evict == ["team/hog"]
    assert remedy(answer, "lower").requests == {"cpu": "4"}


def test_cheap_change_on_one_node_counts_more_than_many_full_nodes() -> None:
    full = [each for name in "bcde" for each in machine_node(name, "hgx-h100", {f"pod-{name}": range(8)}, priority=9)]
    answer = ask(waiting_pod(2), *full, *machine_node("a", "hgx-h100", taints=[TAINT]))
    assert answer.reason == "node(s) had untolerated taint {team: research}"


def test_demands_that_only_together_keep_the_pod_out_are_lowered_together() -> None:
    answer = ask(waiting_pod(2, min_busbw="5000", min_gpu_memory="900Gi", min_link="nvlink"), *machine_node("a", "hgx-h100"))
    found = remedy(answer, "lower")
    assert found.annotations == {"fabricwise.dev/min-busbw": "360", "fabricwise.dev/min-gpu-memory": "80Gi"}, "min-link is met"
    assert found.text.startswith("lower min-busbw from 5000 to 360 and lower min-gpu-memory from 900 GiB to 80Gi; then it fits on a")


def test_reason_that_no_eviction_resolves_counts_more_than_full_nodes() -> None:
    full = machine_node("a", "hgx-h100", {"x": range(8)}, priority=9)
    assert ask(waiting_pod(2, min_busbw="5000", min_gpu_memory="900Gi"), *full).reason == "GPU memory class too small"


def test_expensive_remedy_on_one_node_is_not_the_reason_of_many_full_nodes() -> None:
    full = [each for name in "bcde" for each in machine_node(name, "hgx-h100", {f"pod-{name}": range(7)}, priority=9)]
    answer = ask(waiting_pod(2, min_busbw="300"), *full, *machine_node("a", "t4"))
    assert answer.reason == "Insufficient nvidia.com/gpu"


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
