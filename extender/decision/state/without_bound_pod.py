"""The cluster as if a bound pod had not been bound: its GPUs are free, and the claims that it alone holds do not exist."""

from __future__ import annotations

from dataclasses import replace

from extender.decision.dra.dra_state import DraObjectGone
from extender.decision.node.node_state import NodeDefaults
from extender.decision.state.changes import Change, PodGone, TopologySeen
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord


def without_bound_pod(snapshot: Snapshot, key: str, full_name: str, resource: str, defaults: NodeDefaults) -> Snapshot:
    """Return the snapshot without a pod. `key`: `Pod.key`. `full_name`: namespace/name."""
    return fold_all(snapshot, removal_of(snapshot, key, full_name), resource, defaults)


def removal_of(snapshot: Snapshot, key: str, full_name: str) -> tuple[Change, ...]:
    """Return the changes that remove a pod, free its GPUs in the status of GpuTopologies, and remove the claims of this pod alone."""
    changes: list[Change] = [PodGone(key)]
    for node, record in snapshot.topologies.items():
        status = record.status if isinstance(record, TopologyRecord) else None
        if isinstance(record, TopologyRecord) and status is not None:
            released = _released(status, key, full_name)
            if released is not status:
                changes.append(TopologySeen(node, replace(record, status=released)))
    claims = sorted(snapshot.dra.holders.get(key, ()))
    others = frozenset(claim for holder, held in snapshot.dra.holders.items() if claims and holder != key for claim in held)
    return (*changes, *(DraObjectGone("resourceclaims", claim) for claim in claims if claim not in others))


def _released(status: DeviceStatus, key: str, full_name: str) -> DeviceStatus:
    """Return the status without the pod's allocations; the same object where it has none."""
    released = [entry for entry in status.allocated if _belongs_to(entry, key, full_name)]
    if not released:
        return status
    free = None if status.free is None else tuple(sorted({*status.free, *(entry.index for entry in released)}))
    return replace(status, free=free, allocated=tuple(entry for entry in status.allocated if entry not in released))


def _belongs_to(allocation: Allocation, key: str, full_name: str) -> bool:
    """Return whether an allocation is the pod's; an agent may know only the pod's name, not its uid."""
    if allocation.pod_uid:
        return allocation.pod_uid == key
    return f"{allocation.pod_namespace}/{allocation.pod_name}" == full_name
