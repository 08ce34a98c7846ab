"""The fold: however a state is reached, it is the state."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extender.adapters.manifests import gone, seen
from extender.decision.changes import Change, Listed, fold, fold_all
from extender.decision.cluster import Snapshot
from tests.objects import GPU, node, pod, topology
from topology.record import Allocation, DeviceStatus

NAMES = ("a", "b", "c")


@st.composite
def events(draw: st.DrawFn) -> list[tuple[str, dict[str, object], bool]]:
    """(kind, object, exists afterwards) in some order, objects coming, changing and going."""
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


def same(one: Snapshot, other: Snapshot) -> None:
    assert one.nodes == other.nodes
    assert one.pods == other.pods
    assert one.topologies == other.topologies
    assert one.by_node == other.by_node
    assert {n: (v.state, v.pods, v.problem) for n, v in one.views.items()} == {
        n: (v.state, v.pods, v.problem) for n, v in other.views.items()
    }


@given(events())
def test_events_end_where_a_fresh_list_does(stream: list[tuple[str, dict[str, object], bool]]) -> None:
    left = {(kind, str(manifest["metadata"]["name"])): (manifest if exists else None) for kind, manifest, exists in stream}  # type: ignore[index]
    kinds = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}
    listings: list[Change] = [
        Listed(listed, tuple(seen(kind, m) for (k, _), m in left.items() if k == kind and m is not None)) for kind, listed in kinds.items()
    ]
    same(play(stream), fold_all(Snapshot(), listings, GPU))
    same(fold_all(play(stream[: len(stream) // 2]), listings, GPU), fold_all(Snapshot(), listings, GPU))


@given(events())
def test_folding_an_event_again_changes_nothing(stream: list[tuple[str, dict[str, object], bool]]) -> None:
    doubled = [event for event in stream for _ in range(2)]
    same(play(stream), play(doubled))


def test_a_repeated_event_is_not_even_a_new_snapshot() -> None:
    state = fold(Snapshot(), seen("Node", node("a")), GPU)
    assert fold(state, seen("Node", node("a")), GPU) is state


def test_older_snapshots_do_not_change() -> None:
    before = fold(Snapshot(), seen("Node", node("a", 4)), GPU)
    view = before.views["a"]
    after = fold(before, seen("Pod", pod(2, node="a")), GPU)
    assert before.views["a"] is view
    assert view.state.requested == 0
    assert after.views["a"].state.requested == 2


def test_a_pod_that_moves_leaves_its_old_node() -> None:
    state = fold_all(Snapshot(), [seen("Node", node("a")), seen("Node", node("b")), seen("Pod", pod(2, node="a"))], GPU)
    state = fold(state, seen("Pod", pod(2, node="b")), GPU)
    assert (state.views["a"].state.requested, state.views["b"].state.requested) == (0, 2)


def test_equal_nodes_share_one_state() -> None:
    state = fold_all(Snapshot(), [seen("Node", node("a")), seen("Node", node("b"))], GPU)
    assert state.views["a"].state is state.views["b"].state


def test_synced_only_when_every_kind_is_listed() -> None:
    state = fold_all(Snapshot(), [Listed("nodes", ()), Listed("pods", ())], GPU)
    assert not state.synced
    assert fold(state, Listed("topologies", ()), GPU).synced
