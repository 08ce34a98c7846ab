"""The cluster as if a bound pod had not been bound, to ask where it would be placed now."""

from __future__ import annotations

from dataclasses import replace

from extender.decision.node.node_state import NodeDefaults
from extender.decision.state.changes import Change, PodGone, TopologySeen
from extender.decision.state.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from topology.gputopology import Allocation, DeviceStatus, TopologyRecord


def without_bound_pod(snapshot: Snapshot, key: str, full_name: str, resource: str, defaults: NodeDefaults) -> Snapshot:
    """Return the snapshot without a pod, and without its GPUs in the status of GpuTopologies. `full_name`: namespace/name."""
    changes: list[Change] = [PodGone(key)]
    for node, record in snapshot.topologies.items():
        status = record.status if isinstance(record, TopologyRecord) else None
        if isinstance(record, TopologyRecord) and status and any(_belongs_to(key, full_name, entry) for entry in status.allocated):
            changes.append(TopologySeen(node, replace(record, status=_released(status, key, full_name))))
    return fold_all(snapshot, changes, resource, defaults)


def _released(status: DeviceStatus, key: str, full_name: str) -> DeviceStatus:
    released = [entry.index for entry in status.allocated if _belongs_to(key, full_name, entry)]
    free = None if status.free is None else tuple(sorted({*status.free, *released}))
    return replace(status, free=free, allocated=tuple(entry for entry in status.allocated if not _belongs_to(key, full_name, entry)))


def _belongs_to(key: str, full_name: str, allocation: Allocation) -> bool:
    """Return whether the allocation is the pod's; an agent may know only the pod's name, not its uid."""
    if allocation.pod_uid:
        return allocation.pod_uid == key
    return f"{allocation.pod_namespace}/{allocation.pod_name}" == full_name
