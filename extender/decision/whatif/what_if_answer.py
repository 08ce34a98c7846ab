"""The answer to a what-if question as plain data: one shape for the command's `-o json` and for POST /v1/what-if."""

from __future__ import annotations

from collections import Counter

import msgspec

from extender.decision.request.pod_request import Demand, demand_of
from extender.decision.whatif.placements import PlacedPods, Placement, PlacementOutcome
from extender.decision.whatif.pod_queue import QueuedPod
from extender.decision.whatif.remaining_capacity import RemainingCapacity, remaining_capacity
from extender.decision.whatif.what_if_question import WhatIf


class RefusalCountAnswer(msgspec.Struct, frozen=True):
    """How many nodes refuse a pod for one reason. `by`: kube-scheduler or fabricwise."""

    reason: str
    by: str
    nodes: int


class PlacementAnswer(msgspec.Struct, frozen=True):
    """Where a pod goes, or why it goes nowhere. `gpus`: nvidia-smi indices of the most probable set, of probability `probability`."""

    outcome: PlacementOutcome
    node: str | None
    gpus: list[int] | None
    probability: float | None
    bandwidth_gbps: float | None
    expected_bandwidth_gbps: float | None
    equally_good_nodes: int
    feasible_nodes: int
    refusals: list[RefusalCountAnswer]
    why: str | None


class WhatIfPodAnswer(msgspec.Struct, frozen=True):
    """One pod, without the hypotheses (None: a hypothesis adds it) and with them."""

    pod: str
    added: bool
    priority: int
    gpus_requested: int | None
    before: PlacementAnswer | None
    after: PlacementAnswer
    changes: bool
    """Whether a pending pod goes to another node, gets other GPUs, or is placed in one case only."""


class CapacityAnswer(msgspec.Struct, frozen=True):
    """The nodes of one product (None = unknown); free GPUs are those of nodes that take pods."""

    product: str | None
    nodes: int
    gpus: int
    free_gpus: int
    cordoned_free_gpus: int
    whole_nodes_free: int


class WhatIfAnswer(msgspec.Struct, frozen=True):
    """The whole answer."""

    summary: str
    pods: list[WhatIfPodAnswer]
    capacity_now: list[CapacityAnswer]
    capacity_after: list[CapacityAnswer]
    notes: list[str]
    not_simulated: list[str]
    not_checked: list[str]
    complete: bool
    """Whether every pod had its turn before the time was over."""
    reached_pods: int
    cluster: str | None = None
    unread: list[str] = []
    """What could not be read of the cluster."""
    state_age_seconds: float | None = None
    """Age of the state where the API server cannot be watched; None while it is watched."""

    @property
    def finds_a_node_for_every_pod(self) -> bool:
        """Whether every pod that had its turn is placed, or left to other schedulers."""
        return all(pod.after.outcome is not PlacementOutcome.NO_NODE for pod in self.pods)


def what_if_answer(result: WhatIf, resource: str) -> WhatIfAnswer:
    """Return the result as plain data; `resource` is the one that counts GPUs."""
    pods = [_pod(queued, result, resource) for queued in result.queue]
    now, after = remaining_capacity(result.now), remaining_capacity(result.after.snapshot)
    reached = sum(pod.after.outcome is not PlacementOutcome.NOT_REACHED for pod in pods)
    return WhatIfAnswer(
        summary=_summary(pods, after),
        pods=pods,
        capacity_now=[_capacity(row) for row in now],
        capacity_after=[_capacity(row) for row in after],
        notes=list(result.notes),
        not_simulated=list(result.not_simulated),
        not_checked=list(dict.fromkeys((*result.before.not_checked, *result.after.not_checked))),
        complete=result.before.is_complete and result.after.is_complete,
        reached_pods=reached,
    )


def _pod(queued: QueuedPod, result: WhatIf, resource: str) -> WhatIfPodAnswer:
    meta, key = queued.pod.metadata, queued.pod.key
    before, after = _of(result.before, key), result.after.by_pod[key]
    demand = demand_of(queued.pod, resource)
    return WhatIfPodAnswer(
        pod=f"{meta.namespace or 'default'}/{meta.name}",
        added=queued.is_added,
        priority=queued.pod.spec.priority or 0,
        gpus_requested=demand.total if isinstance(demand, Demand) else None,
        before=_placement(before) if before is not None else None,
        after=_placement(after),
        changes=before is not None and (before.outcome, before.node, before.gpus) != (after.outcome, after.node, after.gpus),
    )


def _of(placed: PlacedPods, key: str) -> Placement | None:
    return placed.by_pod.get(key)


def _placement(placement: Placement) -> PlacementAnswer:
    return PlacementAnswer(
        outcome=placement.outcome,
        node=placement.node,
        gpus=list(placement.gpus) if placement.gpus is not None else None,
        probability=placement.probability,
        bandwidth_gbps=placement.bandwidth_gbps,
        expected_bandwidth_gbps=placement.expected_gbps,
        equally_good_nodes=placement.equally_good_nodes,
        feasible_nodes=placement.feasible_nodes,
        refusals=[RefusalCountAnswer(each.reason, each.by, each.nodes) for each in placement.refusals],
        why=placement.why,
    )


def _capacity(row: RemainingCapacity) -> CapacityAnswer:
    return CapacityAnswer(row.product, row.nodes, row.gpus, row.free_gpus, row.cordoned_free_gpus, row.whole_nodes_free)


def _summary(pods: list[WhatIfPodAnswer], after: tuple[RemainingCapacity, ...]) -> str:
    """Return the answer in one sentence."""
    counts = Counter(pod.after.outcome for pod in pods)
    free, gpus = sum(row.free_gpus for row in after), sum(row.gpus for row in after)
    parts = [f"{counts[outcome]} {text}" for outcome, text in _TEXTS.items() if counts[outcome]]
    placed = f"of {_counted(len(pods), 'pod')}, {', '.join(parts)}" if pods else "no pod waits for GPUs"
    changed = sum(pod.changes for pod in pods)
    changes = f"; the hypotheses change what happens to {_counted(changed, 'pending pod')}" if changed else ""
    sentence = f"{placed}{changes}; {free} of {_counted(gpus, 'GPU')} stay free."
    return sentence[0].upper() + sentence[1:]


_TEXTS = {
    PlacementOutcome.PLACED: "placed",
    PlacementOutcome.NO_NODE: "without a node",
    PlacementOutcome.KUBE_DECIDES: "left to kube-scheduler alone",
    PlacementOutcome.SKIPPED: "not evaluated",
    PlacementOutcome.NOT_REACHED: "not reached in time",
}


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
