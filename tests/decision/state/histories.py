"""Histories of an API server, and comparisons of the states that they lead to."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from extender.decision.state.changes import Change, Listed
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import seen
from tests.objects import node, pod, topology

NAMES = ("a", "b", "c")
"""Names of the nodes, and the ends of the names of the pods."""


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[str, dict[str, Any], bool]], list[int]]:
    """(events of an API server with growing versions, indices in the order of arrival: any order, some events twice).

    Objects are created again under the same name; such a pod has a new uid.
    """
    history: list[tuple[str, dict[str, Any], bool]] = []
    alive: dict[tuple[str, str], dict[str, Any]] = {}
    births = 0
    for version in range(1, draw(st.integers(1, 25))):
        kind, name = draw(st.sampled_from(["Node", "Pod", "GpuTopology"])), draw(st.sampled_from(NAMES))
        before = alive.pop((kind, name), None)
        if before is not None and draw(st.integers(0, 2)) == 0:
            manifest, exists = before, False
        else:
            exists = True
            if kind == "Node":
                manifest = node(name, draw(st.sampled_from([4, 8])))
            elif kind == "Pod":
                births += before is None
                uid = before["metadata"]["uid"] if before else f"uid-{name}-{births}"
                manifest = pod(draw(st.integers(1, 4)), name=f"p{name}", node=draw(st.sampled_from([None, *NAMES])))
                manifest = {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}
                if draw(st.booleans()):
                    manifest["status"] = {"nominatedNodeName": draw(st.sampled_from(NAMES))}
            else:
                manifest = topology(name, draw(st.sampled_from(["t4", "l40s"])))
        manifest = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}
        if exists:
            alive[kind, name] = manifest
        history.append((kind, manifest, exists))
    places = list(range(len(history)))
    return history, draw(st.permutations(places + draw(st.lists(st.sampled_from(places), max_size=10)) if places else []))


def left_of(history: list[tuple[str, dict[str, Any], bool]]) -> list[Change]:
    """The lists of all kinds after a history."""
    newest: dict[tuple[str, str], tuple[dict[str, Any], bool]] = {}
    for kind, manifest, exists in history:
        key = manifest["metadata"]["uid"] if kind == "Pod" else manifest["metadata"]["name"]
        newest[kind, key] = (manifest, exists)
    kinds = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}
    return [
        Listed(listed, tuple(seen(kind, m) for (k, _), (m, exists) in newest.items() if k == kind and exists), len(history))
        for kind, listed in kinds.items()
    ]


def assert_same_objects(first: Snapshot, second: Snapshot) -> None:
    assert first.nodes == second.nodes
    assert first.pods == second.pods
    assert first.topologies == second.topologies
    assert first.by_node == second.by_node
    assert {n: (v.state, v.pods, v.problem) for n, v in first.views.items()} == {
        n: (v.state, v.pods, v.problem) for n, v in second.views.items()
    }


def assert_same_state(first: Snapshot, second: Snapshot) -> None:
    assert_same_objects(first, second)
    assert dict(first.pending) == dict(second.pending)
    assert dict(first.nominated) == dict(second.nominated)
    assert dict(first.sizes) == dict(second.sizes)
    assert dict(first.versions) == dict(second.versions)
