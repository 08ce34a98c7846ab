"""Assumed pods as data: what ends them, for which pods they count, and that they are immutable."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod, AssumedPods, nominees, rank_of, undone
from extender.decision.cycle.scheduling_cycle import begin
from extender.decision.evaluate.verdict import Evidence
from extender.decision.node.interned_states import with_extra_pods
from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import PodGone
from extender.decision.state.fold.reducer import fold, fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import seen
from extender.scheduling.cluster_store import ClusterStore
from extender.sources.simulated_dra import allocated, claim_manifest, exact_request
from tests.objects import GPU, node, pod, pod_struct, snapshot, topology

TWO = Demand(((2, False),), 2)


def assumed_pod(key: str, where: str = "a", until: float = 30.0) -> AssumedPod:
    return AssumedPod(key, "team", key, where, TWO, Evidence(), 0.0, until, "id")


def bound(name: str, where: str = "a") -> dict[str, Any]:
    return pod(2, name=name, node=where)


BASE = (node("a", 8), topology("a", "dgx-1v"), node("b", 8), topology("b", "dgx-1v"))

# name -> (the snapshot, the time in seconds, whether the assumed pod uid-p on node a still counts)
ENDS: dict[str, tuple[Snapshot, float, bool]] = {
    "nothing has happened": (snapshot(*BASE), 1.0, True),
    "the pod is seen where it was decided for": (snapshot(*BASE, bound("p")), 1.0, False),
    "the pod is seen elsewhere": (snapshot(*BASE, bound("p", "b")), 1.0, False),
    "another pod of that name is seen": (snapshot(*BASE, bound("q")), 1.0, True),
    "its time has run out": (snapshot(*BASE), 30.0, False),
    "its time has nearly run out": (snapshot(*BASE), 29.99, True),
}


@pytest.mark.parametrize("case", ENDS)
def test_assumed_pod_counts_until_it_is_seen_or_expires(case: str) -> None:
    state, now, counts = ENDS[case]
    assumed_pods = NO_ASSUMED_PODS.placed(assumed_pod("uid-p"))
    assert ("a" in assumed_pods.extra_pods(state, now, "uid-other")) is counts
    assert (assumed_pods.ended(state, now) == ()) is counts


def test_assumed_pod_does_not_count_for_itself() -> None:
    assumed_pods = NO_ASSUMED_PODS.placed(assumed_pod("uid-p"))
    assert assumed_pods.extra_pods(snapshot(*BASE), 1.0, "uid-p") == {}


def test_deletion_ends_an_assumed_pod_that_was_seen_pending_and_no_other() -> None:
    """kube-scheduler may have sent the pod before the extender's own watch shows it."""
    assumed_pods = NO_ASSUMED_PODS.placed(assumed_pod("uid-p")).placed(assumed_pod("uid-q"))
    before = snapshot(*BASE, pod(2, name="p"))
    after = fold(before, PodGone("uid-p"), GPU)
    assert undone(assumed_pods, before, after) == ("uid-p",)
    assert undone(assumed_pods, before, fold(before, seen("Pod", bound("p")), GPU)) == ()


def refused(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "message": message}
    return pod(2, name="p", status={"conditions": [condition]})


def test_assumed_pod_ends_when_kube_scheduler_reports_that_its_cycle_failed() -> None:
    """Another plugin or the pod's gang refused. The same message again is no change, and causes no event either."""
    assumed_pods, before = NO_ASSUMED_PODS.placed(assumed_pod("uid-p")), snapshot(*BASE, pod(2, name="p"))
    after = fold(before, seen("Pod", refused("permit: gang incomplete")), GPU)
    assert undone(assumed_pods, before, after) == ("uid-p",)
    assert undone(assumed_pods, after, fold(after, seen("Pod", refused("permit: gang incomplete")), GPU)) == ()
    labelled = pod(2, name="p")
    labelled["metadata"]["labels"] = {"app": "x"}
    assert undone(assumed_pods, before, fold(before, seen("Pod", labelled), GPU)) == ()


def test_assumed_pods_and_snapshots_are_immutable() -> None:
    first = NO_ASSUMED_PODS.placed(assumed_pod("uid-p"))
    second = first.placed(assumed_pod("uid-q", "b"))
    third = second.released(["uid-p"])
    assert [list(one.by_pod) for one in (NO_ASSUMED_PODS, first, second, third)] == [[], ["uid-p"], ["uid-p", "uid-q"], ["uid-q"]]
    state = snapshot(*BASE)
    view = state.views["a"].state
    extra_pods = first.extra_pods(state, 1.0, "")
    crowded = with_extra_pods(view, extra_pods["a"])
    assert state.views["a"].state is view
    assert (view.requested, crowded.requested) == (0, 2)


