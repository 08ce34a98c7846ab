"""A change costs what it changes: the work of a fold does not grow with the number of nodes and pods, and older snapshots stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache, partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.state.changes import Change, ClockTicked, Listed, PodGone, TelemetrySeen, TopologySeen
from extender.decision.state.fold import versions
from extender.decision.state.fold.reducer import fold, fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import gone, seen
from extender.telemetry.readings import DeviceReading
from tests.decision.state.fold_work import lines_and_bytes
from tests.decision.state.histories import NAMES, assert_same_state, histories
from tests.objects import GPU, node, pod
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.platforms import machine_of

MACHINE = machine_of("l40s")
NOW_SECONDS = 1.7e9

FEW, MANY = 40, 4_000
"""Pods of the two clusters that are compared; a node has four."""
MOST_BYTES = 50_000
"""Most bytes that one fold may hold. One copy of a mapping with an entry for each of `MANY` pods takes more."""


def ended(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "status": {"phase": "Succeeded"}}


def versioned(manifest: dict[str, Any], version: int) -> dict[str, Any]:
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}


def machine_node(name: str, **labels: str) -> dict[str, Any]:
    """A node that offers the GPUs of `MACHINE`."""
    return node(name, len(MACHINE.gpus), labels=labels)


EVENTS: dict[str, tuple[list[Change], Change]] = {
    "a pod without GPUs is bound": ([], seen("Pod", versioned(pod(name="x", node="n0"), 99_999))),
    "a pod without GPUs is deleted": ([seen("Pod", pod(name="x", node="n0"))], PodGone("uid-x", 99_999)),
    "a pod that is not known is deleted": ([], PodGone("uid-x", 99_999)),
    "a pod with GPUs waits": ([], seen("Pod", versioned(pod(1, name="x"), 99_999))),
    "a pod with GPUs is bound": ([seen("Pod", pod(1, name="x"))], seen("Pod", versioned(pod(1, name="x", node="n0"), 99_999))),
    "a pod with GPUs ends": ([seen("Pod", pod(1, name="x", node="n0"))], seen("Pod", ended(pod(1, name="x", node="n0")))),
    "a pod with GPUs is deleted": ([seen("Pod", pod(1, name="x", node="n0"))], PodGone("uid-x", 99_999)),
    "a pod that has ended is deleted": (
        [seen("Pod", pod(1, name="x", node="n0")), seen("Pod", ended(pod(1, name="x", node="n0")))],
        PodGone("uid-x", 99_999),
    ),
    "a node changes": ([], seen("Node", versioned(machine_node("n0", zone="z"), 99_999))),
    "a node is deleted": ([], gone("Node", node("n0"))),
    "a status arrives": ([], TopologySeen("n0", TopologyRecord("n0", MACHINE, DeviceStatus(observed_at_seconds=NOW_SECONDS + 9)))),
    "telemetry arrives": ([], TelemetrySeen("n0", 109.0, (DeviceReading(MACHINE.gpus[0].uuid or "", index=0, utilization=0.5),))),
}


@cache
def cluster(pods: int) -> Snapshot:
    """A cluster after all kinds are listed: of each four pods two hold GPUs, one of which has ended, one has none, and one waits."""
    names = [f"n{number}" for number in range(pods // 4)]
    manifests = []
    for number in range(pods):
        place, kind = names[number // 4], number % 4
        manifest = pod(*([1] if kind < 3 else []), name=f"p{number}", node=None if kind == 2 else place)
        manifests.append(versioned(manifest, number + 1))
    status = DeviceStatus(observed_at_seconds=NOW_SECONDS)
    records = [TopologySeen(name, TopologyRecord(name, MACHINE, status), number + 1) for number, name in enumerate(names)]
    changes: list[Change] = [
        ClockTicked(NOW_SECONDS, 100.0),
        Listed("nodes", tuple(seen("Node", versioned(machine_node(name), n + 1)) for n, name in enumerate(names))),
        Listed("pods", tuple(seen("Pod", manifest) for manifest in manifests)),
        Listed("topologies", tuple(records)),
        *(seen("Pod", ended(manifest)) for manifest in manifests[::4]),
    ]
    return fold_all(Snapshot(), changes, GPU)


@pytest.mark.parametrize("event", EVENTS)
def test_work_of_one_change_does_not_grow_with_the_cluster(event: str) -> None:
    before, change = EVENTS[event]
    (few, _), (many, most_bytes) = (
        lines_and_bytes(partial(fold_all, fold_all(cluster(pods), before, GPU), (change,), GPU)) for pods in (FEW, MANY)
    )
    assert many == few
    assert most_bytes < MOST_BYTES


def test_counted_cluster_has_an_entry_for_each_pod_that_a_copy_would_copy() -> None:
    """Otherwise the test above could not fail."""
    state = cluster(MANY)
    for table in (state.pods, state.non_gpu_pods, state.pending, state.ended, state.unsure, state.views, state.topologies):
        assert len(table) == MANY // 4
    assert lines_and_bytes(lambda: dict(state.ended))[1] > MOST_BYTES // 2
    assert lines_and_bytes(lambda: [key for key in state.ended if key == "x"])[0] > MANY // 4


@st.composite
def pod_stories(draw: st.DrawFn) -> list[Change]:
    """Pods that are bound, end, are deleted and come back, with statuses of their nodes and ticks in between."""
    changes: list[Change] = [seen("Node", machine_node(name)) for name in NAMES]
    for step in range(draw(st.integers(0, 25))):
        name, place = draw(st.sampled_from(NAMES)), draw(st.sampled_from(NAMES))
        manifest = pod(draw(st.integers(0, 2)), name=name, node=draw(st.sampled_from([None, place])))
        phase = draw(st.sampled_from(["Running", "Succeeded", "deleted", "status", "tick", "list"]))
        if phase == "status":
            held = (Allocation(draw(st.integers(0, 3)), f"uid-{name}"),)
            changes.append(
                TopologySeen(place, TopologyRecord(place, MACHINE, DeviceStatus(allocated=held, observed_at_seconds=float(step))))
            )
        elif phase == "tick":
            changes.append(ClockTicked(NOW_SECONDS + step, 100.0 + step))
        elif phase == "list":
            changes.append(Listed("topologies", ()))
        else:
            changes.append(PodGone(f"uid-{name}") if phase == "deleted" else seen("Pod", {**manifest, "status": {"phase": phase}}))
    return changes


@given(pod_stories())
def test_index_of_ended_pods_that_wait_for_their_deletion_agrees_with_the_ended_pods(changes: list[Change]) -> None:
    state = Snapshot()
    for change in changes:
        state = fold(state, change, GPU)
        waiting = {pod.key: node for node, pods in state.ended.items() for pod in pods if pod.unsure_until_seconds is not None}
        assert set(state.unsure) == set(waiting)
        for key, name in state.unsure.items():
            assert any(pod.key == key for pod in state.ended[name])


@given(histories(), st.lists(st.integers(1, 5), max_size=10))
def test_changes_folded_one_by_one_and_in_batches_lead_to_the_same_state(
    story: tuple[list[tuple[str, dict[str, Any], bool]], list[int]], sizes: list[int]
) -> None:
    history, order = story
    changes = [seen(*history[place][:2]) if history[place][2] else gone(*history[place][:2]) for place in order]
    one_by_one = batched = Snapshot()
    for change in changes:
        one_by_one = fold(one_by_one, change, GPU)
    while changes:
        size = sizes.pop() if sizes else len(changes)
        batched, changes = fold_all(batched, changes[:size], GPU), changes[size:]
    assert_same_state(one_by_one, batched)
    assert one_by_one.asked == batched.asked
    assert one_by_one.non_gpu_pods == batched.non_gpu_pods
    assert one_by_one.tombstones == batched.tombstones


def contents(state: Snapshot) -> dict[str, object]:
    """The content of a snapshot, as copies."""
    values = {each.name: getattr(state, each.name) for each in fields(Snapshot)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()}


@given(pod_stories())
def test_snapshot_never_changes_after_a_later_fold(changes: list[Change]) -> None:
    state, older = Snapshot(), list[tuple[Snapshot, dict[str, object]]]()
    for change in changes:
        state = fold(state, change, GPU)
        older.append((state, contents(state)))
    for snapshot, content in older:
        assert contents(snapshot) == content


@given(pod_stories())
def test_changed_pods_are_those_whose_entry_differs(changes: list[Change]) -> None:
    before = Snapshot()
    for change in changes:
        after = fold(before, change, GPU)
        keys = {*before.pods, *before.pending, *after.pods, *after.pending}
        moved = {key for key in keys if (before.pods.get(key), before.pending.get(key)) != (after.pods.get(key), after.pending.get(key))}
        assert moved <= (after.changed_pods if after is not before else set())
        before = after


def deletions(*names: str, first: int = 1) -> list[Change]:
    return [PodGone(name, first + place) for place, name in enumerate(names)]


def test_of_more_tombstones_than_are_kept_the_oldest_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "MOST_TOMBSTONES", 3)
    state = fold_all(Snapshot(), deletions("a", "b", "c", "d", "e"), GPU)
    assert set(state.tombstones) == {"pods/c", "pods/d", "pods/e"}
    assert len(state.tombstone_order) == 3


def test_object_that_is_deleted_again_counts_as_deleted_at_the_later_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "MOST_TOMBSTONES", 3)
    state = fold_all(Snapshot(), deletions("a", "b", "a", "c"), GPU)
    assert {subject: tombstone.version for subject, tombstone in state.tombstones.items()} == {"pods/a": 3, "pods/b": 2, "pods/c": 4}
    state = fold_all(state, deletions("d", first=5), GPU)
    assert set(state.tombstones) == {"pods/a", "pods/c", "pods/d"}


def test_list_of_pods_forgets_the_tombstones_of_pods_alone() -> None:
    state = fold_all(Snapshot(), [*deletions("a"), gone("Node", versioned(node("n"), 7))], GPU)
    assert set(fold(state, Listed("pods", ()), GPU).tombstones) == {"nodes/n"}


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 400), st.integers(0, 400)), max_size=12))
def test_view_is_stale_exactly_while_the_status_of_its_node_is_too_old(steps: list[tuple[str, int, int]]) -> None:
    """(node whose status arrives, its age in seconds, seconds until the next tick)."""
    now = 0.0
    state = fold_all(Snapshot(), [seen("Node", machine_node(name)) for name in NAMES], GPU)
    for name, age, pause in steps:
        record = TopologyRecord(name, MACHINE, DeviceStatus(observed_at_seconds=NOW_SECONDS + now - age))
        state = fold(state, TopologySeen(name, record), GPU)
        now += pause
        state = fold(state, ClockTicked(NOW_SECONDS + now, 100.0 + now), GPU)
        for one, record_of_one in state.topologies.items():
            assert isinstance(record_of_one, TopologyRecord)
            assert record_of_one.status is not None
            agent_seconds, observed = state.agent_seconds(one), record_of_one.status.observed_at_seconds
            assert agent_seconds is not None
            assert observed is not None
            assert (state.views[one].stale_since_seconds is not None) == (agent_seconds > observed + 300.0)
