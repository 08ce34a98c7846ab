"""The pods that request GPUs as rows of a list: where each is, what it gets there, and the best that its node could give. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from extender.decision.node.allocations import BoundPod
from extender.decision.node.node_state import NodeView
from extender.decision.state.pods import Pending
from extender.decision.state.snapshot import Snapshot
from topology.machine.hardware import mask_of, positions_of

MOST_MESSAGE = 500
"""Characters of kube-scheduler's message in a row."""


class PodRow(msgspec.Struct, frozen=True):
    """One pod."""

    pod: str
    """namespace/name."""
    state: str
    """pending, bound or terminating."""
    node: str | None
    gpus: int
    """Requested by number; those of claims count once they are known."""
    indices: tuple[int, ...] | None
    """nvidia-smi indices of its GPUs; None where unknown."""
    actual_gbps: float | None
    """Bus bandwidth of its GPUs; None for fewer than two, and where they are unknown."""
    best_gbps: float | None
    """Bus bandwidth of the best set of as many GPUs of the node, taken or not; None as above."""
    floor_gbps: float | None
    message: str | None
    """Why it is Pending, by kube-scheduler."""

    @property
    def share(self) -> float:
        """`actual_gbps` as a share of `best_gbps`; 1 where either is unknown."""
        return self.actual_gbps / self.best_gbps if self.actual_gbps is not None and self.best_gbps else 1.0


class PodRows(msgspec.Struct, frozen=True):
    """The pods in the order in which a person needs them."""

    pods: list[PodRow]
    known: int
    """Pods that match, listed or not."""


def pod_rows(snapshot: Snapshot, search: str, limit: int) -> PodRows:
    """Return at most `limit` pods whose name, namespace or node contains `search`: pending ones first, then those with the lowest share.

    Upper and lower case are the same in `search`.
    """
    wanted = search.lower()
    rows = [row for row in _rows(snapshot) if wanted in row.pod.lower() or (row.node is not None and wanted in row.node.lower())]
    rows.sort(key=lambda row: (row.state != "pending", row.share, row.pod))
    return PodRows(rows[:limit], len(rows))


def _rows(snapshot: Snapshot) -> Iterator[PodRow]:
    for pending in snapshot.pending.values():
        yield _pending(pending)
    for pod in snapshot.pods.values():
        yield _bound(pod, snapshot.views.get(pod.node))


def _pending(pending: Pending) -> PodRow:
    meta = pending.pod.metadata
    gpus = pending.demand.total if pending.demand is not None else 0
    message = pending.scheduler_message[:MOST_MESSAGE] or None
    return PodRow(f"{meta.namespace or 'default'}/{meta.name}", "pending", None, gpus, None, None, None, None, message)


def _bound(pod: BoundPod, view: NodeView | None) -> PodRow:
    state = "terminating" if pod.terminating else "bound"
    masks = view.known.get(pod.key) if view is not None else None
    if view is None or masks is None:
        return PodRow(pod.full_name, state, pod.node, pod.demand.total, None, None, None, pod.floor_gbps, None)
    mask = 0
    for each in masks:
        mask |= each
    indices = tuple(sorted(view.state.indices[position] for position in positions_of(mask)))
    actual, best = _speeds(view, mask)
    return PodRow(pod.full_name, state, pod.node, pod.demand.total or len(indices), indices, actual, best, pod.floor_gbps, None)


def _speeds(view: NodeView, mask: int) -> tuple[float | None, float | None]:
    """Return the bandwidth of a set, and of the best set of its size."""
    table, size = view.state.table, mask.bit_count()
    if table is None or view.machine is None or size < 2:
        return None, None
    return table.busbw_gbps(mask), table.extreme_gbps(mask_of(range(len(view.machine.gpus))), size)[0]
