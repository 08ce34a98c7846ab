"""Nodes that a call brings with it and the watch does not know, as in the simulations of Cluster Autoscaler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from immutables import Map

from extender.decision.node.dra_view import dra_of, view_of
from extender.decision.node.node_labels import count_of
from extender.decision.node.node_sources import NodeSources
from extender.decision.node.node_state import NodeDefaults, NodeState, NodeView
from extender.decision.request.kubernetes_objects import Node
from extender.decision.state.snapshot import Snapshot

SENT = "judged from the Node that was sent"
WITHOUT_SLICES = "a DeviceClass serves its GPUs, and its ResourceSlices are not known"


def with_sent_nodes(snapshot: Snapshot, nodes: Mapping[str, Node], resource: str, defaults: NodeDefaults) -> Snapshot:
    """Return the snapshot with views of nodes that it does not have: by labels, allocatable and the assumed platform, without pods.

    A node that the snapshot knows is judged by the watch. The snapshot is for one call and is never published.
    """
    views = {name: _view(node, snapshot, resource, defaults) for name, node in nodes.items() if name not in snapshot.nodes}
    return replace(snapshot, views=Map(snapshot.views).update(views)) if views else snapshot


def _view(node: Node, snapshot: Snapshot, resource: str, defaults: NodeDefaults) -> NodeView:
    dra = dra_of(snapshot.dra, node, None, resource)
    view = view_of(NodeSources(node, None, (), classes=snapshot.classes, dra=dra), resource, defaults)
    is_unknown = dra is None and not count_of(node, resource) and snapshot.dra.class_of(resource) is not None
    return replace(view, state=_sent(view.state, is_unknown))


@lru_cache(maxsize=4_096)
def _sent(state: NodeState, is_unknown: bool) -> NodeState:
    """Return the state with a note on its source: one object per distinct state, as for nodes of the watch."""
    return replace(state, note=f"{SENT}; {state.note}", unjudged=WITHOUT_SLICES if is_unknown else state.unjudged)
