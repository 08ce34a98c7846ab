"""One row per pod that requests GPUs: where it is, which GPUs it holds and how fast they are joined, or why it waits. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from extender.decision.cycle.assumed_pods import AssumedPod
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.node.node_state import NodeView
from extender.decision.report.prediction_outcomes import Outcome
from extender.decision.state.pods import Pending
from topology.machine.hardware import positions_of, union_of

State = Literal["pending", "assumed", "bound", "terminating"]
STATES: tuple[State, ...] = ("pending", "assumed", "bound", "terminating")


class PodRow(msgspec.Struct, frozen=True):
    """A pod. None = unknown, or without meaning: a single GPU has no bandwidth."""

    namespace: str
    name: str
    uid: str
    state: State
    gpus: int
    """GPUs that it requests by number."""
    node: str | None = None
    """The node it is on, assumed on, or that preemption has nominated for it."""
    devices: tuple[int, ...] | None = None
    """nvidia-smi indices of the GPUs that it holds."""
    busbw_gbps: float | None = None
    """Bus bandwidth of its slowest container, by the GPUs that it holds."""
    best_gbps: float | None = None
    """The same, if its containers had the best GPUs of the node, taken or not."""
    expected_gbps: float | None = None
    """The same as `busbw_gbps`, as it was predicted when it was decided."""
    floor_gbps: float | None = None
    """Annotation `min-busbw`."""
    priority: int = 0
    created: str | None = None
    """creationTimestamp."""
    message: str | None = None
    """kube-scheduler's message on why it is not scheduled."""

    @property
    def position(self) -> str:
        """Its place in the order of all rows, which stays while other pods come and go."""
        return f"{self.namespace}/{self.name}/{self.uid}"

    @property
    def share_of_best(self) -> float:
        """`busbw_gbps` as a share of `best_gbps`; 1 where either is unknown."""
        return self.busbw_gbps / self.best_gbps if self.busbw_gbps is not None and self.best_gbps else 1.0


OutcomeOf = Callable[[str], Outcome | None]
"""Pod key -> the outcome of its prediction; None where there is none."""


PodSource = tuple[BoundPod, NodeView | None] | tuple[Pending, None] | tuple[AssumedPod, Pending | None]
"""What a row is made from. Two sources whose parts are the same objects give equal rows."""

WorstKey = tuple[bool, float, str]
"""The place of a row in the order in which pods need a person; see `worst_key`."""


def pod_source(moment: Moment, key: str) -> PodSource | None:
    """Return what the row of a pod is made from; None where no row shows the pod."""
    snapshot, assumed = moment.snapshot, moment.assumed_pods
    bound, pending = snapshot.pods.get(key), snapshot.pending.get(key)
    if bound is not None:
        return bound, snapshot.views.get(bound.node)
    if assumed.is_in_force(key, moment.monotonic_seconds):
        return assumed.by_pod[key], pending
    return None if pending is None else (pending, None)


def pod_keys(moment: Moment) -> set[str]:
    """Return the keys of all pods that may have a row."""
    return {*moment.snapshot.pods, *moment.snapshot.pending, *moment.assumed_pods.by_pod}


def pod_row(key: str, source: PodSource) -> PodRow:
    """Return the row of a pod, without the outcome of its prediction; see `with_outcome`."""
    shown, beside = source
    if isinstance(shown, BoundPod):
        return _bound(shown, beside if isinstance(beside, NodeView) else None)
    if isinstance(shown, AssumedPod):
        return _assumed(shown, beside if isinstance(beside, Pending) else None)
    return _pending(key, shown)


def with_outcome(row: PodRow, outcome_of: OutcomeOf) -> PodRow:
    """Return the row with what was predicted for the pod, where it is bound and its prediction has an outcome."""
    outcome = outcome_of(row.uid) if row.state in ("bound", "terminating") else None
    return row if outcome is None else msgspec.structs.replace(row, expected_gbps=outcome.expected_gbps)


def worst_key(row: PodRow) -> WorstKey:
    """Return the sort key of the order in which pods need a person: pending ones, then the smallest share of their node's best."""
    return row.state != "pending", row.share_of_best, row.position


def _bound(pod: BoundPod, view: NodeView | None) -> PodRow:
    masks = view.known.get(pod.key, ()) if view is not None else ()
    devices = None if view is None or not masks else tuple(sorted(view.state.indices[p] for p in positions_of(union_of(masks))))
    return PodRow(
        namespace=pod.namespace,
        name=pod.name,
        uid=pod.key,
        state="terminating" if pod.terminating else "bound",
        gpus=pod.demand.total,
        node=pod.node,
        devices=devices,
        busbw_gbps=_slowest_gbps(pod, view, masks),
        best_gbps=_best_gbps(pod, view, masks),
        floor_gbps=pod.floor_gbps,
        priority=pod.priority,
        created=pod.created or None,
    )


def _slowest_gbps(pod: BoundPod, view: NodeView | None, masks: tuple[int, ...]) -> float | None:
    """Return the bus bandwidth in GB/s of the slowest container; None where the GPUs of single containers are not known."""
    table = view.state.table if view is not None else None
    if table is None or len(masks) != len(pod.demand.groups):
        return None
    return min((speed for mask in masks if (speed := table.busbw_gbps(mask)) is not None), default=None)


def _best_gbps(pod: BoundPod, view: NodeView | None, masks: tuple[int, ...]) -> float | None:
    """Return what `_slowest_gbps` would be if every container had the best GPUs of the node; None where it is None."""
    table, machine = (view.state.table, view.machine) if view is not None else (None, None)
    if table is None or machine is None or len(masks) != len(pod.demand.groups):
        return None
    every = (1 << len(machine.gpus)) - 1
    sizes = {mask.bit_count() for mask in masks} - {1}
    return min((speed for size in sizes if (speed := table.extreme_gbps(every, size)[0]) is not None), default=None)


def _pending(key: str, pending: Pending) -> PodRow:
    meta = pending.pod.metadata
    return PodRow(
        namespace=meta.namespace or "default",
        name=meta.name,
        uid=key,
        state="pending",
        gpus=pending.demand.total if pending.demand is not None else 0,
        node=pending.nominated,
        priority=pending.priority,
        created=meta.creation_timestamp,
        message=pending.scheduler_message or None,
    )


def _assumed(assumed_pod: AssumedPod, pending: Pending | None) -> PodRow:
    return PodRow(
        namespace=assumed_pod.namespace,
        name=assumed_pod.name,
        uid=assumed_pod.key,
        state="assumed",
        gpus=assumed_pod.demand.total,
        node=assumed_pod.node,
        expected_gbps=assumed_pod.evidence.expected_gbps,
        floor_gbps=assumed_pod.demand.wishes.min_busbw_gbps,
        priority=pending.priority if pending is not None else 0,
        created=pending.pod.metadata.creation_timestamp if pending is not None else None,
    )
