"""What would help a bound pod: to create it again where it gets more, or to mend its GPUs."""

from __future__ import annotations

from extender.decision.disruption.disruption_facts import PodFacts, why_not_recreated
from extender.decision.disruption.evictions import GroupRestart, restart_text
from extender.decision.disruption.restart_groups import group_name, restart_group_of
from extender.decision.why.helping.remedy_case import CORRECT, EVICT_FOR_GOOD, EVICT_MORE, LOOK, gpus_text, number
from extender.decision.why.pod_question import Question
from extender.decision.why.running_pod import BETTER_SHARE
from extender.decision.why.why_types import WhyCandidate, WhyPlacement, WhyRemedy

SLOW, FAULTY, BETTER = "slower GPUs than its node has", "its GPUs have faults", "a better place is free now"


def where_text(fits: WhyCandidate) -> str:
    """Return a node with the bandwidth that the pod can expect there."""
    gbps = f" with {number(fits.bandwidth_gbps)} GB/s expected" if fits.bandwidth_gbps is not None else ""
    return f"{fits.node}{gbps}"


def running_remedies(question: Question, placement: WhyPlacement) -> list[WhyRemedy]:
    """Return what would help the bound pod of `question`."""
    remedies = []
    if placement.better is not None:
        remedies.append(_move(question, placement.better))
    if placement.faults:
        text = f"fabricwise node {placement.node} has the faults with their remedies"
        remedies.append(WhyRemedy(kind="repair", text=text, cause=FAULTY, fits=False, cost=LOOK, node=placement.node))
    best = placement.best_on_node_gbps
    if placement.better is None and best is not None and best >= BETTER_SHARE * (placement.actual_gbps or best):
        text = "demand the bandwidth in the next pod by the annotation fabricwise.dev/min-busbw; the faster GPUs are in use now"
        remedies.append(WhyRemedy(kind="look", text=text, cause=SLOW, fits=False, cost=LOOK))
    return remedies


def _move(question: Question, better: WhyCandidate) -> WhyRemedy:
    """Return the remedy that deletes the pod, which would be placed better now. No disruption budget covers a deletion."""
    known = PodFacts(question.pod, question.kube_pod) if question.kube_pod is not None else None
    reason = why_not_recreated(known) if known is not None else None
    group = restart_group_of(question.pod.metadata)
    restarts = [GroupRestart(group.kind.kind, group_name(group, question.pod.metadata), None, None, group.kind.unless)] if group else []
    harms = [*([reason] if reason is not None else []), *map(restart_text, restarts)]
    how = "delete the pod and create it again" if reason is not None else "delete the pod so that its owner recreates it"
    but = f"; but {'; '.join(harms)}" if harms else ""
    text = f"{how}: it would go to GPUs {gpus_text(better.gpus)} of {where_text(better)}{but}"
    return WhyRemedy(
        kind="move",
        text=text,
        cause=BETTER,
        fits=True,
        cost=EVICT_FOR_GOOD if reason is not None else EVICT_MORE if restarts else CORRECT,
        nodes=1,
        node=better.node,
        bandwidth_gbps=better.bandwidth_gbps,
        harms=harms,
        restarts=restarts,
    )
