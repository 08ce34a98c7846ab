"""The answers and events of the live view as types; docs/web-ui.md describes them."""

from __future__ import annotations

import msgspec

from extender.decision.evaluate.by_name.node_verdicts import FEASIBLE, reason_of
from extender.decision.report.live.cluster_rows import NodeRow, Totals
from extender.decision.report.live.machine_graph import MachineGraph
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Rejection
from extender.scheduling.decision_log import Decision, Result


class ClusterHead(msgspec.Struct, frozen=True):
    """The cluster without its nodes."""

    stream: str
    """The position in the stream that this state has: the id of its newest event."""
    sequence: int
    """The number of that event: it grows by one with each event of one server process."""
    revision: int
    at_seconds: float
    """Unix time of the server."""
    state_age_seconds: float
    """How old the state may be: 0 while the API server is watched."""
    synced: bool
    missing: tuple[str, ...]
    """Kinds that are not listed yet."""
    cluster: str | None
    version: str
    totals: Totals
    pending: int
    """Pods that request GPUs and are not bound."""
    assumed_pods: int
    set_aside: int
    """Objects that could not be used because of an error."""
    nodes_without_gpus: int


class ClusterAnswer(ClusterHead, frozen=True):
    """GET /v1/cluster."""

    nodes: tuple[NodeRow, ...]
    """All nodes with GPUs, sorted by name."""


class EncodedCluster(ClusterHead, frozen=True):
    """`ClusterAnswer` with rows that are encoded already."""

    nodes: msgspec.Raw


class NodesEvent(msgspec.Struct, frozen=True):
    """Event `nodes`: what has changed since the event before."""

    stream: str
    sequence: int
    revision: int
    at_seconds: float
    state_age_seconds: float
    changed: msgspec.Raw
    """Whole rows, as in `ClusterAnswer.nodes`."""
    removed: tuple[str, ...]
    totals: Totals
    pending: int
    assumed_pods: int
    set_aside: int


class AgeEvent(msgspec.Struct, frozen=True):
    """Event `age`: a sign of life."""

    sequence: int
    revision: int
    at_seconds: float
    state_age_seconds: float
    synced: bool


class ResyncEvent(msgspec.Struct, frozen=True):
    """Event `resync`: read /v1/cluster anew; events with a number up to its `sequence` are in it."""

    why: str
    stream: str
    sequence: int


class EndEvent(msgspec.Struct, frozen=True):
    """Event `end`: the server ends the stream; connect again with the last id."""

    why: str


class DecisionEvent(msgspec.Struct, frozen=True):
    """Event `decision`: one answer to kube-scheduler."""

    sequence: int
    id: str
    """Its `decision_id` in /v1/decisions."""
    at_seconds: float
    verb: str
    pod: str
    """namespace/name."""
    uid: str
    gpus: int | None
    """GPUs that the pod requests; None where its request is invalid."""
    outcome: Result
    node: str | None
    expected_bandwidth_gbps: float | None
    feasible_nodes: int
    nodes: int
    reason: str | None
    """The most frequent reason of a refusal, what is invalid, or what is waited for."""
    took_seconds: float


class MachineAnswer(MachineGraph, frozen=True, kw_only=True):
    """GET /v1/nodes/{name}/machine."""

    revision: int
    at_seconds: float
    state_age_seconds: float


def decision_event(decision: Decision, sequence: int) -> DecisionEvent:
    """Return a decision in short."""
    verdicts, demand = decision.verdicts, decision.demand
    feasible = int(verdicts.feasible.sum())
    expected = None if decision.decided is None else verdicts[decision.decided].evidence.expected_gbps
    return DecisionEvent(
        sequence=sequence,
        id=decision.id,
        at_seconds=round(decision.at_seconds, 3),
        verb=decision.verb,
        pod=f"{decision.namespace}/{decision.pod}",
        uid=decision.uid,
        gpus=demand.total if isinstance(demand, Demand) else None,
        outcome=decision.result,
        node=decision.decided_node,
        expected_bandwidth_gbps=expected,
        feasible_nodes=feasible,
        nodes=len(verdicts),
        reason=_reason(decision),
        took_seconds=round(decision.took_seconds, 6),
    )


def _reason(decision: Decision) -> str | None:
    """Return `DecisionEvent.reason`."""
    if decision.stall is not None:
        return decision.stall
    if isinstance(decision.demand, Rejection):
        return decision.demand.detail
    codes = [code for code in decision.verdicts.codes.tolist() if code != FEASIBLE]
    return reason_of(max(set(codes), key=codes.count))[0] if decision.result == "refused" and codes else None
