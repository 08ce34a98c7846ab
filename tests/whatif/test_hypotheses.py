"""Every kind of hypothesis, and every reason why one cannot be applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from extender.decision.whatif.hypotheses import AddNodes, Cordon, Hypothesis, LoseGpu, RemovePod, Unusable
from extender.settings import Filtering, Nodes, Scoring, Settings, Weights
from extender.web.questions.what_if_body import NodesToAdd, WhatIfBody, hypotheses_of
from tests.objects import GPU, node, pod
from tests.whatif.questions import Cluster, added, free, gpu_node, nodes, placements, waiting


def new_nodes(platform: str, count: int) -> AddNodes:
    """Nodes as the body of a request makes them."""
    hypotheses, _ = hypotheses_of(WhatIfBody(nodes=[NodesToAdd(platform, count)]), GPU, ())
    (hypothesis,) = hypotheses
    assert isinstance(hypothesis, AddNodes)
    return hypothesis


H100_BY_LABELS = node("bare", 8, "NVIDIA-H100-80GB-HBM3", 81559, {"nvidia.com/gpu.count": "8"})
"""Without GpuTopology: the product gives the topology."""
FULL_H100 = gpu_node("h", "hgx-h100", {"old": (0, 1, 2, 3), "older": (4, 5, 6, 7)})


@dataclass(frozen=True)
class Case:
    """A cluster, hypotheses, and where the pods go before and after."""

    cluster: list[dict[str, Any]]
    hypotheses: tuple[Hypothesis, ...]
    nodes: dict[str, str | None]
    free: int
    changed: tuple[str, ...] = ()


CASES = {
    "without hypotheses, the pending pods are placed": Case([*gpu_node("h", "hgx-h100"), waiting("w", 4)], (), {"w": "h"}, 4),
    "added pods share a node": Case(gpu_node("h", "hgx-h100"), (added(4, 2),), {"new-0": "h", "new-1": "h"}, 0),
    "more pods than fit": Case(gpu_node("h", "hgx-h100"), (added(4, 3),), {"new-0": "h", "new-1": "h", "new-2": None}, 0),
    "a removed pod frees its GPUs": Case([*FULL_H100, waiting("w", 4)], (RemovePod("team", "old"),), {"w": "h"}, 0, ("w",)),
    "a removed pending pod leaves room": Case(
        [*gpu_node("h", "hgx-h100"), waiting("first", 8), waiting("second", 8, created="2026-01-02T00:00:00Z")],
        (RemovePod("team", "first"),),
        {"second": "h"},
        0,
        ("second",),
    ),
    "a removed pod without GPUs frees its CPUs": Case(
        [
            *gpu_node("h", "hgx-h100"),
            {
                **pod(name="batch", node="h"),
                "spec": {"nodeName": "h", "containers": [{"name": "c", "resources": {"requests": {"cpu": "60"}}}]},
            },
            waiting("w", 1, spec={"containers": [{"name": "c", "resources": {"limits": {GPU: "1"}, "requests": {"cpu": "10"}}}]}),
        ],
        (RemovePod("team", "batch"),),
        {"w": "h"},
        7,
        ("w",),
    ),
    "a cordoned node takes no pod": Case(
        [*gpu_node("h", "hgx-h100"), *gpu_node("l", "l40s"), waiting("w", 2)], (Cordon("h"),), {"w": "l"}, 2, ("w",)
    ),
    "a lost GPU makes a whole node too small": Case(
        [*gpu_node("h", "hgx-h100"), waiting("w", 8)], (LoseGpu("h", 3),), {"w": None}, 7, ("w",)
    ),
    "a lost GPU of a node that labels alone describe": Case(
        [node("bare", 8, "NVIDIA-Unheard-Of"), waiting("w", 8)], (LoseGpu("bare", 3),), {"w": None}, 7, ("w",)
    ),
    "a lost GPU of a node whose product gives its topology": Case(
        [H100_BY_LABELS, waiting("w", 8)], (LoseGpu("bare", 3),), {"w": None}, 7, ("w",)
    ),
    "an added node takes the pod that waits": Case(
        [*FULL_H100, waiting("w", 8)], (new_nodes("hgx-h100", 1),), {"w": "hgx-h100-new-0"}, 0, ("w",)
    ),
    "hypotheses apply in order": Case(FULL_H100, (new_nodes("l40s", 1), LoseGpu("l40s-new-0", 0), added(3)), {"new": "l40s-new-0"}, 0),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_hypothesis_has_its_effect(case: Case) -> None:
    answer = Cluster(case.cluster).answer(*case.hypotheses)
    assert nodes(answer) == case.nodes
    assert free(answer) == case.free
    assert tuple(each.pod.removeprefix("team/") for each in answer.pods if each.changes) == case.changed


@pytest.mark.parametrize("cluster", [gpu_node("bare", "hgx-h100"), [H100_BY_LABELS]], ids=["GpuTopology", "labels"])
def test_pod_never_gets_a_lost_gpu(cluster: list[dict[str, Any]]) -> None:
    answer = Cluster(cluster).answer(LoseGpu("bare", 3), added(7))
    assert sorted(gpu for placement in placements(answer).values() for gpu in placement.gpus or ()) == [0, 1, 2, 4, 5, 6, 7]


def test_pod_that_holds_a_lost_gpu_is_named() -> None:
    (note,) = Cluster(FULL_H100).answer(LoseGpu("h", 1)).notes
    assert note.startswith("pod team/old holds GPU 1 of h")


def test_cordoned_node_keeps_its_free_gpus_in_a_column_of_their_own() -> None:
    (row,) = Cluster(gpu_node("h", "hgx-h100")).answer(Cordon("h")).capacity_after
    assert (row.free_gpus, row.cordoned_free_gpus, row.whole_nodes_free) == (0, 8, 0)


LINKLESS = Settings(scoring=Scoring(weights=Weights(link=0.0, fragmentation=0.0, memory=1.0, pressure=0.0)))
SETTINGS: dict[str, tuple[Settings, str | None]] = {
    "as they are": (Settings(), "h"),
    "by memory alone": (LINKLESS, "l"),
    "by fewer filters": (Settings(filtering=Filtering(refuse_hazards=True)), "h"),
    "other kubelets": (Settings(nodes=Nodes(assume_from_product=False)), "h"),
}


@pytest.mark.parametrize(("then", "chosen"), SETTINGS.values(), ids=SETTINGS)
def test_other_settings_decide_otherwise(then: Settings, chosen: str | None) -> None:
    need = {"fabricwise.dev/min-gpu-memory": "40Gi"}
    cluster = Cluster([*gpu_node("h", "hgx-h100"), *gpu_node("l", "l40s"), waiting("w", 2, annotations=need)])
    answer = cluster.answer(then=then)
    (only,) = answer.pods
    assert only.before is not None
    assert (only.before.node, only.after.node, only.changes) == ("h", chosen, chosen != "h")


def test_settings_of_nodes_derive_every_node_anew() -> None:
    cluster = Cluster([H100_BY_LABELS, waiting("w", 2)])
    (only,) = cluster.answer(then=Settings(nodes=Nodes(assume_from_product=False))).pods
    assert only.before is not None
    assert (only.before.bandwidth_gbps, only.after.bandwidth_gbps) == (360, None)


REFUSED: dict[str, tuple[Callable[[], tuple[Hypothesis, ...]], str]] = {
    "pod to remove that does not exist": (
        lambda: (RemovePod("team", "od"),),
        "pod to remove: the cluster has no pod 'od' in namespace 'team'; did you mean team/old, team/older?",
    ),
    "pod of another namespace": (
        lambda: (RemovePod("prod", "old"),),
        "pod to remove: the cluster has no pod 'old' in namespace 'prod'; did you mean team/old?",
    ),
    "pod that is removed twice": (lambda: (RemovePod("team", "old"), RemovePod("team", "old")), "no pod 'old' in namespace 'team'"),
    "node to cordon that does not exist": (lambda: (Cordon("gpu-1"),), "the cluster has no node 'gpu-1'; known are h"),
    "GPU of a node that does not exist": (lambda: (LoseGpu("g", 0),), "the cluster has no node 'g'"),
    "GPU that the node does not have": (lambda: (LoseGpu("h", 8),), "node h has no GPU 8; its GPUs are 0, 1, 2, 3, 4, 5, 6, 7"),
    "GPU that is lost twice": (lambda: (LoseGpu("h", 1), LoseGpu("h", 1)), "GPU 1 of node h is unhealthy already"),
    "node that exists": (lambda: (new_nodes("l40s", 1), new_nodes("l40s", 1)), "a node to add is named l40s-new-0, which exists"),
    "a sequence of a million pods": (lambda: (added(1, 1_000_000),), "1000000 pods to add: a sequence has at most 2000; add fewer"),
    "a million pods in parts": (lambda: (added(1, 1_500), added(1, 600)), "2100 pods to add: a sequence has at most 2000"),
    "no pod": (lambda: (added(1, 0),), "a number of pods to add is below 1"),
    "a hundred and one hypotheses": (lambda: (Cordon("h"),) * 101, "101 hypotheses: at most 100 are applied at once"),
}


@pytest.mark.parametrize(("hypotheses", "why"), REFUSED.values(), ids=REFUSED)
def test_hypothesis_that_cannot_be_applied_is_refused_by_name(hypotheses: Callable[[], tuple[Hypothesis, ...]], why: str) -> None:
    result = Cluster(FULL_H100).asked(*hypotheses())
    assert isinstance(result, Unusable)
    assert why in result.why


def test_queue_that_is_too_long_is_refused_before_any_pod_is_placed() -> None:
    cluster = Cluster([*gpu_node("h", "hgx-h100"), *(waiting(f"w{number}", 1) for number in range(3))])

    def pace() -> bool:
        raise AssertionError("a pod is placed")

    result = cluster.asked(added(1), most_pods=3, pace=pace)
    assert isinstance(result, Unusable)
    assert result.why.startswith("3 pods wait, and 1 are to be added: a sequence has at most 3")


def test_added_pods_of_a_running_pods_manifest_are_new_pods() -> None:
    """Node, status and uid of the pod that the manifest comes from are not those of the added pods."""
    running = pod(8, name="old", node="h", status={"phase": "Succeeded"})
    answer = Cluster(gpu_node("l", "hgx-h100")).answer(added(4, 2, name="old", node="gone", spec=running["spec"] | {"nodeName": None}))
    assert set(nodes(answer)) == {"old-0", "old-1"}
