"""Preemption: which candidates make the pod schedulable, which victims are reprieved, and which candidate costs least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from extender.decision.cycle import preemption
from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.preemption import Candidate, preferred
from extender.decision.cycle.scheduling_cycle import EvaluationContext, begin
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.request.other_resources import others_needed
from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import ClockTicked, TelemetrySeen, TopologySeen
from extender.decision.state.fold.reducer import fold, fold_all
from extender.decision.state.leaving_pods import without_pods
from extender.decision.state.snapshot import Snapshot
from extender.telemetry.readings import DeviceReading
from tests.objects import GPU, node, pod, pod_struct, snapshot, topology
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.platforms import machine_of


def machine(name: str, platform: str, pods: Mapping[str, tuple[int, ...]], **more: Any) -> list[dict[str, Any]]:
    """A node, and its pods by the GPUs they occupy: pods of priority 0, or with the spec in `more` by name."""
    held = tuple(Allocation(index, f"uid-{pod}") for pod, indices in pods.items() for index in indices)
    bound = [pod(len(indices), name=one, node=name, spec=more.get(one, {}) | {"nodeName": name}) for one, indices in pods.items()]
    return [node(name, 8), topology(name, platform, DeviceStatus(allocated=held)), *bound]


def vip(gpus: int, **annotations: str) -> dict[str, Any]:
    told = {f"fabricwise.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return pod(gpus, name="vip", annotations=told, spec={"priority": 1000})


def needing(cpu: str) -> dict[str, Any]:
    """The same, with an own amount of CPU."""
    container = {"name": "s", "resources": {"requests": {"cpu": cpu}, "limits": {GPU: "4"}}}
    return vip(4) | {"spec": {"priority": 1000, "containers": [container]}}


def kept(state: Snapshot, manifest: dict[str, Any], **victims: tuple[str, ...]) -> dict[str, set[str]]:
    """Return node -> victims of the preferred options, for candidates given as node=victims."""
    asking = pod_struct(manifest)
    cycle = begin(state, NO_ASSUMED_PODS, asking, GPU, 0.0)
    assert isinstance(cycle.demand, Demand)
    candidates = [Candidate(name, tuple(f"uid-{one}" for one in uids)) for name, uids in victims.items()]
    found = preferred(
        cycle, cycle.demand, candidates, others_needed(asking, GPU), EvaluationContext(Evaluator(DEFAULT_POLICY), GPU, NODE_DEFAULTS)
    )
    return {one.candidate.node: {uid.removeprefix("uid-") for uid in one.candidate.victims} for one in found}


QUADS = {"left": (0, 1, 2, 3), "right": (4, 5, 6, 7)}
CROSSED = {"p": (0, 1, 4, 5), "q": (2, 3, 6, 7)}
FOURS = {"a": (0, 1, 2, 3), "b": (4, 5), "c": (6, 7)}
CPU = {"containers": [{"name": "c0", "resources": {"requests": {"cpu": "30"}, "limits": {GPU: "4"}}}]}

State = list[dict[str, Any]]
# what is asked -> (objects, the pod, candidates, what is kept)
CASES: dict[str, tuple[State, dict[str, Any], dict[str, tuple[str, ...]], dict[str, set[str]]]] = {
    "victim has the GPUs of a quad: preferred": (machine("a", "dgx-1v", QUADS), vip(4, min_busbw="70"), {"a": ("left",)}, {"a": {"left"}}),
    "victim's GPUs are no quad: not preferred": (machine("a", "dgx-1v", CROSSED), vip(4, min_busbw="70"), {"a": ("p",)}, {}),
    "two victims together have the GPUs of a quad: preferred": (
        machine("a", "dgx-1v", CROSSED),
        vip(4, min_busbw="70"),
        {"a": ("p", "q")},
        {"a": {"p", "q"}},
    ),
    "one victim is enough by count": (machine("a", "hgx-h100", QUADS), vip(4), {"a": ("right",)}, {"a": {"right"}}),
    "victim that is not needed is reprieved": (machine("a", "dgx-1v", FOURS), vip(4, min_busbw="70"), {"a": ("a", "b", "c")}, {"a": {"a"}}),
    "victim that is needed by count is not reprieved": (
        machine("a", "hgx-h100", QUADS),
        vip(8),
        {"a": ("left", "right")},
        {"a": {"left", "right"}},
    ),
    "demand that the empty node does not meet: not preferred": (
        machine("a", "dgx-1v", QUADS),
        vip(4, min_busbw="300"),
        {"a": ("left", "right")},
        {},
    ),
    "unknown node: not preferred": (machine("a", "dgx-1v", QUADS), vip(4), {"ghost": ("left",)}, {}),
    "candidate without victims: not preferred": (machine("a", "dgx-1v", QUADS), vip(4), {"a": ()}, {}),
    "victim that is already deleted stays a victim": (machine("a", "dgx-1v", {"left": (0, 1, 2, 3)}), vip(4), {"a": ("x",)}, {"a": {"x"}}),
    "candidate with the fewest GPUs is preferred": (
        [*machine("a", "hgx-h100", {"big": tuple(range(8))}), *machine("b", "hgx-h100", {"half": (0, 1, 2, 3), "rest": (4, 5, 6, 7)})],
        vip(4),
        {"a": ("big",), "b": ("half",)},
        {"b": {"half"}},
    ),
    "of candidates with equal cost the one with the best set is preferred": (
        [*machine("a", "dgx-1v", QUADS), *machine("b", "hgx-h100", {"x": (0, 1, 2, 3), "y": (4, 5, 6, 7)})],
        vip(4),
        {"a": ("left",), "b": ("x",)},
        {"b": {"x"}},
    ),
    "equal candidates are all preferred": (
        [*machine("a", "hgx-h100", QUADS), *machine("b", "hgx-h100", {"z": (0, 1, 2, 3), "w": (4, 5, 6, 7)})],
        vip(4),
        {"a": ("left",), "b": ("z",)},
        {"a": {"left"}, "b": {"z"}},
    ),
    "candidate with lower priority is preferred, even with more GPUs": (
        [
            *machine("a", "hgx-h100", {"low": tuple(range(8))}),
            *machine("b", "hgx-h100", {"mid": (0, 1, 2, 3), "other": (4, 5, 6, 7)}, mid={"priority": 50}),
        ],
        vip(4),
        {"a": ("low",), "b": ("mid",)},
        {"a": {"low"}},
    ),
    "who leaves CPU that is needed is not spared": (
        machine("a", "hgx-h100", QUADS, left=CPU, right=CPU),
        needing("50"),
        {"a": ("left", "right")},
        {"a": {"left", "right"}},
    ),
    "victim whose CPU is not needed is reprieved": (
        machine("a", "hgx-h100", QUADS, left=CPU, right=CPU),
        needing("20"),
        {"a": ("left", "right")},
        {"a": {"left"}},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_preferred_victims_are_those_of_the_case(case: str) -> None:
    objects, manifest, candidates, expected = CASES[case]
    assert kept(snapshot(*objects), manifest, **candidates) == expected


def test_candidate_without_violated_disruption_budget_is_preferred_to_one_with_more_bandwidth() -> None:
    state = snapshot(*machine("a", "hgx-h100", QUADS), *machine("b", "dgx-1v", {"x": (0, 1, 2, 3), "y": (4, 5, 6, 7)}))
    asking = pod_struct(vip(4))
    cycle = begin(state, NO_ASSUMED_PODS, asking, GPU, 0.0)
    assert isinstance(cycle.demand, Demand)
    candidates = [Candidate("a", ("uid-left",), 1), Candidate("b", ("uid-x",), 0)]
    found = preferred(cycle, cycle.demand, candidates, (), EvaluationContext(Evaluator(DEFAULT_POLICY), GPU, NODE_DEFAULTS))
    assert [one.candidate.node for one in found] == ["b"]


def test_assumed_pod_on_the_candidate_counts() -> None:
    """Another pod is assumed on the free half, so only the victim's half is left."""
    from extender.decision.cycle.assumed_pods import AssumedPod
    from extender.decision.evaluate.verdict import Evidence

    state = snapshot(*machine("a", "hgx-h100", {"left": (0, 1, 2, 3)}))
    asking = pod_struct(vip(8))
    assumed_pod = AssumedPod("uid-other", "team", "other", "a", Demand(((4, False),), 4), Evidence(), 0.0, 30.0, "")
    for assumed_pods, helps in ((NO_ASSUMED_PODS, True), (NO_ASSUMED_PODS.placed(assumed_pod), False)):
        cycle = begin(state, assumed_pods, asking, GPU, 1.0)
        assert isinstance(cycle.demand, Demand)
        context = EvaluationContext(Evaluator(DEFAULT_POLICY), GPU, NODE_DEFAULTS)
        assert bool(preferred(cycle, cycle.demand, [Candidate("a", ("uid-left",))], (), context)) is helps


