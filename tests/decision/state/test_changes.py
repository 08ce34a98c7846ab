"""The fold: the state depends on the objects that exist, not on the order of events that lead to them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from extender.decision.state.changes import Change, ClockTicked, Listed, PodGone, TelemetrySeen, TopologySeen, WatchLost, WatchRestored
from extender.decision.state.fold.reducer import fold, fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import gone, seen
from extender.telemetry.readings import DeviceReading
from tests.decision.state.histories import NAMES, assert_same_objects, assert_same_state, histories, left_of
from tests.objects import GPU, node, pod, topology
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.platforms import machine_of


@st.composite
def events(draw: st.DrawFn) -> list[tuple[str, dict[str, object], bool]]:
    """(kind, object, whether it exists afterwards): objects are added, modified and deleted in any order."""
    stream = []
    for _ in range(draw(st.integers(0, 25))):
        kind, name = draw(st.sampled_from(["Node", "Pod", "GpuTopology"])), draw(st.sampled_from(NAMES))
        if kind == "Node":
            manifest = node(name, draw(st.sampled_from([4, 8])))
        elif kind == "Pod":
            manifest = pod(draw(st.integers(0, 4)), name=f"p{name}", node=draw(st.sampled_from([None, *NAMES])))
        else:
            held = (Allocation(draw(st.integers(0, 3)), "uid-pa"),) if draw(st.booleans()) else ()
            manifest = topology(name, draw(st.sampled_from(["t4", "l40s"])), DeviceStatus(allocated=held))
        stream.append((kind, manifest, draw(st.integers(0, 3)) > 0))
    return stream


def play(stream: list[tuple[str, dict[str, object], bool]]) -> Snapshot:
    state = Snapshot()
    for kind, manifest, exists in stream:
        state = fold(state, seen(kind, manifest) if exists else gone(kind, manifest), GPU)
    return state


@given(events())
def test_events_and_two_statuses_of_each_agent_lead_to_the_state_of_a_fresh_list(stream: list[tuple[str, dict[str, object], bool]]) -> None:
    left = {(kind, str(manifest["metadata"]["name"])): (manifest if exists else None) for kind, manifest, exists in stream}  # type: ignore[index]
    kinds = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}
    listings: list[Change] = [
        Listed(listed, tuple(seen(kind, m) for (k, _), m in left.items() if k == kind and m is not None)) for kind, listed in kinds.items()
    ]
    writer = [report for number in (1, 2) for report in reports_of(left, number)]
    fresh = fold_all(Snapshot(), [*listings, *writer], GPU)
    assert_same_objects(fold_all(play(stream), writer, GPU), fresh)
    assert_same_objects(fold_all(play(stream[: len(stream) // 2]), [*listings, *writer], GPU), fresh)


def reports_of(left: dict[tuple[str, str], dict[str, object] | None], number: int) -> list[Change]:
    """A further status of each agent that names the same pods: it proves that the status is newer than the end of a pod."""
    topologies = [copy.deepcopy(manifest) for (kind, _), manifest in left.items() if kind == "GpuTopology" and manifest is not None]
    for manifest in topologies:
        manifest["status"]["observedAt"] = f"2026-01-01T00:00:0{number}Z"  # type: ignore[index]
    return [seen("GpuTopology", manifest) for manifest in topologies]


@given(events())
def test_folding_an_event_again_changes_nothing(stream: list[tuple[str, dict[str, object], bool]]) -> None:
    doubled = [event for event in stream for _ in range(2)]
    assert_same_objects(play(stream), play(doubled))


@given(events(), st.integers(1, 4))
def test_changed_pods_names_every_pod_whose_entry_differs_from_before(
    stream: list[tuple[str, dict[str, object], bool]], batch: int
) -> None:
    before = Snapshot()
    for start in range(0, len(stream), batch):
        changes: list[Change] = [seen(kind, m) if exists else gone(kind, m) for kind, m, exists in stream[start : start + batch]]
        after = fold_all(before, changes, GPU)
        keys = {*before.pods, *before.pending, *after.pods, *after.pending}
        differing = {
            key for key in keys if before.pods.get(key) != after.pods.get(key) or before.pending.get(key) != after.pending.get(key)
        }
        assert differing <= after.changed_pods if after is not before else not differing
        before = after


def test_changed_pods_is_empty_after_a_tick() -> None:
    state = fold(Snapshot(), seen("Pod", pod(2)), GPU)
    assert state.changed_pods == {"uid-llm"}
    assert fold(state, ClockTicked(1.0), GPU).changed_pods == frozenset()


def test_repeated_event_returns_the_same_snapshot() -> None:
    state = fold(Snapshot(), seen("Node", node("a")), GPU)
    assert fold(state, seen("Node", node("a")), GPU) is state


def test_fold_does_not_change_older_snapshots() -> None:
    before = fold(Snapshot(), seen("Node", node("a", 4)), GPU)
    view = before.views["a"]
    after = fold(before, seen("Pod", pod(2, node="a")), GPU)
    assert before.views["a"] is view
    assert view.state.requested == 0
    assert after.views["a"].state.requested == 2


def test_pod_that_changes_its_node_frees_the_gpus_of_the_old_one() -> None:
    state = fold_all(Snapshot(), [seen("Node", node("a")), seen("Node", node("b")), seen("Pod", pod(2, node="a"))], GPU)
    state = fold(state, seen("Pod", pod(2, node="b")), GPU)
    assert (state.views["a"].state.requested, state.views["b"].state.requested) == (0, 2)


def test_equal_nodes_share_one_state() -> None:
    state = fold_all(Snapshot(), [seen("Node", node("a")), seen("Node", node("b"))], GPU)
    assert state.views["a"].state is state.views["b"].state


def test_snapshot_is_synced_only_after_every_kind_is_listed() -> None:
    state = fold_all(Snapshot(), [Listed("nodes", ()), Listed("pods", ())], GPU)
    assert not state.synced
    assert fold(state, Listed("topologies", ()), GPU).synced


@given(histories())
def test_events_in_any_order_and_repeated_lead_to_the_state_of_a_fresh_list(
    story: tuple[list[tuple[str, dict[str, Any], bool]], list[int]],
) -> None:
    history, order = story
    changes = [seen(kind, manifest) if exists else gone(kind, manifest) for kind, manifest, exists in history]
    assert_same_state(fold_all(Snapshot(), [changes[place] for place in order], GPU), fold_all(Snapshot(), left_of(history), GPU))


@given(histories(), st.integers(0, 25))
def test_list_closes_a_gap_and_late_events_change_nothing_after_it(
    story: tuple[list[tuple[str, dict[str, Any], bool]], list[int]], seen_before: int
) -> None:
    history, order = story
    changes = [seen(kind, manifest) if exists else gone(kind, manifest) for kind, manifest, exists in history]
    after_gap = fold_all(fold_all(Snapshot(), [changes[place] for place in order[:seen_before]], GPU), left_of(history), GPU)
    assert_same_state(after_gap, fold_all(Snapshot(), left_of(history), GPU))
    assert_same_state(fold_all(after_gap, [changes[place] for place in order], GPU), after_gap)


def test_list_of_a_server_restored_to_an_older_state_replaces_newer_versions() -> None:
    """After etcd is restored from a backup, versions begin again below those seen before."""
    new = {**node("a", 8), "metadata": {"name": "a", "resourceVersion": "900"}}
    old = {**node("a", 4), "metadata": {"name": "a", "resourceVersion": "7"}}
    state = fold(Snapshot(), seen("Node", new), GPU)
    assert fold(state, seen("Node", old), GPU).views["a"].state.allocatable == 8
    assert fold(state, Listed("nodes", (seen("Node", old),), 10), GPU).views["a"].state.allocatable == 4


def test_age_of_the_state_counts_from_the_first_loss_of_a_watch_until_it_is_restored() -> None:
    state = fold_all(Snapshot(), [WatchLost("pods", 100.0), WatchLost("pods", 130.0), WatchLost("nodes", 120.0)], GPU)
    assert state.age_seconds(160.0) == 60.0
    assert fold(state, WatchRestored("pods"), GPU).age_seconds(160.0) == 40.0
    assert fold_all(state, [WatchRestored("pods"), WatchRestored("nodes")], GPU).age_seconds(160.0) == 0.0


def test_memory_in_use_on_the_devices_of_a_pod_is_unknown_after_it_leaves_until_the_next_reading() -> None:
    """Devices of other pods keep their reading."""
    reading = DeviceReading("GPU-0", index=0, fb_used_bytes=70 << 30, fb_free_bytes=10 << 30)
    record = TopologyRecord("a", machine_of("hgx-h100", "a"), DeviceStatus(allocated=(Allocation(0, "uid-p"), Allocation(1, "uid-q"))))
    readings = tuple(replace(reading, uuid=gpu.uuid or "", index=gpu.index) for gpu in record.machine.gpus)
    start: list[Change] = [Listed("nodes", (seen("Node", node("a", 8)),)), TopologySeen("a", record), ClockTicked(1.0, 1.0)]
    pods = [seen("Pod", pod(1, name=name, node="a")) for name in ("p", "q")]
    state = fold_all(Snapshot(), [*start, *pods, TelemetrySeen("a", 1.0, readings)], GPU)
    known = [load.free_bytes if load else None for load in state.views["a"].state.device_telemetry.device_loads]
    assert None not in known
    state = fold(state, PodGone("uid-p"), GPU)
    after = [load.free_bytes if load else None for load in state.views["a"].state.device_telemetry.device_loads]
    assert after == [None, *known[1:]]
    state = fold(state, TelemetrySeen("a", 2.0, (replace(readings[0], fb_used_bytes=0, fb_free_bytes=80 << 30),)), GPU)
    load = state.views["a"].state.device_telemetry.device_loads[0]
    assert load is not None
    assert load.free_bytes == 80 << 30
