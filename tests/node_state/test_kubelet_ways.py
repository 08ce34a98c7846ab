"""How nodes assign devices, what pods request, and nodes that are described only by labels."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import Policy, learnt_mix
from extender.decision.node.node_state import NodeDefaults
from extender.decision.report.serializers import explain
from extender.decision.state.changes import Listed, PodGone
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.server.from_settings import ranker
from extender.settings import Scoring
from tests.objects import GPU, node, pod, pod_struct, snapshot, topology
from topology.devices.numa_alignment import TopologyManager
from topology.devices.prediction import Kubelet
from topology.gputopology.topology_record import DeviceStatus

FREE_ACROSS = DeviceStatus(free=(0, 1, 4, 5))


def ask(state: Snapshot, manifest: dict[str, Any], policy: Policy | None = None) -> dict[str, dict[str, Any]]:
    answer = explain(Evaluator(policy or Policy()), ranker(Scoring()), state, pod_struct(manifest), GPU)
    return {row["node"]: row for row in answer["nodes"]}


def labelled(policy: str) -> dict[str, Any]:
    return node("n", labels={"fabricwise.dev/topology-manager-policy": policy})


@pytest.mark.parametrize(
    ("policy", "feasible"), [("none", True), ("best-effort", True), ("restricted", False), ("single-numa-node", False)]
)
def test_node_with_a_strict_topology_manager_rejects_gpus_that_it_cannot_align(policy: str, feasible: bool) -> None:
    node_row = ask(snapshot(labelled(policy), topology("n", "hgx-h100", FREE_ACROSS)), pod(4))["n"]
    assert node_row["feasible"] is feasible
    if not feasible:
        assert node_row["rejection"]["reason"] == "kubelet would reject: GPUs cannot be aligned to NUMA nodes"
        assert policy in node_row["rejection"]["detail"]
        assert node_row["rejection"]["resolvable"]


def test_configured_topology_manager_policy_counts_where_the_nodes_label_is_unknown() -> None:
    objects = [node("n", labels={"fabricwise.dev/topology-manager-policy": "strict"}), topology("n", "hgx-h100", FREE_ACROSS)]
    from extender.kube.objects.decode import seen

    changes = [
        Listed("nodes", (seen("Node", objects[0]),)),
        Listed("pods", ()),
        Listed("topologies", (seen("GpuTopology", objects[1]),)),
    ]
    state = fold_all(Snapshot(), changes, GPU, NodeDefaults(Kubelet(TopologyManager.SINGLE_NUMA_NODE)))
    assert not ask(state, pod(4))["n"]["feasible"]
    assert ask(state, pod(2))["n"]["feasible"]


def test_uniform_device_plugin_may_assign_any_pair() -> None:
    labels = {"fabricwise.dev/device-plugin": "uniform"}
    state = snapshot(node("n", 8, labels=labels), topology("n", "a100-pcie-bridge-pairs"))
    node_row = ask(state, pod(2))["n"]
    assert node_row["expected_bandwidth_gbps"] < 60, "four bridged pairs of twenty-eight"


def test_hazards_are_rejected_only_if_configured() -> None:
    pairs = topology("n", "a100-pcie-bridge-pairs", DeviceStatus(free=(0, 1, 2, 4, 6)))
    pairs["spec"]["pciePaths"] = [" ".join("X" if i == j else "SYS" for j in range(8)) for i in range(8)]
    state = snapshot(node("n"), pairs)
    assert ask(state, pod(3))["n"]["feasible"]
    refused = ask(state, pod(3), Policy(refuse_hazards=True))["n"]
    assert refused["rejection"]["reason"] == "device plugin could crash on this request"
    assert ask(state, pod(2), Policy(refuse_hazards=True))["n"]["feasible"]


def test_effective_bandwidth_depends_on_the_message_size() -> None:
    """Four GPUs of a DGX-1V reach 80 GB/s with six hops: small messages lose most of it."""
    state = snapshot(node("n"), topology("n", "dgx-1v"))
    kinds = {kind: ask(state, pod(4, annotations={"fabricwise.dev/message-size": kind}))["n"] for kind in ("decode", "mixed", "prefill")}
    effective = [row["effective_bandwidth_gbps"] for row in kinds.values()]
    assert effective == sorted(effective)
    assert effective[0] < effective[2] / 3
    assert len({row["expected_bandwidth_gbps"] for row in kinds.values()}) == 1
    assert ask(state, pod(4))["n"]["effective_bandwidth_gbps"] == effective[1], "the default is a mix"


def test_malformed_message_size_is_named() -> None:
    node_row = ask(snapshot(node("n")), pod(2, annotations={"fabricwise.dev/message-size": "huge"}))["n"]
    assert node_row["rejection"]["reason"] == "pod annotation fabricwise.dev/message-size is malformed"
    assert "'huge' is none of decode, prefill, mixed" in node_row["rejection"]["detail"]


def gfd(product: str, count: int, offered: int | None = None, mig: str = "none") -> dict[str, Any]:
    labels = {"nvidia.com/gpu.count": str(count), "nvidia.com/mig.strategy": mig}
    return node("n", offered or count, product, labels=labels)


# name -> (node, the platform assumed, or None)
ASSUMED: dict[str, tuple[dict[str, Any], str | None]] = {
    "a board": (gfd("NVIDIA-H100-80GB-HBM3", 8), "hgx-h100"),
    "a board with other memory": (gfd("Tesla-V100-SXM2-16GB", 8), "dgx-1v"),
    "cards without links": (gfd("Tesla-T4", 4), "t4"),
    "half a board": (gfd("NVIDIA-H100-80GB-HBM3", 4), None),
    "cards that may be bridged or not": (gfd("NVIDIA-A100-80GB-PCIe", 8), None),
    "shared GPUs": (gfd("Tesla-T4-SHARED", 4), None),
    "more offered than there are": (gfd("Tesla-T4", 4, 16), None),
    "split GPUs": (gfd("NVIDIA-H100-80GB-HBM3", 8, mig="mixed"), None),
    "an unknown product": (gfd("NVIDIA-Z900", 8), None),
    "no count": (node("n", 8, "NVIDIA-H100-80GB-HBM3"), None),
}


@pytest.mark.parametrize("case", ASSUMED)
def test_node_with_only_labels_is_assumed_to_be_the_known_platform_of_its_product(case: str) -> None:
    manifest, platform = ASSUMED[case]
    node_row = ask(snapshot(manifest), pod(2))["n"]
    note = node_row["notes"][0]
    if platform:
        assert note == f"topology assumed from product: {platform}; device use predicted"
        assert node_row["expected_bandwidth_gbps"] is not None
    else:
        assert note.startswith("topology unknown")


def test_assuming_a_platform_from_the_product_can_be_turned_off() -> None:
    from extender.kube.objects.decode import seen

    board = gfd("NVIDIA-H100-80GB-HBM3", 8)
    state = fold_all(Snapshot(), [seen("Node", board)], GPU, NodeDefaults(assume_from_product=False))
    assert state.views["n"].state.table is None


def test_gputopology_takes_precedence_over_the_product() -> None:
    node_row = ask(snapshot(gfd("Tesla-T4", 4), topology("n", "t4")), pod(2))["n"]
    assert node_row["notes"][0].startswith("topology from GpuTopology")


def test_mix_of_sizes_is_learnt_from_the_known_pods() -> None:
    assert learnt_mix({}) == {1: 0.25, 2: 0.25, 4: 0.25, 8: 0.25}
    assert learnt_mix({1: 1000}) == {1: 1.0, 2: 0.0, 4: 0.0, 8: 0.0}
    assert learnt_mix({3: 500, 16: 500}) == {1: 0.0, 2: 0.0, 4: 0.5, 8: 0.5}, "three need four, sixteen count as eight"
    half = {1: 0.5, 2: 0.5, 4: 0.0, 8: 0.0}
    assert learnt_mix({1: 610, 2: 390}, half) is half, "near the mix in use"
    assert learnt_mix({1: 640, 2: 360}, half) == {1: 0.625, 2: 0.375, 4: 0.0, 8: 0.0}
    pods = [pod(8, name=f"p{number}") for number in range(40)]
    state = snapshot(node("n"), topology("n", "hgx-h100"), *pods)
    assert state.sizes == {8: 40}
    evaluator = Evaluator(Policy())
    evaluator.prepare([], state)
    assert evaluator.size_mix[8] > 0.8
    gone = fold_all(state, [PodGone(f"uid-p{number}") for number in range(40)], GPU)
    assert gone.sizes == {}
    evaluator.prepare([], gone)
    assert evaluator.size_mix[8] == 0.25
    assert Evaluator(Policy({1: 1.0})).learn(state) is False, "a configured mix is not learnt"


def test_learnt_mix_of_sizes_changes_the_cost_of_fragmentation() -> None:
    """Breaking a whole board for one GPU costs more where pods request eight GPUs than where they request one."""
    board = (node("n"), topology("n", "hgx-h100"))

    def loss(asked: int) -> float:
        state = snapshot(*board, *(pod(asked, name=f"p{number}") for number in range(60)))
        evaluator = Evaluator(Policy())
        evaluator.learn(state)
        answer = explain(evaluator, ranker(Scoring()), state, pod_struct(pod(1)), GPU)
        return 1 - float(answer["nodes"][0]["scores"]["fragmentation"]["value"])

    assert loss(8) > 3 * loss(1)


# name -> (platform, status, GPUs, floor, the refusal or None)
FLOORS: dict[str, tuple[str, DeviceStatus | None, int, str, str | None]] = {
    "a bridged pair": ("a100-pcie-bridge-pairs", None, 2, "200", None),
    "more than any pair gives": ("a100-pcie-bridge-pairs", None, 2, "300", "bandwidth floor out of reach"),
    "four where only pairs are bridged": ("a100-pcie-bridge-pairs", None, 4, "100", "bandwidth floor out of reach"),
    "no bridged pair left": (
        "a100-pcie-bridge-pairs", DeviceStatus(free=(0, 2, 4, 6)), 2, "200", "free GPUs do not reach the bandwidth floor",
    ),
    "one GPU needs no links": ("t4", None, 1, "500", None),
    "nonsense": ("t4", None, 2, "fast", "pod annotation fabricwise.dev/min-busbw is malformed"),
    "nothing": ("t4", None, 2, "0", "pod annotation fabricwise.dev/min-busbw is malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", FLOORS)
def test_bandwidth_floor_rejects_nodes_that_cannot_reach_it(case: str) -> None:
    platform, status, gpus, floor, refusal = FLOORS[case]
    state = snapshot(node("n"), topology("n", platform, status))
    node_row = ask(state, pod(gpus, annotations={"fabricwise.dev/min-busbw": floor}))["n"]
    assert (node_row["rejection"]["reason"] if node_row["rejection"] else None) == refusal


def test_node_with_unknown_topology_does_not_meet_a_bandwidth_floor() -> None:
    node_row = ask(snapshot(node("n")), pod(2, annotations={"fabricwise.dev/min-busbw": "5"}))["n"]
    assert node_row["rejection"]["reason"] == "bandwidth floor out of reach"
    assert "topology unknown" in node_row["rejection"]["detail"]
