"""The state of a node as it will be after some of its pods have left."""

from __future__ import annotations

from extender.decision.node.allocation.allocations import released
from extender.decision.node.dra_view import dra_of, view_of
from extender.decision.node.node_sources import NodeSources, Times
from extender.decision.node.node_state import NodeDefaults, NodeState
from extender.decision.node.node_telemetry import as_left
from extender.decision.state.snapshot import Snapshot
from extender.telemetry.conditions import emptied
from topology.gputopology.topology_record import TopologyRecord


def without_pods(
    snapshot: Snapshot, name: str, leaving: frozenset[str], resource: str, defaults: NodeDefaults, strangers_left: bool = False
) -> NodeState | None:
    """Return the state of node `name` after the pods with the keys `leaving` have left; None where the node is unknown.

    `strangers_left`: devices that the agent's status gives to pods that the API server no longer has are free too, because the status lags.
    """
    node, view = snapshot.nodes.get(name), snapshot.views.get(name)
    if node is None or view is None:
        return None
    record = snapshot.topologies.get(name)
    if isinstance(record, TopologyRecord):
        left = tuple(pod for pod in view.pods if pod.key in leaving)
        record = released(record, left, view.pods if strangers_left else None)
    telemetry = snapshot.telemetry.get(name)
    if telemetry is not None and leaving:
        telemetry = as_left(telemetry, view, leaving, emptied)
    sources = NodeSources(
        node=node,
        record=record,
        pods=tuple(pod for pod in view.pods if pod.key not in leaving),
        times=Times(snapshot.agent_seconds(name), snapshot.monotonic_seconds),
        telemetry=telemetry,
        classes=snapshot.classes,
        ended=snapshot.ended.get(name, ()),
        dra=dra_of(snapshot.dra, node, record, resource, leaving),
    )
    return view_of(sources, resource, defaults).state