def test_only_the_cheapest_of_hundreds_of_candidates_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five hundred nodes one has a victim with two GPUs, the others have victims with four or eight."""
    looked: list[str] = []

    def counting(state: Snapshot, name: str, *rest: Any, **more: Any) -> Any:
        looked.append(name)
        return without_pods(state, name, *rest, **more)

    monkeypatch.setattr(preemption, "without_pods", counting)
    objects = [
        thing for number in range(500) for thing in machine(f"n{number}", "hgx-h100", {f"v{number}": tuple(range(4 + number % 2 * 4))})
    ]
    objects += machine("cheap", "hgx-h100", {"small": (0, 1), "rest": (2, 3, 4, 5, 6, 7)})
    candidates = {f"n{number}": (f"v{number}",) for number in range(500)} | {"cheap": ("small",)}
    assert kept(snapshot(*objects), vip(2), **candidates) == {"cheap": {"small"}}
    assert looked == ["cheap"]


def test_memory_that_the_victim_uses_does_not_count_as_memory_of_unknown_processes() -> None:
    """Telemetry shows the victim's GPUs as full; 70 GiB of an unknown process on a free GPU still count."""

    def full(index: int) -> DeviceReading:
        return DeviceReading(f"GPU-a-{index}", index=index, fb_used_bytes=70 << 30, fb_free_bytes=10 << 30)

    state = snapshot(*machine("a", "hgx-h100", {"left": (0, 1, 2, 3)}))
    record = TopologyRecord("a", machine_of("hgx-h100", "a"), DeviceStatus(allocated=tuple(Allocation(n, "uid-left") for n in range(4))))
    state = fold_all(state, [ClockTicked(1.0, 1.0), TopologySeen("a", record)], GPU)
    victims_own = fold(state, TelemetrySeen("a", 1.0, tuple(full(n) for n in range(4))), GPU)
    assert kept(victims_own, vip(8), a=("left",)) == {"a": {"left"}}
    strangers_too = fold(state, TelemetrySeen("a", 1.0, tuple(full(n) for n in range(5))), GPU)
    assert kept(strangers_too, vip(8), a=("left",)) == {}
