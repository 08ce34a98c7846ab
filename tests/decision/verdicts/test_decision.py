"""Verdicts and scores in named situations."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.evaluator import Evaluator, evaluate_nodes
from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.report.serializers import explain
from extender.decision.request.pod_request import Demand, demand_of
from extender.decision.state.changes import PodGone
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import seen
from extender.server.from_settings import ranker
from extender.settings import Scoring
from tests.objects import GPU, node, pod, pod_struct, snapshot, topology
from topology.gputopology.topology_record import Allocation, DeviceStatus
from topology.placement.set_table import DEFAULT_SIZE_MIX


def ask(state: Snapshot, manifest: dict[str, Any], scoring: Scoring | None = None) -> dict[str, Any]:
    scoring = scoring or Scoring()
    return explain(Evaluator(Policy(DEFAULT_SIZE_MIX)), ranker(scoring), state, pod_struct(manifest), GPU)


def row(answer: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in answer["nodes"] if r["node"] == name)
    return found


def machine(name: str, platform: str, gpus: int = 8, status: DeviceStatus | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    return node(name, gpus), topology(name, platform, status)


def test_bridged_pair_scores_above_an_unbridged_pair_and_a_switched_board_above_both() -> None:
    state = snapshot(*machine("bridged", "a100-pcie-bridge-pairs"), *machine("pcie", "l40s", 4), *machine("switched", "dgx-a100"))
    pairs = ask(state, pod(2))
    assert row(pairs, "bridged")["value"] > row(pairs, "pcie")["value"]
    fours = ask(state, pod(4))
    assert fours["chosen"] == "switched"
    assert row(fours, "switched")["best_bandwidth_gbps"] == pytest.approx(240)


def test_free_gpus_with_slow_links_score_below_free_gpus_with_fast_links() -> None:
    good = DeviceStatus(free=(0, 1, 2, 3))
    bad = DeviceStatus(free=(1, 2, 4, 7))
    state = snapshot(*machine("joined", "dgx-1v", status=good), *machine("torn", "dgx-1v", status=bad))
    answer = ask(state, pod(4))
    assert answer["chosen"] == "joined"
    assert row(answer, "joined")["expected_bandwidth_gbps"] == pytest.approx(80)
    assert row(answer, "torn")["expected_bandwidth_gbps"] < 30
    assert row(answer, "joined")["predicted"] == [{"gpus": [0, 1, 2, 3], "probability": 1.0, "bandwidth_gbps": pytest.approx(80)}]


def test_one_gpu_per_container_needs_no_links() -> None:
    state = snapshot(*machine("torn", "dgx-1v", status=DeviceStatus(free=(1, 2, 4, 7))), *machine("whole", "dgx-1v"))
    answer = ask(state, pod(1, 1, 1, 1))
    assert {r["scores"]["link"]["value"] for r in answer["nodes"]} == {1.0}
    assert row(answer, "whole")["expected_bandwidth_gbps"] is None
    assert answer["chosen"] == "torn", "nothing but fragmentation is left to decide"


def test_pod_with_two_containers_is_scored_by_the_slower_one() -> None:
    state = snapshot(*machine("n", "a100-pcie-bridge-pairs", status=DeviceStatus(free=(0, 1, 2, 4))))
    found = row(ask(state, pod(2, 2)), "n")
    assert found["expected_bandwidth_gbps"] == pytest.approx(10), "the second container gets GPUs of two sockets"


def test_single_gpu_pod_prefers_the_node_that_loses_the_least_capability() -> None:
    state = snapshot(*machine("whole", "hgx-h100"), *machine("broken", "hgx-h100", status=DeviceStatus(free=(0, 4, 5))))
    assert ask(state, pod(1))["chosen"] == "broken"


def test_node_with_just_enough_free_gpus_is_preferred_to_an_empty_board() -> None:
    state = snapshot(*machine("a-whole", "hgx-h100"), *machine("z-half", "hgx-h100", status=DeviceStatus(free=(4, 5, 6, 7))))
    assert ask(state, pod(4))["chosen"] == "z-half"


def test_gpu_memory_that_is_just_enough_decides_between_nodes_with_equal_links() -> None:
    demand = {"fabricwise.dev/min-gpu-memory": "70Gi"}
    state = snapshot(*machine("h200", "hgx-h200"), *machine("h100", "hgx-h100"))
    assert ask(state, pod(8, annotations=demand))["chosen"] == "h100"


def test_bandwidth_outweighs_memory_and_fragmentation() -> None:
    state = snapshot(*machine("b200", "hgx-b200"), *machine("h100", "hgx-h100", status=DeviceStatus(free=(0, 1, 2, 3))))
    assert ask(state, pod(4, annotations={"fabricwise.dev/min-gpu-memory": "80Gi"}))["chosen"] == "b200"


def test_scores_are_integers_and_only_the_best_value_is_ten() -> None:
    state = snapshot(*machine("a", "hgx-h100"), *machine("b", "hgx-h100", status=DeviceStatus(free=(0, 1, 2, 3))), *machine("c", "t4", 4))
    rows = ask(state, pod(4))["nodes"]
    assert rows[0]["score"] == 10
    assert all(isinstance(r["score"], int) and 0 <= r["score"] <= 10 for r in rows)
    assert [r["score"] for r in rows].count(10) == 1
    assert rows[0]["value"] > rows[1]["value"] > rows[2]["value"]


def test_one_of_equal_nodes_gets_the_top_score_and_the_pods_uid_decides_which() -> None:
    names = [f"n{number}" for number in range(8)]
    state = snapshot(*(thing for name in names for thing in machine(name, "t4", 4)))
    chosen = Counter()  # type: Counter[str]
    for number in range(400):
        answer = ask(state, pod(2, name=f"p{number}"))
        assert [row["score"] for row in answer["nodes"]] == [10, *[9] * 7]
        assert len({row["value"] for row in answer["nodes"]}) == 1
        assert ask(state, pod(2, name=f"p{number}"))["chosen"] == answer["chosen"]
        chosen[answer["chosen"]] += 1
    assert min(chosen[name] for name in names) > 400 / 8 / 2, f"spread over all of them: {chosen}"


def test_order_of_names_does_not_decide_between_equal_nodes() -> None:
    state = snapshot(*(thing for name in "abcdef" for thing in machine(name, "t4", 4)))
    evaluator, ranks = Evaluator(DEFAULT_POLICY), ranker(Scoring())
    demand = demand_of(pod_struct(pod(2)), GPU)
    assert isinstance(demand, Demand)
    chosen = set()
    for names in ("abcdef", "fedcba", "cafebd"):
        verdicts = evaluate_nodes(evaluator, state, demand, names)
        decided = ranks.rank(demand, verdicts).decided(NodeNames.of(names), "uid-llm")
        assert decided is not None
        chosen.add(names[decided])
    assert len(chosen) == 1


REJECTED: dict[str, tuple[tuple[dict[str, Any], ...], dict[str, Any], str, bool]] = {
    "more than the node has": (machine("n", "t4", 4), pod(5), "node has fewer GPUs than the pod requests", False),
    "no GPUs at all": ((node("n", 0),), pod(1), "node has fewer GPUs than the pod requests", False),
    "an absurd count": (machine("n", "t4", 4), pod(10**15), "node has fewer GPUs than the pod requests", False),
    "held by an unknown pod": (
        machine("n", "t4", 4, DeviceStatus(allocated=(Allocation(0), Allocation(1), Allocation(2)))),
        pod(2),
        "too few free GPUs",
        True,
    ),
    "held by a bound pod": ((*machine("n", "t4", 4), pod(3, name="other", node="n")), pod(2), "too few free GPUs", True),
    "held by a bound pod, topology unknown": ((node("n", 4), pod(3, name="other", node="n")), pod(2), "too few free GPUs", True),
    "unhealthy": (
        machine("n", "t4", 4, DeviceStatus(unhealthy=((0, "Xid 79"), (1, "Xid 79"), (2, "Xid 79")))),
        pod(2),
        "too few healthy GPUs",
        False,
    ),
    "memory by the agent": (
        machine("n", "t4", 4),
        pod(1, annotations={"fabricwise.dev/min-gpu-memory": "40Gi"}),
        "GPU memory class too small",
        False,
    ),
    "memory by the label": (
        (node("n", 4, "Tesla-T4", 15360),),
        pod(1, annotations={"fabricwise.dev/min-gpu-memory": "40Gi"}),
        "GPU memory class too small",
        False,
    ),
}


@pytest.mark.parametrize("case", REJECTED)
def test_node_is_rejected_with_the_reason_of_the_case(case: str) -> None:
    objects, manifest, reason, resolvable = REJECTED[case]
    answer = ask(snapshot(*objects), manifest)
    found = row(answer, "n")
    assert answer["chosen"] is None
    assert found["rejection"]["reason"] == reason
    assert found["rejection"]["resolvable"] is resolvable
    assert (found["score"], found["value"], found["scores"]) == (None, None, {})


def test_bound_pod_that_the_agents_status_names_is_counted_once() -> None:
    held = DeviceStatus(allocated=(Allocation(0, "uid-other", "team", "other"), Allocation(1, "uid-other", "team", "other")))
    state = snapshot(*machine("n", "t4", 4, held), pod(2, name="other", node="n"))
    assert row(ask(state, pod(2)), "n")["predicted"][0]["gpus"] == [2, 3]


def test_a_pod_recreated_under_the_same_name_is_another_pod() -> None:
    held = DeviceStatus(allocated=(Allocation(0, "uid-before", "team", "other"), Allocation(1, "uid-before", "team", "other")))
    state = snapshot(*machine("n", "t4", 4, held), pod(2, name="other", node="n"))
    assert row(ask(state, pod(1)), "n")["rejection"]["reason"] == "too few free GPUs", "two devices held, two more on their way"


def test_allocation_without_uid_is_matched_by_the_pods_name() -> None:
    held = DeviceStatus(allocated=(Allocation(0, None, "team", "other"), Allocation(3, None, "team", "other")))
    state = snapshot(*machine("n", "t4", 4, held), pod(2, name="other", node="n"))
    assert row(ask(state, pod(2)), "n")["predicted"][0]["gpus"] == [1, 2]


def test_devices_of_a_bound_pod_that_the_agents_status_does_not_name_are_predicted() -> None:
    state = snapshot(*machine("n", "a100-pcie-bridge-pairs"), pod(2, name="other", node="n"))
    free_sets = state.views["n"].state.free_sets
    assert [probability for _, probability in free_sets] == [0.25] * 4, "one of the four bridged pairs is gone"
    assert row(ask(state, pod(2)), "n")["expected_bandwidth_gbps"] == pytest.approx(240)


ENDED = [{"status": {"phase": "Succeeded"}}, {"status": {"phase": "Failed"}}, {"spec": {"nodeName": ""}}]


@pytest.mark.parametrize("change", ENDED)
def test_ended_and_unbound_pods_occupy_no_gpus(change: dict[str, Any]) -> None:
    other = pod(4, name="other", node="n")
    other = other | change | {"spec": other["spec"] | change.get("spec", {})}
    assert ask(snapshot(*machine("n", "t4", 4), other), pod(4))["chosen"] == "n"


def test_bound_pod_with_a_malformed_annotation_still_occupies_its_gpus() -> None:
    other = pod(4, name="other", node="n", annotations={"fabricwise.dev/min-gpu-memory": "lots"})
    assert ask(snapshot(*machine("n", "t4", 4), other), pod(1))["chosen"] is None


def test_node_without_topology_stays_schedulable_with_a_note() -> None:
    state = snapshot(node("unknown", 8, "NVIDIA-H100-80GB-HBM3", 81559), *machine("known", "t4", 4))
    answer = ask(state, pod(2))
    found = row(answer, "unknown")
    assert found["feasible"]
    assert found["expected_bandwidth_gbps"] is None
    assert any("topology unknown" in note for note in found["notes"])
    assert found["scores"]["link"]["detail"] == "topology unknown"
    assert answer["chosen"] == "known", "a known link beats an unknown one"


CONTRADICTIONS = {
    "more on offer than GPUs": (node("n", 9), "GpuTopology has 8 GPUs but the node offers 9 nvidia.com/gpu"),
    "another count": (node("n", 8, labels={"nvidia.com/gpu.count": "4"}), "label nvidia.com/gpu.count says 4"),
    "another product": (node("n", 8, "Tesla-T4"), "label nvidia.com/gpu.product says Tesla-T4"),
    "another memory": (node("n", 8, "NVIDIA-H100-80GB-HBM3", 40960), "label nvidia.com/gpu.memory says 40960 MiB"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_topology_that_contradicts_its_node_is_ignored_with_a_note(case: str) -> None:
    manifest, message = CONTRADICTIONS[case]
    state = snapshot(manifest, topology("n", "hgx-h100"))
    assert message in (state.views["n"].problem or "")
    found = row(ask(state, pod(2)), "n")
    assert found["feasible"], "the node is not lost"
    assert message in found["notes"][0]


def test_gfd_spelling_of_the_same_product_is_no_contradiction() -> None:
    state = snapshot(node("n", 8, "NVIDIA-H100-80GB-HBM3", 81559), topology("n", "hgx-h100"))
    assert state.views["n"].problem is None


def test_fewer_allocatable_than_gpus_is_no_contradiction() -> None:
    state = snapshot(node("n", 7), topology("n", "hgx-h100"))
    assert state.views["n"].problem is None
    assert row(ask(state, pod(8)), "n")["rejection"]["reason"] == "node has fewer GPUs than the pod requests"


def test_an_unreadable_topology_leaves_the_node_schedulable_with_the_reason() -> None:
    broken = topology("n", "hgx-h100")
    broken["spec"]["gpuCount"] = 3
    state = snapshot(node("n", 8), broken)
    assert "spec.gpuCount is 3" in (state.views["n"].problem or "")
    assert row(ask(state, pod(2)), "n")["feasible"]


def test_weights_decide_which_node_is_best() -> None:
    from extender.settings import Weights

    state = snapshot(*machine("fast", "hgx-b200"), *machine("spare", "hgx-h100", status=DeviceStatus(free=(0, 1))))
    assert ask(state, pod(2))["chosen"] == "fast"
    assert ask(state, pod(2), Scoring(weights=Weights(link=0, fragmentation=1, memory=0)))["chosen"] == "spare"


def test_input_order_never_changes_a_verdict() -> None:
    objects = [*machine("a", "hgx-h100"), *machine("b", "t4", 4), node("c", 8), pod(2, name="x", node="a"), pod(1, name="y", node="a")]
    assert ask(snapshot(*objects), pod(4)) == ask(snapshot(*reversed(objects)), pod(4))


def test_prepared_states_are_not_evaluated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from extender.decision.evaluate import evaluator as module
    from extender.decision.request.pod_request import Demand

    known = snapshot(*machine("n", "t4", 4))
    state, evaluator = known.views["n"].state, Evaluator(Policy({1: 1.0, 2: 1.0}))
    evaluator.prepare([state], known)
    monkeypatch.setattr(module, "evaluate", None)
    assert evaluator.evaluate(Demand(((2, False),), 2), state).feasible, "found in memory: calling the judge would fail"


def test_cache_drops_the_demand_that_was_not_used_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    from extender.decision.evaluate import evaluator as module
    from extender.decision.request.pod_request import Demand

    monkeypatch.setattr(module, "_MOST_DEMANDS", 3)
    evaluator = Evaluator(Policy({}))
    demands = [Demand(((size, False),), size) for size in range(1, 5)]
    kept = evaluator.remembered(demands[0])
    for demand in demands[1:3]:
        evaluator.remembered(demand)
    assert evaluator.remembered(demands[0]) is kept
    evaluator.remembered(demands[3])
    assert evaluator.remembered(demands[0]) is kept, "asked for lately"
    assert list(evaluator._cache) == [demands[2], demands[3], demands[0]]


def test_verdicts_of_states_no_node_is_in_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    from extender.decision.evaluate import evaluator as module
    from extender.decision.request.pod_request import Demand

    monkeypatch.setattr(module, "_SPARE_STATES", 2)
    evaluator, demand = Evaluator(Policy({1: 1.0})), Demand(((1, False),), 1)
    known = snapshot(*(node(f"n{gpus}", gpus) for gpus in range(1, 9)))
    for view in known.views.values():
        evaluator.evaluate(demand, view.state)
    evaluator.prepare([], known)
    assert len(evaluator.remembered(demand)) == 8, "all live"
    left = snapshot(node("n1", 1), node("n2", 2))
    evaluator.prepare([], left)
    assert set(evaluator.remembered(demand)) == {view.state for view in left.views.values()}


def test_number_of_cached_verdicts_is_bounded_over_all_demands(monkeypatch: pytest.MonkeyPatch) -> None:
    from extender.decision.evaluate import evaluator as module
    from extender.decision.request.pod_request import Demand

    monkeypatch.setattr(module, "_MOST_VERDICTS", 10)
    evaluator = Evaluator(Policy({}))
    known = snapshot(*(node(f"n{gpus}", gpus) for gpus in range(1, 9)))
    for size in range(1, 4):
        for view in known.views.values():
            evaluator.evaluate(Demand(((size, False),), size), view.state)
    evaluator.prepare([], known)
    assert list(evaluator._cache) == [Demand(((3, False),), 3)], "the demand asked last stays"


def test_a_hazard_and_an_approximation_are_noted_once() -> None:
    pairs = topology("n", "a100-pcie-bridge-pairs", DeviceStatus(free=(0, 1, 2, 4, 6)))
    pairs["spec"]["pciePaths"] = [" ".join("X" if i == j else "SYS" for j in range(8)) for i in range(8)]
    notes = row(ask(snapshot(node("n"), pairs), pod(3)), "n")["notes"]
    assert [note for note in notes if note.startswith("hazard")] == notes[1:]
    assert len(notes) == 2
    notes = row(ask(snapshot(*machine("n", "dgx-2", 16)), pod(3)), "n")["notes"]
    assert notes[1:] == ["prediction is approximate"]


def test_pods_that_come_and_go_one_by_one_do_not_change_the_learnt_mix_again_and_again() -> None:
    """Each change of the mix drops every cached verdict."""
    evaluator = Evaluator(DEFAULT_POLICY)
    state = snapshot(*(pod(1, name=f"one-{number}") for number in range(20)), *(pod(8, name=f"eight-{number}") for number in range(9)))
    evaluator.learn(state)
    changes = 0
    for number in range(60):
        state = fold_all(state, [seen("Pod", pod(8, name="more")) if number % 2 else PodGone("uid-more")], GPU)
        changes += evaluator.learn(state)
    assert changes <= 1
