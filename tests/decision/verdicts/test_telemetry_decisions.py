"""The effect of telemetry on verdicts and scores, through the reducer, in named situations."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import Policy
from extender.decision.report.serializers import explain, node_detail
from extender.decision.state.changes import Change, ClockTicked, TelemetrySeen, TopologySeen
from extender.decision.state.fold.reducer import fold, fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import seen
from extender.server.from_settings import ranker
from extender.settings import Scoring
from extender.telemetry.conditions import TUNING
from extender.telemetry.readings import DeviceReading, EngineReading
from tests.objects import GPU, node, pod, pod_struct, snapshot
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.machine.hardware import Machine
from topology.placement.set_table import DEFAULT_SIZE_MIX
from topology.platforms import machine_of

GIB = 1 << 30


def machine(platform: str, node_name: str) -> Machine:
    without_telemetry = machine_of(platform)
    return replace(without_telemetry, gpus=tuple(replace(gpu, uuid=f"GPU-{node_name}-{gpu.index}") for gpu in without_telemetry.gpus))


def nodes(**platforms: str) -> Snapshot:
    state = snapshot(*[node(name, len(machine_of(platform).gpus)) for name, platform in platforms.items()])
    records = [TopologySeen(name, TopologyRecord(name, machine(platform, name))) for name, platform in platforms.items()]
    return fold_all(state, records, GPU)


def reading(name: str, index: int, used_gib: float = 0.0, **more: Any) -> DeviceReading:
    used = int(used_gib * GIB)
    fields = {
        "index": index,
        "fb_used_bytes": used,
        "fb_free_bytes": 79 * GIB - used,
        "xid": 0,
        "utilization": 0.0,
        "memory_utilization": 0.0,
    }
    return DeviceReading(f"GPU-{name}-{index}", **fields | more)


def looked(name: str, at_seconds: float, count: int = 8, /, **changed: DeviceReading) -> TelemetrySeen:
    """A scrape of all GPUs of a node, which are idle except those given as g3=reading(...)."""
    found = tuple(changed.get(f"g{index}", reading(name, index)) for index in range(count))
    return TelemetrySeen(name, at_seconds, found, (), (), "test")


def ask(state: Snapshot, manifest: dict[str, Any], policy: Policy | None = None) -> dict[str, Any]:
    evaluator = Evaluator(policy or Policy(DEFAULT_SIZE_MIX))
    return explain(evaluator, ranker(Scoring()), state, pod_struct(manifest), GPU)


def row(answer: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in answer["nodes"] if r["node"] == name)
    return found


def refusal(state: Snapshot, name: str, manifest: dict[str, Any], policy: Policy | None = None) -> str | None:
    rejection = row(ask(state, manifest, policy), name)["rejection"]
    return rejection["reason"] if rejection else None


def test_unallocated_gpu_with_60_gb_in_use_is_avoided_until_the_first_scrape_after_the_memory_is_freed() -> None:
    state = fold_all(nodes(a="hgx-h100"), [looked("a", 0), looked("a", 15, g3=reading("a", 3, 60))], GPU)
    found = row(ask(state, pod(1)), "a")["rejection"]
    assert found["reason"] == "GPU memory is in use by processes unknown to Kubernetes"
    assert "GPU 3 has 19.0 GiB free of 67.1 needed" in found["detail"]
    assert found["resolvable"] is False, "no eviction ends a process that Kubernetes does not know"
    small = pod(1, annotations={"fabricwise.dev/min-gpu-memory": "16Gi"})
    assert refusal(state, "a", small) is None, "what is left is enough for it"
    assert refusal(fold(state, looked("a", 30), GPU), "a", pod(1)) is None


def test_xid_79_rejects_the_node_at_once_and_the_reason_names_it() -> None:
    state = nodes(a="hgx-h100", b="dgx-a100")
    assert ask(state, pod(4))["chosen"] == "a"
    state = fold_all(state, [looked("a", 0), looked("b", 0), looked("a", 15, g5=reading("a", 5, xid=79))], GPU)
    answer = ask(state, pod(4))
    assert answer["chosen"] == "b"
    rejection = row(answer, "a")["rejection"]
    assert rejection["reason"] == "GPU reports a fatal XID error"
    assert "GPU 5: XID 79: GPU has fallen off the bus" in rejection["detail"]
    assert rejection["resolvable"] is False
    whole = row(ask(state, pod(8)), "a")["rejection"]
    assert whole["reason"] == "GPU reports a fatal XID error"


def test_reasons_do_not_change_between_attempts() -> None:
    state = fold_all(nodes(a="hgx-h100"), [looked("a", 0, g5=reading("a", 5, xid=79), g1=reading("a", 1, 60))], GPU)
    first = refusal(state, "a", pod(2))
    for step in range(1, 20):
        noisy = reading("a", 1, 60 + step % 3, temperature_celsius=60.0 + step)
        state = fold(state, looked("a", 15 * step, g5=reading("a", 5, xid=79, utilization=step / 20), g1=noisy), GPU)
        assert refusal(state, "a", pod(2)) == first


def test_fenced_gpu_that_the_node_no_longer_offers_leaves_the_free_set_and_the_others_stay_in_use() -> None:
    state = fold_all(nodes(a="hgx-h100"), [looked("a", 0, g5=reading("a", 5, xid=79))], GPU)
    offered = node("a", 8)
    offered["status"]["allocatable"][GPU] = "7"
    state = fold(state, seen("Node", offered), GPU)
    found = row(ask(state, pod(4)), "a")
    assert found["feasible"]
    assert all(5 not in one["gpus"] for one in found["predicted"])
    assert refusal(state, "a", pod(7)) is None
    assert refusal(state, "a", pod(8)) == "node has fewer GPUs than the pod requests"


def test_ecc_and_remapping_errors_have_their_own_reason_and_a_small_probability_can_be_tolerated() -> None:
    state = fold_all(nodes(a="hgx-h100"), [looked("a", 0, g5=reading("a", 5, ecc_double_bit=1))], GPU)
    assert refusal(state, "a", pod(1)) == "GPU reports uncorrectable memory errors"
    assert refusal(state, "a", pod(1), Policy(DEFAULT_SIZE_MIX, tolerated_chance=0.2)) is None


def test_allocated_gpu_with_an_error_does_not_reject_pods_that_cannot_get_it() -> None:
    held = DeviceStatus(allocated=(Allocation(5, "u", "t", "other"),))
    state = fold(nodes(a="hgx-h100"), TopologySeen("a", TopologyRecord("a", machine("hgx-h100", "a"), held)), GPU)
    state = fold(state, looked("a", 0, g5=reading("a", 5, xid=79)), GPU)
    assert refusal(state, "a", pod(4)) is None, "it is not handed out while a pod holds it"


def test_error_of_a_mig_instance_counts_for_its_gpu() -> None:
    parts = tuple(DeviceReading("GPU-a-2", mig_instance=n, xid=94 if n == 7 else 0) for n in (7, 9))
    state = fold(nodes(a="hgx-h100"), TelemetrySeen("a", 0, parts, (), (), "test"), GPU)
    assert refusal(state, "a", pod(8)) == "GPU reports a fatal XID error"


def test_node_without_telemetry_stays_feasible_with_notes() -> None:
    state = fold_all(nodes(a="hgx-h100"), [looked("a", 0), ClockTicked(1e9, 10.0)], GPU)
    known = row(ask(state, pod(4)), "a")
    assert known["pressure"]["unknown_share"] == 0
    assert known["notes"] == ["topology from GpuTopology without status: device use predicted"]
    state = fold(state, ClockTicked(1e9 + 100, 10.0 + TUNING.max_age_seconds), GPU)
    gone = row(ask(state, pod(4)), "a")
    assert gone["feasible"]
    assert gone["pressure"]["unknown_share"] == 1
    assert gone["scores"]["pressure"]["value"] == 0.5, "neither calm nor pressed"
    assert "telemetry of some GPUs is stale and counts as unknown" in gone["notes"]
    ages = node_detail(state.views["a"], state.topologies["a"], state)["telemetry"]["devices"]
    assert {(d["age_seconds"], d["stale"]) for d in ages} == {(70.0, True)}


def test_stale_memory_is_unknown_but_a_fenced_gpu_stays_fenced() -> None:
    state = fold_all(
        nodes(a="hgx-h100", b="hgx-h100"), [looked("a", 0, g1=reading("a", 1, 60)), looked("b", 0, g1=reading("b", 1, xid=79))], GPU
    )
    state = fold(state, ClockTicked(1e9, 1000.0), GPU)
    assert refusal(state, "a", pod(1)) is None
    assert refusal(state, "b", pod(1)) == "GPU reports a fatal XID error"


def test_failed_scrapes_do_not_keep_readings_fresh() -> None:
    state = fold_all(nodes(a="hgx-h100"), [looked("a", 0), ClockTicked(1e9, 59.0)], GPU)
    failing = TelemetrySeen("a", 61.0, (), (), ("no answer",), "test")
    state = fold_all(state, [failing, failing, ClockTicked(1e9 + 5, 64.0)], GPU)
    assert row(ask(state, pod(4)), "a")["pressure"]["unknown_share"] == 1


def test_workload_class_can_require_telemetry() -> None:
    policy = Policy(DEFAULT_SIZE_MIX, telemetry_required_for=frozenset({"production"}))
    production = pod(2, annotations={"fabricwise.dev/workload-class": "production"})
    state = nodes(a="hgx-h100")
    assert refusal(state, "a", production, policy) == "GPU telemetry is unknown and the pod's class requires it"
    assert refusal(state, "a", pod(2), policy) is None
    state = fold(state, looked("a", 0), GPU)
    assert refusal(state, "a", production, policy) is None
    without = fold(nodes(a="hgx-h100"), looked("a", 0, g3=DeviceReading("GPU-a-3")), GPU)
    assert refusal(without, "a", production, policy) is not None, "one of the GPUs it may get is unknown"
    assert refusal(without, "a", pod(2), replace(policy, telemetry_required_for=frozenset({"*"}))) is not None


def test_lower_pressure_decides_between_equal_links_and_faster_links_outweigh_it() -> None:
    state = fold_all(nodes(a="hgx-h100", b="hgx-h100"), [looked("a", 0), looked("b", 0)], GPU)
    hot = {f"g{n}": reading("a", n, temperature_celsius=88.0) for n in range(8)}
    state = fold(state, looked("a", 15, **hot), GPU)
    answer = ask(state, pod(4))
    assert answer["chosen"] == "b"
    assert row(answer, "a")["feasible"]
    busy = {f"g{n}": reading("a", n, utilization=1.0, temperature_celsius=90.0) for n in range(8)}
    slow = fold_all(nodes(a="hgx-h100", z="t4"), [looked("a", 0, **busy), looked("z", 0, 4)], GPU)
    assert ask(slow, pod(4))["chosen"] == "a", "utilisation is never a reason to refuse, nor worth a tenth of the bandwidth"


def test_a_busy_neighbour_on_the_same_switch_counts_more_than_one_across_the_socket() -> None:
    def beside(index: int) -> float:
        held = DeviceStatus(allocated=(Allocation(index, "u", "t", "other"),), free=(0,))
        state = fold(nodes(a="rtx4090"), TopologySeen("a", TopologyRecord("a", machine("rtx4090", "a"), held)), GPU)
        neighbour = reading("a", index, pcie_tx_bytes_per_second=25e9)
        state = fold(state, looked("a", 0, **{f"g{index}": neighbour}), GPU)
        found: float = row(ask(state, pod(1)), "a")["pressure"]["neighbours"]
        return found

    assert beside(1) == 1.0, "same PCIe switch"
    assert 0 < beside(7) < beside(1), "the other socket"


def test_engine_under_load_adds_pressure_to_the_neighbours_of_its_gpus() -> None:
    engine = pod(1, name="vllm", node="a")
    held = DeviceStatus(allocated=(Allocation(0, "uid-vllm", "team", "vllm"),))
    state = fold_all(nodes(a="rtx4090"), [seen("Pod", engine), TopologySeen("a", TopologyRecord("a", machine("rtx4090", "a"), held))], GPU)
    full = (EngineReading("vllm", "m", 0.99, 40, 8),)
    state = fold_all(state, [looked("a", 0), TelemetrySeen("a", 0, (), (("uid-vllm", full),), (), "engine")], GPU)
    assert row(ask(state, pod(1)), "a")["pressure"]["neighbours"] > 0
    told = node_detail(state.views["a"], state.topologies["a"], state)["telemetry"]["engines"]
    assert told[0]["pod"] == "team/vllm"
    assert told[0]["engines"][0]["kv_cache_usage"] == 0.99


def test_unknown_uuids_are_reported_and_change_no_verdict() -> None:
    strange = TelemetrySeen("a", 0, tuple(DeviceReading(f"GPU-elsewhere-{n}", xid=79) for n in range(8)), (), (), "test")
    state = fold(nodes(a="hgx-h100"), strange, GPU)
    assert refusal(state, "a", pod(8)) is None
    assert "telemetry names GPU-elsewhere-0, which the node's GpuTopology does not have" in state.views["a"].telemetry_problems


def test_readings_of_a_topology_without_uuids_are_matched_by_target_and_index() -> None:
    state = snapshot(node("a", 8))
    state = fold_all(
        state, [TopologySeen("a", TopologyRecord("a", machine_of("hgx-h100"))), looked("a", 0, g2=reading("a", 2, xid=79))], GPU
    )
    assert "GPU 2" in row(ask(state, pod(8)), "a")["rejection"]["detail"]


def test_fenced_gpus_of_a_node_without_topology_are_subtracted_from_the_healthy_ones() -> None:
    state = fold_all(snapshot(node("a", 8)), [looked("a", 0, g2=reading("a", 2, xid=79))], GPU)
    assert refusal(state, "a", pod(8)) == "too few healthy GPUs"
    assert refusal(state, "a", pod(7)) is None


@pytest.mark.parametrize("seed", range(5))
def test_noise_changes_no_score_by_more_than_one_and_no_verdict(seed: int) -> None:
    chance = random.Random(seed)
    state = nodes(a="hgx-h100", b="dgx-a100", c="hgx-h100")
    scores: list[dict[str, Any]] = []

    def noisy(name: str, index: int) -> DeviceReading:
        return reading(
            name,
            index,
            10 + chance.uniform(-3, 3),
            utilization=chance.random(),
            temperature_celsius=80 + chance.uniform(-9, 9),
            pcie_tx_bytes_per_second=chance.uniform(0, 25e9),
        )

    for step in range(60):
        state = fold_all(state, [looked(name, 15.0 * step, **{f"g{n}": noisy(name, n) for n in range(8)}) for name in ("a", "b", "c")], GPU)
        scores.append({r["node"]: r["score"] for r in ask(state, pod(4))["nodes"]})
    for before, now in pairwise(scores):
        assert {name for name, score in before.items() if score is None} == {name for name, score in now.items() if score is None}
        assert all(abs(before[name] - now[name]) <= 1 for name in now if now[name] is not None)


def test_reducing_a_scrape_twice_changes_nothing_and_a_batch_gives_the_same_as_single_changes() -> None:
    changes: list[Change] = [looked("a", 0, g5=reading("a", 5, xid=79)), ClockTicked(1e9, 20.0), looked("a", 30), TelemetrySeen("x", 3)]
    start = nodes(a="hgx-h100")
    together, single = fold_all(start, changes, GPU), start
    for change in changes:
        single = fold(single, change, GPU)
    assert together.telemetry == single.telemetry
    assert together.views["a"].state is single.views["a"].state
    assert fold(together, looked("a", 30), GPU) is together
    assert "x" not in together.telemetry, "a node that the state does not have"


def test_telemetry_of_a_deleted_node_is_dropped() -> None:
    from extender.decision.state.changes import NodeGone, NodeSeen

    state = fold(nodes(a="hgx-h100"), looked("a", 0, g5=reading("a", 5, xid=79)), GPU)
    state = fold(state, NodeGone("a"), GPU)
    change = seen("Node", node("a", 8))
    assert isinstance(change, NodeSeen)
    assert refusal(fold(state, change, GPU), "a", pod(8)) is None, "another machine under the same name"
