"""The GPUs of one node, whatever their health, and those that no known pod holds."""

from __future__ import annotations

from dataclasses import dataclass

from extender.decision.kube_filters.node_filters import keeps_away, taints_of
from extender.decision.node.devices.gpu_sharing import Sharing
from extender.decision.node.interned_states import with_extra_pods
from extender.decision.node.node_labels import count_of
from extender.decision.node.node_state import NodeState, NodeView
from extender.decision.request.kubernetes_objects import Node, NodeStatus
from extender.decision.request.pod_request import Demand
from topology.machine.hardware import MAX_GPUS, mask_of, union_of

_NODE_TAINTS = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/", "ToBeDeletedByClusterAutoscaler")
"""Beginnings of the keys of taints that Kubernetes and Cluster Autoscaler set because of the node's condition."""

MOST_UNITS = 1 << 20
"""GPUs, or units of shared ones, that one node counts with: a node can state any number."""


@dataclass(frozen=True, slots=True)
class NodeIdleness:
    """What the slots of one node depend on. Equal nodes have equal ones."""

    state: NodeState
    """With the pods that count as being on the node already."""
    gpus: int
    """Whole GPUs, or units of shared ones, healthy or not."""
    idle: int
    """Those of them that no known pod holds."""
    is_schedulable: bool
    """Whether kube-scheduler binds pods to it: it is ready and not cordoned."""
    offered: int
    """Mask of the positions that it offers, healthy or not; 0 where the topology is unknown."""
    held: int
    """Mask of the positions that known pods are known to hold."""


def idleness_of(view: NodeView, node: Node | None, resource: str, extra_pods: tuple[Demand, ...] = ()) -> NodeIdleness:
    """Return the GPUs of a node. `extra_pods`: pods that are decided for it and not visible there. `node`: None where it is unknown."""
    state = with_extra_pods(view.state, extra_pods)
    offered = (1 << len(state.indices)) - 1 if state.table is not None else 0
    gpus = max(state.allocatable, len(state.indices))
    if view.dra is not None:
        offered &= mask_of([bit for bit in view.dra.bits.values() if bit < MAX_GPUS])
        gpus = state.allocatable
    elif state.sharing not in (None, Sharing.NONE):
        gpus = state.allocatable
    elif state.table is None and node is not None:
        gpus = max(state.allocatable, _capacity(node, resource))
    gpus = min(gpus, MOST_UNITS)
    return NodeIdleness(
        state=state,
        gpus=gpus,
        idle=max(0, gpus - state.requested),
        is_schedulable=node is None or is_schedulable(node),
        offered=offered,
        held=union_of(mask for masks in view.known.values() for mask in masks),
    )


def _capacity(node: Node, resource: str) -> int:
    """Return the GPUs by the node's capacity, which includes those that the device plugin reports as unhealthy."""
    if node.status is None:
        return 0
    return count_of(Node(node.metadata, NodeStatus(capacity=node.status.capacity)), resource)


def is_schedulable(node: Node) -> bool:
    """Return whether the node is ready and not cordoned. A taint that the cluster's owner has set is taken as tolerated."""
    if node.spec is not None and node.spec.unschedulable:
        return False
    return not any(keeps_away(taint) and taint.key.startswith(_NODE_TAINTS) for taint in taints_of(node))
