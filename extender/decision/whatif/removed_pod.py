"""The changes that remove a pod from the state as if it had never been bound."""

from __future__ import annotations

from dataclasses import replace

from extender.decision.dra.dra_state import DraObjectGone
from extender.decision.node.node_state import NodeDefaults
from extender.decision.state.changes import Change, PodGone, TopologySeen
from extender.decision.state.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from topology.gputopology import Allocation, DeviceStatus, TopologyRecord


def without_pod(snapshot: Snapshot, key: str, namespace: str, name: str, resource: str, defaults: NodeDefaults) -> Snapshot:
    """Return the cluster as if a pod had not been bound: without the pod, and with its GPUs free in the status of GpuTopologies."""
    return fold_all(snapshot, removal_of(snapshot, key, namespace, name), resource, defaults)


def removal_of(snapshot: Snapshot, key: str, namespace: str, name: str) -> tuple[Change, ...]:
    """Return the changes that remove a pod and free its devices. `key`: `Pod.key`.

    Claims that are reserved for this pod alone are removed too.
    """
    changes: list[Change] = [PodGone(key)]
    for node, record in snapshot.topologies.items():
        status = record.status if isinstance(record, TopologyRecord) else None
        if isinstance(record, TopologyRecord) and status is not None:
            released = _released(status, key, namespace, name)
            if released is not status:
                changes.append(TopologySeen(node, replace(record, status=released)))
    claims = sorted(snapshot.dra.holders.get(key, ()))
    others = frozenset(claim for holder, held in snapshot.dra.holders.items() if claims and holder != key for claim in held)
    return (*changes, *(DraObjectGone("resourceclaims", claim) for claim in claims if claim not in others))


def _released(status: DeviceStatus, key: str, namespace: str, name: str) -> DeviceStatus:
    """Return the status without the pod's allocations; the same object where it has none."""
    released = [allocation for allocation in status.allocated if _belongs_to(allocation, key, namespace, name)]
    if not released:
        return status
    free = None if status.free is None else tuple(sorted({*status.free, *(allocation.index for allocation in released)}))
    return replace(status, free=free, allocated=tuple(item for item in status.allocated if item not in released))


def _belongs_to(allocation: Allocation, key: str, namespace: str, name: str) -> bool:
    """Return whether an allocation is the pod's; an agent may know only the pod's name, not its uid."""
    if allocation.pod_uid:
        return allocation.pod_uid == key
    return (allocation.pod_namespace, allocation.pod_name) == (namespace, name)
