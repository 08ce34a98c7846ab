"""Which pods may be moved: those that are recreated elsewhere, and that the evaluation can place again."""

from __future__ import annotations

from extender.decision.disruption.disruption_facts import DisruptionFacts, why_not_recreated
from extender.decision.disruption.evictions import why_refused
from extender.decision.node.allocation.allocations import BoundPod

NOT_READ = "the pod was not read"
TERMINATING = "it terminates already"
BY_CLAIMS = "ResourceClaims state which devices it holds"
OTHER_SCHEDULER = "another scheduler places it"
IN_GROUP = "it is in a PodGroup, whose pods are scheduled together"


def why_not_moved(bound: BoundPod, facts: DisruptionFacts) -> str | None:
    """Return why a pod is not moved, whatever it would gain; None where it may be moved."""
    if bound.terminating:
        return TERMINATING
    known = facts.pods.get(bound.key)
    if known is None:
        return NOT_READ
    if known.pod.spec.resource_claims or bound.extended_claim is not None:
        return BY_CLAIMS
    reason = why_not_recreated(known)
    if reason is not None:
        return reason
    if known.pod.group is not None:
        return IN_GROUP
    refused = why_refused((known,), facts.budgets)
    return refused[1] if refused is not None else None
