"""The sets that a pod may get: each is listed once, the others are counted, and all are compared with the allocation."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import Policy
from extender.decision.evaluate.verdict import MOST_PROSPECTS, Evidence
from extender.decision.node.node_telemetry import as_left
from extender.decision.report.placement_record import placement_record_of
from extender.decision.report.prediction_outcomes import became_known, compare
from extender.decision.report.serializers import node_answer
from extender.decision.request.pod_request import Demand, demand_of
from extender.decision.state.fold.reducer import fold
from extender.kube.objects.decode import seen
from extender.telemetry.conditions import NodeTelemetry, vacated
from tests.node_state.allocation_objects import topology, view
from tests.objects import GPU, container, node, pod, pod_struct, snapshot
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.platforms import machine_of

UNIFORM = {"fabricwise.dev/device-plugin": "uniform"}


def evidence_of(platform: str, manifest: dict[str, Any], gpus: int = 8, labels: dict[str, str] | None = None) -> Evidence:
    """Return the evidence of a pod on an empty node."""
    state = snapshot(node("n", gpus, labels=labels), encode(TopologyRecord("n", machine_of(platform, "u"))))
    demand = demand_of(pod_struct(manifest), GPU)
    assert isinstance(demand, Demand)
    return Evaluator(Policy()).evaluate(demand, state.views["n"].state).evidence


# name -> (platform, containers' GPUs)
SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "a pair and one more": ("dgx-1v", (2, 1)),
    "two pairs": ("dgx-1v", (2, 2)),
    "three and two": ("a100-pcie-bridge-pairs", (3, 2)),
    "two pairs of a switched board": ("hgx-h100", (2, 2)),
}


@pytest.mark.parametrize("case", SHAPES)
def test_each_predicted_set_is_listed_once_with_its_total_probability(case: str) -> None:
    platform, containers = SHAPES[case]
    evidence = evidence_of(platform, pod(*containers))
    sets = [prospect.gpus for prospect in evidence.prospects]
    assert len(sets) == len({*sets})
    listed = sum(prospect.probability for prospect in evidence.prospects)
    assert listed + evidence.further_probability == pytest.approx(1, abs=1e-4)


def test_set_that_containers_may_divide_in_several_ways_is_shown_with_both_speeds() -> None:
    """All eight GPUs of a hybrid cube mesh for three containers: the containers' bandwidth depends on the division."""
    evidence = evidence_of("dgx-1v", pod(2, 3, 3))
    (prospect,) = evidence.prospects
    assert prospect.busbw_gbps is not None
    assert prospect.most_busbw_gbps is not None
    assert prospect.busbw_gbps < prospect.most_busbw_gbps
    assert (
        f"100% ({prospect.busbw_gbps:.1f} to {prospect.most_busbw_gbps:.1f} GB/s)"
        in placement_record_of("uid", "n", evidence).as_sentence()
    )


def test_sets_that_are_not_listed_are_counted_with_their_probability() -> None:
    evidence = evidence_of("hgx-h100", pod(3), labels=UNIFORM)  # any 3 of 8: 56 sets
    assert (len(evidence.prospects), evidence.further_sets) == (MOST_PROSPECTS, 56 - MOST_PROSPECTS)
    assert evidence.further_probability == pytest.approx(1 - MOST_PROSPECTS / 56, abs=1e-4)
    record = placement_record_of("uid", "n", evidence)
    assert "and 52 more (93%)" in record.as_sentence()
    assert (record.as_data()["furtherSets"], record.as_data()["furtherProbability"]) == (52, pytest.approx(52 / 56, abs=1e-4))


def test_answer_states_how_many_sets_it_does_not_list() -> None:
    state = snapshot(node("n", 8, labels=UNIFORM), encode(TopologyRecord("n", machine_of("hgx-h100"))))
    verdict = Evaluator(Policy()).evaluate(Demand(((3, False),), 3), state.views["n"].state)
    answer = node_answer("n", verdict, None)
    assert (len(answer["predicted"]), answer["further_sets"]) == (16, 40)


def running_with(indices: tuple[int, ...], manifest: dict[str, Any]) -> dict[str, Any]:
    """The pod on the node, with these GPUs in the status of its first container."""
    devices = [{"name": GPU, "resources": [{"resourceID": f"GPU-u-{index}"} for index in indices]}]
    status = {"phase": "Running", "containerStatuses": [{"name": "c0", "allocatedResourcesStatus": devices}]}
    return {**manifest, "spec": {**manifest["spec"], "nodeName": "n"}, "status": status}