def test_assumed_pod_counts_as_a_bound_pod_does() -> None:
    """Both give the same state object, so no verdict changes when the watch catches up."""
    state = snapshot(*BASE)
    crowded = with_extra_pods(state.views["a"].state, (TWO, Demand(((4, False),), 4)))
    first = {**pod(2, name="p", node="a"), "metadata": {**pod(2, name="p")["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"}}
    then = {**pod(4, name="q", node="a"), "metadata": {**pod(4, name="q")["metadata"], "creationTimestamp": "2026-01-01T00:00:01Z"}}
    caught_up = fold_all(state, [seen("Pod", first), seen("Pod", then)], GPU)
    assert caught_up.views["a"].state is crowded


def waiting(name: str, where: str, priority: int = 0, created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    manifest = pod(4, name=name, spec={"priority": priority}, status={"nominatedNodeName": where})
    return {**manifest, "metadata": {**manifest["metadata"], "creationTimestamp": created}}


# (priority, creation time) of a pod -> whether it leaves room for the nominated pod p (priority 10, created at 00:02)
RANKS = {(0, "00:01"): True, (10, "00:03"): True, (10, "00:01"): False, (20, "00:03"): False}


@pytest.mark.parametrize("asking", RANKS)
def test_room_is_left_for_nominated_pods_of_higher_rank(asking: tuple[int, str]) -> None:
    priority, minute = asking
    state = snapshot(*BASE, waiting("p", "a", 10, "2026-01-01T00:02:00Z"))
    asker = pod_struct(waiting("me", "", priority, f"2026-01-01T{minute}:00Z"))
    assert ("a" in nominees(state, rank_of(asker), NO_ASSUMED_PODS, 1.0)) is RANKS[asking]
    assert ("a" in begin(state, NO_ASSUMED_PODS, asker, GPU, 1.0).extra_pods) is RANKS[asking]
    assert begin(state, NO_ASSUMED_PODS, asker, GPU, 1.0).assumed == {}


# name -> (what else the snapshot has, the assumed pods, how many pods count on node a)
COUNTED_ONCE: dict[str, tuple[tuple[dict[str, Any], ...], AssumedPods, int]] = {
    "nominated": ((), NO_ASSUMED_PODS, 1),
    "nominated and assumed": ((), NO_ASSUMED_PODS.placed(assumed_pod("uid-p")), 1),
    "nominated, and assumed too long ago": ((), NO_ASSUMED_PODS.placed(assumed_pod("uid-p", until=0.5)), 1),
    "nominated, and its claim holds devices": (
        (allocated(claim_manifest("c", [exact_request(2)]), "a", ["gpu-0", "gpu-1"], [("uid-p", "p")]),),
        NO_ASSUMED_PODS,
        0,
    ),
}


@pytest.mark.parametrize("case", COUNTED_ONCE)
def test_nominated_pod_that_is_assumed_or_holds_claims_is_not_counted_twice(case: str) -> None:
    """kube-scheduler nominates each pod whose binding takes time (NominatedNodeNameForExpectation, on since 1.35)."""
    objects, assumed_pods, count = COUNTED_ONCE[case]
    state = snapshot(*BASE, waiting("p", "a", 10), *objects)
    cycle = begin(state, assumed_pods, pod_struct(waiting("me", "")), GPU, 1.0)
    assert len(cycle.extra_pods.get("a", ())) == count


def test_withdrawn_nomination_does_not_count_any_more() -> None:
    state = snapshot(*BASE, waiting("p", "a", 10))
    assert state.nominated == {"a": frozenset({"uid-p"})}
    assert fold(state, seen("Pod", waiting("p", "b", 10)), GPU).nominated == {"b": frozenset({"uid-p"})}
    for change in (seen("Pod", pod(4, name="p")), seen("Pod", pod(4, name="p", node="a")), PodGone("uid-p")):
        assert fold(state, change, GPU).nominated == {}


def test_pod_counts_once_at_every_moment_while_its_binding_becomes_visible() -> None:
    store = ClusterStore(GPU, warm_tables=False)
    store.apply([seen("Node", node("a", 8)), seen("GpuTopology", topology("a", "dgx-1v"))])
    store.assume(assumed_pod("uid-p", until=float("inf")))
    counts = []

    def count() -> None:
        moment = store.moment(1.0)
        state = moment.snapshot
        extra_pods = moment.assumed_pods.extra_pods(state, 1.0, "")
        counts.append(state.views["a"].state.requested + sum(one.total for one in extra_pods.get("a", ())))

    count()
    store.observe = lambda _before, _after: count()
    store.apply([seen("Pod", bound("p"))])
    count()
    assert counts == [2, 2, 2]
    assert store.assumed_pods.by_pod == {}


def test_assumed_pods_are_kept_in_the_order_they_were_placed() -> None:
    assumed_pods = AssumedPods()
    for key in ("uid-c", "uid-a", "uid-b", "uid-a"):
        assumed_pods = assumed_pods.placed(assumed_pod(key))
    assert list(assumed_pods.by_pod) == ["uid-c", "uid-b", "uid-a"]


def test_pods_with_unknown_devices_take_gpus_in_the_order_they_were_bound() -> None:
    """The kubelet admits pods in this order, not in the order of their creation."""
    four, one = pod(4, name="older", node="a"), pod(2, name="younger", node="a")
    for manifest, made, was_bound in ((four, "00:01", "00:09"), (one, "00:02", "00:05")):
        manifest["metadata"]["creationTimestamp"] = f"2026-01-01T{made}:00Z"
        condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": f"2026-01-01T{was_bound}:00Z"}
        manifest["status"] = {"conditions": [condition]}
    empty = snapshot(*BASE)
    in_order = with_extra_pods(empty.views["a"].state, (TWO, Demand(((4, False),), 4)))
    out_of_order = with_extra_pods(empty.views["a"].state, (Demand(((4, False),), 4), TWO))
    found = fold_all(empty, [seen("Pod", four), seen("Pod", one)], GPU).views["a"].state
    assert in_order.free_sets != out_of_order.free_sets
    assert found.free_sets == in_order.free_sets
