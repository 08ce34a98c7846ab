"""Which container asks, and what was decided for it: tables of named cases on known machines."""

from __future__ import annotations

from typing import Any

import pytest

from extender.steering.answers.node_pods import kept_of
from extender.steering.choice.device_choice import Answer, Basis, Request, choose
from extender.steering.choice.waiting_pods import NodePod, node_pod, waiting
from tests.steering.choice.waiting_manifests import FACTS, manifest, pods
from tests.steering.steered_machine import GPU, IDS, facts
from topology.devices.facts_file import decode_facts
from topology.devices.steering import KnownDevices


def answer(found: list[NodePod], size: int, served: dict[tuple[str, str], set[str]] | None = None, free: str = "01234567") -> Answer:
    request = Request(tuple(IDS[int(digit)] for digit in free), (), size)
    chosen = choose(request, FACTS, waiting(found, served or {}, size))
    assert isinstance(chosen, Answer)
    return chosen


def gpus(chosen: Answer) -> str:
    return "".join(device.removeprefix("GPU-") for device in chosen.ids)


def on_node(node: str, decision: str) -> dict[str, Any]:
    """A pod that is bound to a node, as a steerer keeps it."""
    found = manifest("a", [2], decided=decision)
    found["spec"]["nodeName"] = node
    return kept_of(found)


CASES = [
    # what, pods, size, served -> devices, basis
    ("no pod is waiting", [], 2, {}, "01", Basis.FUNCTION),
    ("one pod waits with a decision", [manifest("a", [2], decided=[[4, 5]])], 2, {}, "45", Basis.DECISION),
    ("one pod waits without a decision", [manifest("a", [2])], 2, {}, "01", Basis.FUNCTION),
    ("another size is asked for", [manifest("a", [2], decided=[[4, 5]])], 1, {}, "0", Basis.FUNCTION),
    ("the pod has its devices", [manifest("a", [2], decided=[[4, 5]])], 2, {("team", "a"): {"main-0"}}, "01", Basis.FUNCTION),
    ("the second container asks", [manifest("a", [1, 2], decided=[[4], [6, 7]])], 2, {("team", "a"): {"main-0"}}, "67", Basis.DECISION),
    ("a container asks out of order", [manifest("a", [1, 2], decided=[[4], [6, 7]])], 2, {}, "01", Basis.FUNCTION),
    ("an init container that a larger one reuses, of the larger one's set", [manifest("a", [4], [2])], 2, {}, "01", Basis.FUNCTION),
    ("an init container may ask as well", [manifest("a", [2], [2], decided=[[4, 5]])], 2, {}, "45", Basis.DECISION),
    (
        "the init container of a pod that has its devices does not ask",
        [manifest("a", [3], [2]), manifest("b", [2], decided=[[4, 5]])],
        2,
        {("team", "a"): {"main-0"}},
        "45",
        Basis.DECISION,
    ),
    (
        "pods of equal demand: the set of the first one",
        [manifest("b", [2], decided=[[6, 7]], scheduled="2"), manifest("a", [2], decided=[[4, 5]], scheduled="1")],
        2,
        {},
        "45",
        Basis.DECISION,
    ),
    (
        "pods of equal demand, the first decided set is not on offer",
        [manifest("a", [2], decided=[[4, 8]], scheduled="1"), manifest("b", [2], decided=[[6, 7]], scheduled="2")],
        2,
        {},
        "67",
        Basis.DECISION,
    ),
    (
        "pods of different demand",
        [manifest("a", [2], decided=[[4, 5]]), manifest("b", [2, 1], decided=[[6, 7], [3]])],
        2,
        {},
        "01",
        Basis.FUNCTION,
    ),
    ("the decision is about another node", [on_node("b", '{"node": "c", "containers": [[4, 5]]}')], 2, {}, "01", Basis.FUNCTION),
    ("the decision is about this node", [on_node("b", '{"node": "b", "containers": [[4, 5]]}')], 2, {}, "45", Basis.DECISION),
    ("the decision is of too many devices", [manifest("a", [2], decided=[[4, 5, 6]])], 2, {}, "01", Basis.FUNCTION),
    ("the decision names one device twice", [manifest("a", [2], decided=[[4, 4]])], 2, {}, "01", Basis.FUNCTION),
    ("the decision names a device that does not exist", [manifest("a", [2], decided=[[4, 99]])], 2, {}, "01", Basis.FUNCTION),
    ("the annotation is no JSON", [manifest("a", [2], decided="{")], 2, {}, "01", Basis.FUNCTION),
    ("the annotation is deeply nested", [manifest("a", [2], decided="[" * 60_000)], 2, {}, "01", Basis.FUNCTION),
    ("the annotation is huge", [manifest("a", [2], decided=" " * 100_000)], 2, {}, "01", Basis.FUNCTION),
]


