"""The views of the nodes that a batch touched. A view that cannot be derived harms only its own node."""

from __future__ import annotations

from dataclasses import replace

from extender.decision.node.dra_view import dra_of, view_of
from extender.decision.node.node_sources import NodeSources, Times
from extender.decision.node.node_state import NodeView
from extender.decision.node.node_telemetry import with_telemetry
from extender.decision.request.kubernetes_objects import Node
from extender.decision.state.fold.device_changes import ended_holders, settle_devices
from extender.decision.state.fold.draft import Draft
from extender.decision.state.fold.pod_changes import forget_ended
from extender.decision.state.isolation import SetAside, described, view_key
from extender.decision.state.snapshot import Snapshot
from extender.decision.tables import Table


def derived_snapshot(draft: Draft) -> Snapshot:
    """Return the snapshot after a batch; the one before it where the batch changed nothing."""
    before = draft.before
    settle_devices(draft)
    if not draft.touched and not draft.measured and draft.listed == before.listed and not draft.is_written:
        if draft.times == Times(before.now_seconds, before.monotonic_seconds):
            return before
        now, monotonic = draft.times.now_seconds, draft.times.monotonic_seconds
        return replace(before, now_seconds=now, monotonic_seconds=monotonic, changed_pods=frozenset())
    changed: dict[str, NodeView | None] = {}
    for name in draft.measured - draft.touched:
        old = before.views.get(name)
        new = _with_telemetry(draft, name, old) if old else None
        if new is None:
            draft.touched.add(name)
        elif new is not old:
            changed[name] = new
    for name in draft.touched:
        forget_ended(draft, name)
        node = draft.nodes.now.get(name)
        changed[name] = _derived(draft, name, node) if node is not None else None
        if node is None:
            draft.set_aside.put(view_key(name), None)
    if not changed:
        return draft.snapshot(before.views, frozenset())
    views = Table(before.views)
    for name, view in changed.items():
        if view is None:
            views.pop(name)
        else:
            views.set(name, view)
    return draft.snapshot(views.now, frozenset(changed))


def _with_telemetry(draft: Draft, name: str, old: NodeView) -> NodeView | None:
    """Return the old view with newer telemetry; None where the view must be derived anew."""
    try:
        return with_telemetry(old, draft.telemetry.now.get(name), draft.times, draft.defaults)
    except Exception:  # `_derived` meets the same error and sets the node aside
        return None


def _derived(draft: Draft, name: str, node: Node) -> NodeView | None:
    """Return the view of a node.

    Where deriving it raises: the view by counts and labels, as if no topology were known. None where that raises too.
    """
    pods, times = draft.pods_of(name), draft.agent_times(name, draft.times)
    sources = NodeSources(
        node=node,
        record=draft.topologies.now.get(name),
        pods=draft.all_pods_of(name),
        times=times,
        telemetry=draft.telemetry.now.get(name),
        classes=draft.classes.now,
        ended=draft.ended.now.get(name, ()),
    )
    try:
        dra = draft.dra.settled()
        devices = dra_of(dra, node, sources.record, draft.resource, ended=ended_holders(draft, dra, name))
        view = view_of(replace(sources, dra=devices), draft.resource, draft.defaults)
    except Exception as error:
        why = described(error)
        draft.put_aside(SetAside("nodes", name, "derive", why, name))
        try:
            return view_of(NodeSources(node, f"it could not be evaluated ({why})", pods, times), draft.resource, draft.defaults)
        except Exception:
            return None
    draft.set_aside.put(view_key(name), None)
    return view
