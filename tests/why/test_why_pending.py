"""A Pending pod: its dominant reason, its sentence with numbers, and the first remedy of the expected kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from extender.decision.evaluate.policy import Policy
from extender.decision.state.changes import TelemetrySeen
from tests.objects import node, pod
from tests.why.why_questions import TAINT, Manifest, ask, machine_node, reading, remedy, waiting_pod


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


@pytest.mark.parametrize(("nodes", "ending"), [(1, "n0 offers not even one."), (3, "none of 3 nodes offers one.")])
def test_sentence_about_nodes_without_gpus_counts_them(nodes: int, ending: str) -> None:
    assert ask(waiting_pod(2), *[node(f"n{number}", 0) for number in range(nodes)]).sentence == f"The pod needs 2 GPUs, and {ending}"


def test_uncordon_of_one_node_counts_that_node_alone() -> None:
    nodes = [each for name in "ab" for each in machine_node(name, "hgx-h100", unschedulable=True)]
    helps = remedy(ask(waiting_pod(2), *nodes), "uncordon")
    assert (helps.nodes, helps.fits) == (1, True)
