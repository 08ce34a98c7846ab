"""The answers of the debug API as plain data. Pure: each is a function of the state that it is given."""

from __future__ import annotations

from heapq import nsmallest
from typing import Any

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.report.serializers import (
    assumed_pod_answer,
    node_detail,
    node_summary,
    nodes_without_view,
    notes_by_node,
    set_aside_answer,
)
from extender.decision.state.snapshot import Snapshot
from extender.near_names import near_names
from extender.telemetry.conditions import Tuning


def assumed_pods_answer(moment: Moment, node: str | None = None) -> list[dict[str, Any]]:
    """Return the assumed pods, or those of one node, oldest first; without those that have ended."""
    ended = frozenset(moment.assumed_pods.ended(moment.snapshot, moment.monotonic_seconds))
    return [
        assumed_pod_answer(assumed_pod, moment.monotonic_seconds)
        for key, assumed_pod in moment.assumed_pods.by_pod.items()
        if key not in ended and node in (None, assumed_pod.node)
    ]


def nodes_answer(snapshot: Snapshot) -> dict[str, Any]:
    """Return a summary of every node, and every object that is set aside."""
    notes = notes_by_node(snapshot)
    rows = [{**node_summary(snapshot.views[name]), "set_aside": notes.get(name, [])} for name in sorted(snapshot.views)]
    for name in nodes_without_view(snapshot):
        problem = "it could not be evaluated"
        rows.append({"node": name, "topology": f"topology unknown: {problem}", "problem": problem, "set_aside": notes[name]})
    return {"nodes": rows, "set_aside": set_aside_answer(snapshot)}


def node_page(moment: Moment, name: str, tuning: Tuning) -> dict[str, Any] | None:
    """Return all that is known of one node; None where no node has the name."""
    snapshot = moment.snapshot
    view = snapshot.views.get(name)
    if view is None:
        return None
    detail = node_detail(view, snapshot.topologies.get(name), snapshot, tuning)
    set_aside, assumed_pods = notes_by_node(snapshot).get(name, []), assumed_pods_answer(moment, name)
    return {**detail, "set_aside": set_aside, "assumed_pods": assumed_pods}


def no_node(snapshot: Snapshot, name: str) -> str:
    """Return the error that no node has the name, with the nearest names, or some names where none is near."""
    close = near_names(name, snapshot.views)
    shown = ", ".join(close or nsmallest(5, snapshot.views)) or "none yet"
    if close:
        return f"no node {name[:253]!r} is known: did you mean {shown}?"
    return f"no node {name[:253]!r} is known; nodes: {shown}, all in /v1/nodes"