def test_set_that_is_predicted_but_not_listed_is_in_the_support() -> None:
    evidence = evidence_of("hgx-h100", pod(3), labels=UNIFORM)
    before = snapshot(node("n", 8, labels=UNIFORM), encode(TopologyRecord("n", machine_of("hgx-h100", "u"))), pod(3, node="n"))
    unlisted = (5, 6, 7)
    assert all(prospect.gpus != unlisted for prospect in evidence.prospects)
    (known,) = became_known(before, fold(before, seen("Pod", running_with(unlisted, pod(3))), GPU))
    assert compare(known, evidence).in_support is True


def test_set_that_an_exact_prediction_rules_out_is_not_in_the_support() -> None:
    evidence = evidence_of("hgx-h100", pod(2))
    before = snapshot(node("n", 8), encode(TopologyRecord("n", machine_of("hgx-h100", "u"))), pod(2, node="n"))
    (known,) = became_known(before, fold(before, seen("Pod", running_with((0, 7), pod(2))), GPU))
    assert compare(known, evidence).in_support is False


def sidecar_pod() -> dict[str, Any]:
    """Two GPUs for a sidecar, two for the main container."""
    inits = [container(2, "side", restartPolicy="Always")]
    return pod(2, spec={"initContainers": inits, "nodeName": "n"})


def test_outcome_of_a_pod_with_a_sidecar_waits_for_the_agent_that_names_all_devices() -> None:
    report = {"status": DeviceStatus((), (), (), 1.0)}
    start = snapshot(node("n", 8), encode(TopologyRecord("n", machine_of("hgx-h100", "u"), **report)), sidecar_pod())
    evidence = evidence_of("hgx-h100", sidecar_pod())
    own = fold(start, seen("Pod", running_with((2, 3), sidecar_pod())), GPU)
    assert became_known(start, own) == ()
    entries = tuple(Allocation(index, None, "team", "llm") for index in range(4))
    agent = DeviceStatus((4, 5, 6, 7), entries, (), 2.0)
    after = fold(own, seen("GpuTopology", encode(TopologyRecord("n", machine_of("hgx-h100", "u"), agent))), GPU)
    (known,) = became_known(own, after)
    assert (known.gpus, known.complete) == ((0, 1, 2, 3), True)
    assert compare(known, evidence).in_support is True
    assert became_known(after, fold(after, seen("Pod", running_with((2, 3), sidecar_pod())), GPU)) == ()


def test_outcome_of_a_pod_whose_init_container_used_more_gpus_is_compared_by_the_known_gpus() -> None:
    manifest = pod(2, spec={"initContainers": [container(4, "init")], "nodeName": "n"})
    start = snapshot(node("n", 8), encode(TopologyRecord("n", machine_of("hgx-h100", "u"))), manifest)
    (known,) = became_known(start, fold(start, seen("Pod", running_with((1, 2), manifest)), GPU))
    assert known.complete is False
    assert compare(known, evidence_of("hgx-h100", manifest)).in_support is True


def test_gpu_that_is_reported_for_two_pods_is_occupied_once_and_reported_as_disagreement() -> None:
    """The sum of both masks would be another GPU."""
    held = DeviceStatus(allocated=(Allocation(1, "uid-a"), Allocation(2, "uid-a"), Allocation(1, "uid-b")))
    found = view(topology(held), pod(2, name="a", node="n"), pod(1, name="b", node="n"))
    assert [mask for mask, _ in found.state.free_sets] == [0b1001]
    assert found.disagreements == ("GPU 1 is reported to be held by 2 pods: team/a, team/b",)


def test_gpu_that_the_kubelet_reallocates_while_its_pod_terminates_is_no_disagreement() -> None:
    held = DeviceStatus(allocated=(Allocation(1, "uid-a"), Allocation(1, "uid-b")))
    going = pod(1, name="a", node="n")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z"
    assert view(topology(held), going, pod(1, name="b", node="n")).disagreements == ()


def test_gpu_of_two_unknown_pods_is_occupied_once() -> None:
    held = DeviceStatus(allocated=(Allocation(1, "gone"), Allocation(1, "other")))
    assert [mask for mask, _ in view(topology(held)).state.free_sets] == [0b1101]


def test_gpus_of_two_other_pods_stay_occupied_when_a_third_pod_leaves() -> None:
    """The devices of a pod that no source names are among those that are not known to be another pod's."""
    held = DeviceStatus(allocated=(Allocation(1, "uid-a"), Allocation(1, "uid-b")))
    pods = [pod(1, name=name, node="n") for name in ("a", "b", "c")]
    found = view(topology(held), *pods)
    assert as_left(NodeTelemetry(), found, {"uid-c"}, vacated) == NodeTelemetry()
