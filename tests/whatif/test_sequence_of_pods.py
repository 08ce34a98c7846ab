"""Pods placed one after another: their order, what excludes a node, what each pod leaves for the next, and the laws of a sequence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod
from extender.decision.evaluate.verdict import Evidence
from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.request.pod_request import Demand
from extender.decision.whatif.hypotheses import AddPods, RemovePod
from extender.decision.whatif.hypothetical_cluster import HypotheticalCluster
from extender.decision.whatif.kube_objects import known_objects
from extender.decision.whatif.kube_refusals import KubeRefusals
from extender.decision.whatif.placements import PlacementOutcome
from extender.decision.whatif.pod_queue import queue_of
from extender.decision.whatif.sequence import SequenceStart, place_one_by_one
from extender.decision.whatif.what_if_answer import what_if_answer
from extender.decision.whatif.what_if_question import WhatIf, what_if
from extender.server.from_settings import decider
from extender.settings import Settings
from extender.sources.simulated import SimulatedCluster, cluster_machines
from extender.web.pod_manifests import pods_from
from tests.objects import GPU, pod, snapshot
from tests.whatif.questions import PRODUCTS, Cluster, added, free, gpu_node, nodes, placements, waiting

NEWER = "2026-01-02T00:00:00Z"

ORDERS: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "the older pod first": ([waiting("a", 1, NEWER), waiting("b", 1)], ["b", "a"]),
    "the higher priority first": ([waiting("a", 1), waiting("b", 1, NEWER, priority=5)], ["b", "a"]),
    "a negative priority last": ([waiting("a", 1, priority=-5), waiting("b", 1, NEWER)], ["b", "a"]),
    "of the same second by name": ([waiting("b", 1), waiting("a", 1)], ["a", "b"]),
}


@pytest.mark.parametrize(("manifests", "order"), ORDERS.values(), ids=ORDERS)
def test_pending_pods_are_placed_in_the_order_of_the_queue(manifests: list[dict[str, Any]], order: list[str]) -> None:
    answer = Cluster([*gpu_node("h", "hgx-h100"), *manifests]).answer(added(1, name="added"))
    assert list(placements(answer)) == [*order, "added"]


def test_added_pod_of_higher_priority_is_placed_before_other_added_pods_and_after_pending_ones() -> None:
    cluster = Cluster([*gpu_node("h", "hgx-h100"), waiting("w", 1)])
    assert list(placements(cluster.answer(added(1, name="low"), added(1, name="high", spec={"priority": 9})))) == ["w", "high", "low"]


def asking(gpus: int, cpu: str = "1", labels: dict[str, str] | None = None, **spec: Any) -> AddPods:
    """Two pods with CPU requests."""
    manifest = pod(name="new")
    manifest["metadata"]["labels"] = labels or {}
    container = {"name": "c", "resources": {"limits": {GPU: str(gpus)}, "requests": {"cpu": cpu}}}
    return AddPods(*pods_from(manifest | {"spec": {"containers": [container]} | spec}), 2)


def apart() -> dict[str, Any]:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "llm"}}}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def spread() -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "llm"}},
    }


def named(name: str, **spec: Any) -> list[dict[str, Any]]:
    """A node with HGX H100 and its host name as a label."""
    manifests = gpu_node(name, "hgx-h100", **spec)
    manifests[0]["metadata"]["labels"] = {"kubernetes.io/hostname": name}
    return manifests


TAINT = [{"key": "team", "value": "red", "effect": "NoSchedule"}]
FILTERED: dict[str, tuple[AddPods, list[str | None]]] = {
    "CPUs of the pod placed before": (asking(1, "40"), ["a", "b"]),
    "too many CPUs": (asking(1, "65"), [None, None]),
    "a node selector": (asking(1, nodeSelector={"kubernetes.io/hostname": "b"}), ["b", "b"]),
    "a tolerated taint": (
        asking(1, tolerations=[{"key": "team", "operator": "Exists"}], nodeSelector={"kubernetes.io/hostname": "c"}),
        ["c", "c"],
    ),
    "a taint": (asking(1, nodeSelector={"kubernetes.io/hostname": "c"}), [None, None]),
    "a cordoned node": (asking(1, nodeSelector={"kubernetes.io/hostname": "d"}), [None, None]),
    "anti-affinity to the pod placed before": (asking(1, labels={"app": "llm"}, affinity=apart()), ["a", "b"]),
    "spread over nodes": (asking(1, labels={"app": "llm"}, topologySpreadConstraints=[spread()]), ["a", "b"]),
}


@pytest.mark.parametrize(("pods", "expected"), FILTERED.values(), ids=FILTERED)
def test_filters_of_kube_scheduler_exclude_nodes_and_see_the_pods_placed_before(pods: AddPods, expected: list[str | None]) -> None:
    cluster = Cluster([*named("a"), *named("b"), *named("c", taints=TAINT), *named("d", unschedulable=True)])
    assert sorted(map(str, nodes(cluster.answer(pods)).values())) == sorted(map(str, expected))


def test_refusals_are_counted_per_reason_as_in_the_event_of_kube_scheduler() -> None:
    floor = {"fabricwise.dev/min-busbw": "200"}
    cluster = [*gpu_node("h", "hgx-h100", {"old": (0, 1, 2, 3, 4, 5, 6)}), *gpu_node("l", "l40s"), *gpu_node("m", "l40s")]
    placement = placements(Cluster(cluster).answer(added(2, annotations=floor)))["new"]
    assert placement.outcome is PlacementOutcome.NO_NODE
    assert [(each.nodes, each.reason, each.by) for each in placement.refusals] == [
        (2, "bandwidth floor out of reach", "fabricwise"),
        (1, "Insufficient nvidia.com/gpu", "kube-scheduler"),
    ]
    assert placement.why == "0/3 nodes are available: 2 bandwidth floor out of reach, 1 Insufficient nvidia.com/gpu"


def test_malformed_annotation_of_an_added_pod_is_named() -> None:
    answer = Cluster(gpu_node("h", "hgx-h100")).answer(added(2, annotations={"fabricwise.dev/min-busbw": "fast"}))
    placement = placements(answer)["new"]
    assert placement.node is None
    assert "fast" in (placement.why or "")


def test_pod_without_whole_gpus_is_left_to_kube_scheduler() -> None:
    manifest = pod(name="batch")
    answer = Cluster([*gpu_node("a", "l40s"), *gpu_node("b", "l40s")]).answer(AddPods(*pods_from(manifest)))
    placement = placements(answer)["batch"]
    assert (placement.outcome, placement.node, placement.feasible_nodes) == (PlacementOutcome.KUBE_DECIDES, None, 2)


SKIPPED: dict[str, tuple[dict[str, Any], Settings, str]] = {
    "gated": (waiting("w", 1, spec={"schedulingGates": [{"name": "quota"}]}), Settings(), "it waits for its scheduling gates: quota"),
    "of another scheduler": (
        waiting("w", 1, spec={"schedulerName": "other"}),
        Settings(scheduler_names=("gpu-scheduler",)),
        "scheduler other decides about it (setting scheduler_names)",
    ),
}


@pytest.mark.parametrize(("manifest", "settings", "why"), SKIPPED.values(), ids=SKIPPED)
def test_pod_that_kube_scheduler_does_not_take_is_skipped(manifest: dict[str, Any], settings: Settings, why: str) -> None:
    placement = placements(Cluster([*gpu_node("h", "hgx-h100"), manifest], settings).answer())["w"]
    assert (placement.outcome, placement.node, placement.why) == (PlacementOutcome.SKIPPED, None, why)


def test_pod_goes_to_the_node_that_preemption_has_nominated_although_another_is_better() -> None:
    cluster = [*gpu_node("h", "hgx-h100"), *gpu_node("l", "l40s"), waiting("w", 2, status={"nominatedNodeName": "l"})]
    assert nodes(Cluster(cluster).answer()) == {"w": "l"}


def test_pods_whose_requests_alone_are_known_count_on_their_nodes() -> None:
    """As in a running extender, which keeps no whole pods."""
    running = pod(1, name="old", node="h")
    running["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "60"}
    manifests = [*gpu_node("h", "hgx-h100"), running]
    state = snapshot(*manifests)
    refusals = KubeRefusals(state, known_objects(state, GPU)).of(asking(1, "5").kube_pod)
    assert [refusal.reason for refusal in refusals["h"]] == ["Insufficient cpu"]


def test_end_of_the_time_is_marked() -> None:
    turns: Iterator[bool] = iter([True, True, False])
    answer = Cluster(gpu_node("h", "hgx-h100")).answer(added(1, 4), pace=lambda: next(turns))
    assert [each.after.outcome for each in answer.pods] == ["placed", "placed", "not reached", "not reached"]
    assert (answer.complete, answer.reached_pods) == (False, 2)


def test_pods_of_one_node_with_devices_by_claims_share_its_gpus() -> None:
    """On a node whose GPUs Dynamic Resource Allocation serves, no claim of a placed pod exists."""
    machines = cluster_machines({"hgx-h100": 1})
    cluster = Cluster(list(SimulatedCluster(machines, dra=frozenset(machines)).manifests()))
    assert list(nodes(cluster.answer(added(4, 3))).values()) == ["hgx-h100-0", "hgx-h100-0", None]


def test_agents_that_report_between_pods_are_seen_by_the_next_pod() -> None:
    """Where agents report, a pod is decided with the GPUs of the pods before it known: their prediction is certain."""
    result = Cluster(gpu_node("h", "dgx-1v")).asked(added(1), added(2), agents_report=True)
    assert isinstance(result, WhatIf)
    reported = what_if_answer(result, GPU).pods
    assert reported[1].after.expected_bandwidth_gbps is not None
    at_once = Cluster(gpu_node("h", "dgx-1v")).answer(added(1), added(2)).pods
    assert at_once[1].after.gpus == reported[1].after.gpus


def test_pod_that_was_decided_a_moment_ago_counts_where_it_was_decided_for() -> None:
    cluster = Cluster([*gpu_node("h", "hgx-h100"), waiting("decided", 6), waiting("w", 4, NEWER)])
    demand = Demand(((6, False),), 6)
    assumed = AssumedPod("uid-decided", "team", "decided", "h", demand, Evidence(), 0.0, 30.0, "id")
    start = replace(cluster.start(), assumed_pods=NO_ASSUMED_PODS.placed(assumed))
    result = what_if(start, (), decider(Settings()), decider(Settings()), lambda _: False)
    assert isinstance(result, WhatIf)
    found = placements(what_if_answer(result, GPU))
    assert (found["decided"].outcome, found["decided"].why) == ("skipped", "it was decided for h a moment ago, and counts there")
    assert found["w"].outcome is PlacementOutcome.NO_NODE


clusters = st.lists(st.sampled_from(sorted(PRODUCTS)), min_size=1, max_size=3)
sizes = st.lists(st.tuples(st.sampled_from([1, 1, 2, 3, 4, 8]), st.integers(1, 3)), min_size=1, max_size=5)


@given(clusters, sizes, st.booleans())
def test_no_gpu_of_a_node_is_given_to_two_pods(platforms: list[str], pods: list[tuple[int, int]], agents_report: bool) -> None:
    manifests = [each for number, platform in enumerate(platforms) for each in gpu_node(f"n{number}", platform)]
    hypotheses = [added(size, count, name=f"p{place}") for place, (size, count) in enumerate(pods)]
    result = Cluster(manifests).asked(*hypotheses, agents_report=agents_report)
    assert isinstance(result, WhatIf)
    answer = what_if_answer(result, GPU)
    given_gpus = [(each.after.node, gpu) for each in answer.pods for gpu in each.after.gpus or ()]
    assert len(given_gpus) == len(set(given_gpus))
    placed = [each for each in answer.pods if each.after.node is not None]
    assert all(len(each.after.gpus or ()) == each.gpus_requested for each in placed)
    assert free(answer) == sum(PRODUCTS[platform][1] for platform in platforms) - len(given_gpus)


@given(st.sampled_from(sorted(PRODUCTS)), st.integers(1, 3), st.integers(0, 1))
def test_removing_a_pod_and_adding_it_again_restores_the_free_count(platform: str, gpus: int, others: int) -> None:
    held = {"old": tuple(range(gpus)), **({"other": (3,)} if others else {})}
    cluster = Cluster(gpu_node("n", platform, held))
    before = free(cluster.answer())
    assert free(cluster.answer(RemovePod("team", "old"))) == before + gpus
    assert free(cluster.answer(RemovePod("team", "old"), added(gpus))) == before


@given(st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=6), st.integers(0, 6))
def test_sequence_that_ends_early_has_the_placements_of_the_whole_one(gpus: list[int], reached: int) -> None:
    cluster = Cluster([*gpu_node("a", "dgx-1v"), *gpu_node("b", "l40s"), *(waiting(f"w{n}", size) for n, size in enumerate(gpus))])
    queue = queue_of(HypotheticalCluster(cluster.snapshot, cluster.kube), lambda _: False)
    start = SequenceStart(cluster.snapshot, cluster.kube)
    turns = iter([True] * reached + [False])
    whole, part = (
        place_one_by_one(start, queue, decider(Settings())),
        place_one_by_one(start, queue, decider(Settings()), lambda: next(turns)),
    )
    expected = list(whole.by_pod.values())[:reached]
    assert list(part.by_pod.values())[:reached] == expected
    assert part.is_complete == (reached >= len(gpus))


kinds = st.sampled_from(list(FILTERED.values()))


@given(st.lists(st.tuples(kinds, st.sampled_from("abcd")), min_size=1, max_size=6))
def test_refusals_in_a_sequence_equal_those_of_a_fresh_evaluation(pods: list[tuple[tuple[AddPods, list[str | None]], str]]) -> None:
    cluster = Cluster([*named("a"), *named("b"), *named("c", taints=TAINT), *named("d", unschedulable=True)])
    state = cluster.snapshot
    remembered = KubeRefusals(state, cluster.kube)
    there: dict[str, tuple[Any, ...]] = {}
    for (kind, _), node in pods:
        expected = evaluate(kind.kube_pod, Surroundings(state.nodes, there)).refusals
        assert dict(remembered.of(kind.kube_pod)) == dict(expected)
        remembered.place(kind.kube_pod, node)
        there[node] = (*there.get(node, ()), kind.kube_pod)
