"""How a decision becomes an assumed pod and a placement record."""

from __future__ import annotations

from extender.decision.cycle.assumed_pods import AssumedPod
from extender.decision.evaluate.verdict import Evidence
from extender.decision.report.placement_record import PlacementRecord
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand


def assumed_pod_of(
    pod: Pod, demand: Demand, evidence: Evidence, record: PlacementRecord, now_seconds: float, ttl_seconds: float
) -> AssumedPod:
    """Return the pod as assumed on the node of its record from `now_seconds` (monotonic) for at most `ttl_seconds`."""
    meta = pod.metadata
    return AssumedPod(
        key=pod.key,
        namespace=meta.namespace or "default",
        name=meta.name,
        node=record.node,
        demand=demand,
        evidence=evidence,
        placed_monotonic_seconds=now_seconds,
        until_monotonic_seconds=now_seconds + ttl_seconds,
        decision=record.id,
        group=pod.group,
    )
