"""Laws: a remedy that says that the pod fits is true when it is applied, whatever the cluster and the pod are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from extender.decision.request.kubernetes_objects import Taint
from extender.decision.why.helping.changed_pods import with_annotations, with_gpus, with_less, with_tolerations
from extender.decision.why.helping.room_remedies import HYPOTHETICAL, with_only_node
from extender.decision.why.pod_question import Question
from extender.decision.why.why_pod import why_answer
from extender.decision.why.why_types import WhyAnswer, WhyRemedy
from tests.objects import GPU
from tests.why.why_questions import Manifest, ask, machine_node, question, waiting_pod
from topology.platforms import platforms

PLATFORMS = ("hgx-h100", "dgx-1v", "a100-pcie-bridge-pairs", "l40s", "t4")
TAINTS = [{"key": "team", "value": "x", "effect": "NoSchedule"}]


@st.composite
def clusters(draw: st.DrawFn) -> list[list[Manifest]]:
    """One to three nodes, each with some pods on arbitrary GPUs, and maybe a taint, a cordon or an unhealthy GPU."""
    nodes = []
    for number in range(draw(st.integers(1, 3))):
        platform = draw(st.sampled_from(PLATFORMS))
        count = platforms()[platform].gpus
        order = draw(st.permutations(range(count)))
        sizes = draw(st.lists(st.integers(1, 4), max_size=4))
        held, taken = {}, 0
        for place, size in enumerate(sizes):
            if taken + size <= count:
                held[f"p{number}-{place}"] = tuple(order[taken : taken + size])
                taken += size
        spec: dict[str, Any] = draw(st.sampled_from([{}, {}, {"taints": TAINTS}, {"unschedulable": True}]))
        sick = draw(st.sampled_from([(), (), ((order[-1], "XID 79"),)]))
        nodes.append(machine_node(f"n{number}", platform, held, unhealthy=sick, priority=draw(st.integers(0, 2)), **spec))
    return nodes


@st.composite
def pods(draw: st.DrawFn) -> Manifest:
    """A pod of one to eight GPUs with demands that are often too high."""
    annotations = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "min_busbw": st.sampled_from(["10", "100", "300", "700", "200GB/s"]),
                "min_gpu_memory": st.sampled_from(["20Gi", "60Gi", "100Gi"]),
                "min_link": st.sampled_from(["nvlink", "pix", "fast"]),
                "gpu_memory_class": st.sampled_from(["80", "16,24"]),
            },
        )
    )
    gpus = draw(st.integers(1, 8))
    cpu = draw(st.sampled_from(["1", "10", "70"]))
    resources = {"limits": {GPU: str(gpus)}, "requests": {"cpu": cpu}}
    spec = {"containers": [{"name": "server", "resources": resources}], "priority": draw(st.integers(0, 2))}
    return waiting_pod(spec=spec, **annotations)


def applied(asked: Question, remedy: WhyRemedy, wanted: Manifest, objects: list[Manifest]) -> WhyAnswer | None:
    """Return the answer after a remedy; None for kinds that no manifest can express."""
    if remedy.evict:
        keys = set(remedy.evict)
        left = [each for each in objects if each["kind"] != "Pod" or f"team/{each['metadata']['name']}" not in keys]
        return ask(wanted, *[_without(each, remedy.evict) for each in left])
    if remedy.annotations:
        return why_answer(with_annotations(asked, remedy.annotations))
    if GPU in remedy.requests:
        changed = with_gpus(asked, int(remedy.requests[GPU]))
        assert changed is not None
        return why_answer(changed)
    if "cpu" in remedy.requests:
        lowered = with_less(asked, "cpu", int(remedy.requests["cpu"]) * 1000)
        assert lowered is not None
        return why_answer(lowered[0])
    if remedy.taints:
        changed = with_tolerations(asked, [Taint("team", "NoSchedule", "x")])
        assert changed is not None
        return why_answer(changed)
    if remedy.kind == "uncordon":
        return ask(wanted, *[{**each, "spec": {}} if _is_node(each, remedy.node) else each for each in objects])
    if remedy.platform is not None:
        only, _ = with_only_node(asked, remedy.platform)
        assert only.evaluated((HYPOTHETICAL,)).feasible
    return None


def _is_node(manifest: Manifest, name: str | None) -> bool:
    return bool(manifest["kind"] == "Node" and manifest["metadata"]["name"] == name)


def _without(manifest: Manifest, evicted: list[str]) -> Manifest:
    """Return a GpuTopology without the allocations of evicted pods."""
    if manifest["kind"] != "GpuTopology":
        return manifest
    status = manifest["status"]
    gone = {tuple(name.split("/")) for name in evicted}
    kept = [each for each in status["allocated"] if (each.get("podNamespace"), each.get("podName")) not in gone]
    return {**manifest, "status": {**status, "allocated": kept}}


@settings(max_examples=60)
@given(clusters(), pods())
def test_every_remedy_that_says_so_makes_the_pod_fit(cluster: list[list[Manifest]], wanted: Manifest) -> None:
    objects = [each for of_node in cluster for each in of_node]
    asked = question(wanted, *objects)
    answer = why_answer(asked)
    if answer.fits is not None:
        return
    for remedy in answer.remedies:
        after = applied(asked, remedy, wanted, objects) if remedy.fits else None
        if after is not None:
            assert after.fits is not None, (remedy, after.sentence)
            if remedy.bandwidth_gbps is not None and remedy.nodes == 1:
                assert after.fits.bandwidth_gbps == remedy.bandwidth_gbps


@settings(max_examples=30)
@given(clusters(), pods())
def test_answer_is_complete_and_consistent(cluster: list[list[Manifest]], wanted: Manifest) -> None:
    objects = [each for of_node in cluster for each in of_node]
    answer = ask(wanted, *objects)
    refused = sum(group.nodes for group in answer.groups)
    assert refused + (answer.fits.nodes if answer.fits is not None else 0) == len(cluster)
    assert answer.sentence.endswith(".")
    assert answer.reason
    if answer.fits is None:
        assert answer.remedies, "something is always offered"


@settings(max_examples=20)
@given(clusters(), pods(), st.randoms(use_true_random=False))
def test_order_of_the_objects_changes_nothing(cluster: list[list[Manifest]], wanted: Manifest, random: Any) -> None:
    objects = [each for of_node in cluster for each in of_node]
    shuffled = list(objects)
    random.shuffle(shuffled)
    first, second = ask(wanted, *objects), ask(wanted, *shuffled)
    assert (first.reason, first.sentence, [each.text for each in first.remedies]) == (
        second.reason,
        second.sentence,
        [each.text for each in second.remedies],
    )


def test_cut_of_time_never_turns_an_unverified_remedy_into_a_verified_one() -> None:
    asked = question(waiting_pod(4, min_busbw="500"), *machine_node("a", "hgx-h100"))
    whole = {each.text for each in why_answer(asked).remedies if each.fits}
    for most in range(20):
        left = iter([True] * most)
        answer = why_answer(replace(asked), lambda left=left: next(left, False))  # type: ignore[misc]
        assert {each.text for each in answer.remedies if each.fits and each.kind != "lower"} <= whole
