"""A placed pod as changes: the binding, and what the node's agent would report of its devices."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from extender.decision.node.node_state import NodeView
from extender.decision.request.kubernetes_objects import Pod, PodCondition, PodStatus
from extender.decision.state.changes import PodSeen, TopologySeen
from extender.decision.state.snapshot import Snapshot
from topology.gputopology.topology_record import Allocation, TopologyRecord


def placed(snapshot: Snapshot, pod: Pod, node: str, gpus: tuple[int, ...] | None, number: int) -> tuple[PodSeen, tuple[TopologySeen, ...]]:
    """Return (the binding of a pod to a node, what the node's agent then reports) for a pod that gets these GPUs (nvidia-smi indices).

    No report where the agent reports no allocations: the fold predicts them there, as it does for running pods. `number`: the place of the
    pod in the sequence.
    """
    spec = msgspec.structs.replace(pod.spec, node_name=node)
    condition = PodCondition(_bound_at(number), "PodScheduled", "True")
    bound = msgspec.structs.replace(pod, spec=spec, status=PodStatus(phase="Pending", conditions=[condition]))
    view, record = snapshot.views.get(node), snapshot.topologies.get(node)
    if not gpus or view is None or not isinstance(record, TopologyRecord) or not reports_allocations(view, record):
        return PodSeen(bound), ()
    meta, status = pod.metadata, record.status
    assert status is not None
    held = tuple(Allocation(index, pod.key, meta.namespace or "default", meta.name) for index in gpus)
    free = None if status.free is None else tuple(index for index in status.free if index not in gpus)
    report = TopologySeen(node, replace(record, status=replace(status, free=free, allocated=status.allocated + held)))
    return PodSeen(bound), (report,)


def reports_allocations(view: NodeView, record: TopologyRecord) -> bool:
    """Whether the allocations of a node's GpuTopology count: it has a fresh status, and the device plugin assigns whole GPUs."""
    is_used = view.machine is not None and view.problem is None and view.dra is None and view.stale_since_seconds is None
    return is_used and record.status is not None and record.status.allocations_unknown is None


def _bound_at(number: int) -> str:
    """Return a time after that of every real binding, later for later pods: the kubelet admits pods in the order of binding."""
    minutes, seconds = divmod(number, 60)
    hours, minutes = divmod(minutes, 60)
    return f"9999-12-31T{hours:02}:{minutes:02}:{seconds:02}Z"
