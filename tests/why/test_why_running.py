"""A bound pod: its GPUs and bandwidth, why they are slow, its neighbours, and whether it would be placed better now."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extender.decision.state.changes import TelemetrySeen
from extender.decision.why.running_pod import pod_of_bound
from extender.decision.why.why_pod import why_answer
from extender.decision.why.why_types import WhyAnswer, WhyPlacement
from extender.telemetry.signals import THERMAL
from tests.objects import GPU
from tests.slots.moved_clusters import labelled, owned
from tests.why.why_questions import Manifest, ask, machine_node, question, reading

RECORD = "fabricwise.dev/decision"


def running(objects: list[Manifest], name: str = "llm", annotations: dict[str, str] | None = None, **more: Any) -> WhyAnswer:
    """Return the answer about one of the pods that are bound in a cluster of these objects."""
    wanted = next(each for each in objects if each["kind"] == "Pod" and each["metadata"]["name"] == name)
    wanted = {**wanted, "metadata": wanted["metadata"] | {"annotations": annotations or {}}, "status": {"phase": "Running"}}
    return ask(wanted, *[each for each in objects if each["metadata"]["name"] != name], **more)


def placed(answer: WhyAnswer) -> WhyPlacement:
    assert answer.placement is not None
    return answer.placement


def test_pod_on_bridged_gpus_is_placed_well() -> None:
    answer = running(machine_node("a", "a100-pcie-bridge-pairs", {"llm": (0, 1)}))
    assert (answer.state, answer.reason) == ("running", "placed well")
    assert answer.sentence == "The pod runs on GPUs {0,1} of a, which reach 240 GB/s; no better place is free now."
    assert placed(answer).gpus == [0, 1]


def test_pod_is_slow_because_its_gpus_have_no_bridge_between_them() -> None:
    answer = running(machine_node("a", "a100-pcie-bridge-pairs", {"llm": (0, 2), "other": (1, 3)}))
    assert answer.reason == "slower GPUs than its node has"
    assert "no two of these GPUs are joined by NVLink" in answer.sentence
    placement = placed(answer)
    assert placement.actual_gbps == 20
    assert placement.best_on_node_gbps == 240
    assert placement.better is not None, "a bridged pair is free on the same node"
    assert placement.gain_gbps == 220
    assert answer.remedies[0].kind == "move"


UNBRIDGED = machine_node("a", "a100-pcie-bridge-pairs", {"llm": (0, 2), "other": (1, 3)})
JOB = {"jobset.sigs.k8s.io/jobset-name": "train"}
MOVES = {
    "a controller recreates it": (owned(UNBRIDGED), "delete the pod so that its owner recreates it: it would go to GPUs", []),
    "nothing recreates it": (
        owned(UNBRIDGED, None),
        "delete the pod and create it again: it would go to GPUs",
        ["no controller recreates it"],
    ),
    "its group restarts": (
        labelled(owned(UNBRIDGED), JOB, "llm"),
        "delete the pod so that its owner recreates it: it would go to GPUs",
        [
            "its JobSet team/train restarts as a whole (how many pods that are is not known), "
            "unless the backoffLimit of the pod's Job covers the lost pod"
        ],
    ),
}


@pytest.mark.parametrize(("objects", "text", "harms"), MOVES.values(), ids=MOVES)
def test_remedy_that_deletes_a_bound_pod_says_what_that_costs(objects: list[Manifest], text: str, harms: list[str]) -> None:
    move = running(objects).remedies[0]
    assert move.text.startswith(text)
    assert (move.harms, all(harm in move.text for harm in harms)) == (harms, True)


def test_pod_would_be_better_on_another_node() -> None:
    objects = [*machine_node("a", "l40s", {"llm": (0, 1)}), *machine_node("b", "hgx-h100")]
    answer = running(objects)
    better = placed(answer).better
    assert answer.reason == "a better place is free now"
    assert better is not None
    assert (better.node, better.bandwidth_gbps) == ("b", 360)
    assert "b with 360 GB/s expected is free now" in answer.sentence


def test_node_that_the_pod_does_not_tolerate_is_no_better_place() -> None:
    taint = {"key": "team", "value": "x", "effect": "NoSchedule"}
    objects = [*machine_node("a", "l40s", {"llm": (0, 1)}), *machine_node("b", "hgx-h100", taints=[taint])]
    assert placed(running(objects)).better is None


def test_better_place_that_its_own_gpus_make_is_found() -> None:
    answer = running(machine_node("a", "a100-pcie-bridge-pairs", {"llm": (0, 2), "o": (1, 3, 4, 5, 6, 7)}))
    assert placed(answer).better is None, "without the pod only its own two GPUs are free"


def test_prediction_of_the_placement_record_is_shown_beside_the_actual_bandwidth() -> None:
    answer = running(machine_node("a", "hgx-h100", {"llm": (0, 1)}), annotations={RECORD: json.dumps({"expectedGbps": 355.5})})
    assert placed(answer).predicted_gbps == 355.5
    assert "360 GB/s (356 predicted)" in answer.sentence


@pytest.mark.parametrize(
    "record", ["", "{", "[]", '{"expectedGbps": "x"}', '{"expectedGbps": 1e400}', '{"expectedGbps": -5}', "[" * 10_000]
)
def test_placement_record_that_a_user_has_spoiled_is_left_out(record: str) -> None:
    assert placed(running(machine_node("a", "hgx-h100", {"llm": (0, 1)}), annotations={RECORD: record})).predicted_gbps is None


def test_faults_of_its_own_gpus_come_first_and_those_of_others_do_not_count() -> None:
    hot = reading("a", 0, throttle_reasons=THERMAL, temperature_celsius=93.0)
    other = reading("a", 5, xid=79)
    telemetry = [TelemetrySeen("a", 1.0, (hot, other))]
    answer = running(machine_node("a", "hgx-h100", {"llm": (0, 1)}), telemetry=telemetry)
    assert answer.reason == "its GPUs have faults"
    assert placed(answer).faults == ["GPU 0: clocks are reduced by heat (93 degrees Celsius)"]
    assert "GPU 0: clocks are reduced by heat" in answer.sentence


def test_neighbours_are_the_other_pods_of_the_node_with_their_gpus() -> None:
    objects = [*machine_node("a", "hgx-h100", {"llm": (0, 1), "other": (4, 5)}), *machine_node("b", "hgx-h100", {"far": (0,)})]
    neighbours = placed(running(objects)).neighbours
    assert [(each.pod, each.indices) for each in neighbours] == [("team/other", [4, 5])]


def test_single_gpu_has_no_bandwidth_and_no_better_place() -> None:
    answer = running([*machine_node("a", "t4", {"llm": (0,)}), *machine_node("b", "hgx-h100")])
    assert answer.reason == "placed well"
    assert placed(answer).actual_gbps is None


def test_pod_on_a_node_that_is_not_known_is_answered() -> None:
    wanted = machine_node("a", "t4", {"llm": (0,)})[2]
    answer = ask(wanted)
    assert placed(answer).gpus is None


def test_bound_pod_of_which_the_extender_keeps_a_part_is_answered() -> None:
    asked = question(machine_node("a", "l40s", {"llm": (0, 1)})[2], *machine_node("a", "l40s", {"llm": (0, 1)})[:2], is_kept=True)
    kept = pod_of_bound(asked.moment.snapshot, "uid-llm", GPU)
    assert kept is not None
    answer = why_answer(asked.of(kept), predicted_gbps=20.0)
    assert placed(answer).gpus == [0, 1]
    assert placed(answer).predicted_gbps == 20.0
    assert answer.not_checked