@pytest.mark.parametrize(("what", "manifests", "size", "served", "expected", "basis"), CASES, ids=[case[0] for case in CASES])
def test_answer(
    what: str, manifests: list[dict[str, Any]], size: int, served: dict[tuple[str, str], set[str]], expected: str, basis: Basis
) -> None:
    chosen = answer(pods(*manifests), size, served)
    assert (gpus(chosen), chosen.basis) == (expected, basis)


ADMITTED = manifest("a", [2], [1]) | {"status": {"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"}}

SERVED = [
    # what, containers that hold devices -> containers of one GPU that may ask
    ("none", set(), {"init-0", "init-1", "main-0"}),
    ("the first that stays", {"main-0"}, {"main-1"}),
    ("the second that stays", {"main-1"}, set()),
    ("a sidecar", {"init-1"}, {"main-0"}),
]


@pytest.mark.parametrize(("what", "held", "expected"), SERVED, ids=[case[0] for case in SERVED])
def test_no_container_asks_that_comes_before_one_which_holds_devices(what: str, held: set[str], expected: set[str]) -> None:
    found = manifest("a", [1, 1], [1, 1])
    found["spec"]["initContainers"][1] |= {"restartPolicy": "Always"} if what == "a sidecar" else {}
    candidates = waiting(pods(found), {("team", "a"): held}, 1)
    assert {candidate.step.container for candidate in candidates} == expected


def test_pod_whose_status_says_that_the_kubelet_has_admitted_it_waits_for_nothing() -> None:
    admitted = manifest("a", [2], [1], decided=[[4, 5]])
    admitted["status"]["startTime"] = "2026-01-01T00:00:00Z"
    assert node_pod(admitted, GPU) is None
    assert node_pod(kept_of(admitted), GPU) is None


REUSED = [
    # what, pods -> the device of a container of one GPU, where 1, 2 and 3 are free: 2 and 3 are a pair
    ("a pod of one GPU keeps the pair whole", [manifest("a", [1])], "1"),
    ("an init container before a main of two is given one of the pair", [manifest("a", [2], [1])], "2"),
    ("an init container before a larger init container", [manifest("a", [1], [1, 2])], "2"),
    ("an init container of which nothing larger has the device", [manifest("a", [1, 2], [1])], "1"),
    ("a pod that is admitted does not count", [ADMITTED], "1"),
    ("two pods alike", [manifest("a", [2], [1]), manifest("b", [2], [1])], "2"),
    ("two pods of which one has no init container", [manifest("a", [2], [1]), manifest("b", [1])], "1"),
]


@pytest.mark.parametrize(("what", "manifests", "expected"), REUSED, ids=[case[0] for case in REUSED])
def test_device_of_an_init_container_is_of_the_set_that_is_best_for_the_container_that_reuses_it(
    what: str, manifests: list[dict[str, Any]], expected: str
) -> None:
    assert gpus(answer(pods(*manifests), 1, free="123")) == expected


def test_decided_set_that_is_not_offered_is_not_answered() -> None:
    assert gpus(answer(pods(manifest("a", [2], decided=[[4, 5]])), 2, free="0123")) == "01"


def test_decision_for_a_device_on_which_an_unknown_process_has_since_taken_memory_is_not_followed() -> None:
    crowded = decode_facts(facts(KnownDevices(unknown_memory_bytes=(0, 0, 0, 0, 60 << 30))))
    found = waiting(pods(manifest("a", [2], decided=[[4, 5]])), {}, 2)
    chosen = choose(Request(IDS, (), 2), crowded, found)
    assert isinstance(chosen, Answer)
    assert gpus(chosen) == "01"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pod_that_has_ended_waits_for_nothing(phase: str) -> None:
    ended = manifest("a", [2], decided=[[4, 5]])
    ended["status"]["phase"] = phase
    assert node_pod(ended, GPU) is None


@pytest.mark.parametrize(
    "broken", [{}, {"metadata": None}, {"metadata": {"uid": "x"}, "spec": {"containers": [{}]}}, {"spec": []}], ids=str
)
def test_pod_that_makes_no_sense_is_left_out(broken: dict[str, Any]) -> None:
    assert node_pod(broken, GPU) is None
