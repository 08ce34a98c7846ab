"""Nodes grouped by why they are refused, with what only kube-scheduler's report says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from extender.decision.request.reasons import Reason, Rejection
from extender.decision.why.pod_question import BY_REPORT, SELECTION, Evaluated, Refusal
from extender.decision.why.reported_reasons import unchecked
from extender.decision.why.why_types import WhyCause, WhyGroup

MOST_NAMES = 20
"""Nodes of a group that are named."""
MOST_DETAILS = 3
MOST_GROUPS = 50


def node_groups(evaluated: Evaluated) -> list[WhyGroup]:
    """Return the refused nodes by their reasons: those that the pod selects first, then those with the fewest reasons, then the largest
    group; at the end the reasons that only kube-scheduler's report names. What is wrong with the pod itself has no details: it is the same
    on every node."""
    by_reasons: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, refusals in evaluated.refusals.items():
        if refusals:
            key = tuple((refusal.by, refusal.reason) for refusal in refusals)
            by_reasons.setdefault(key, []).append(name)
    ordered = sorted(by_reasons.items(), key=lambda item: (_is_unselected(evaluated, item[1][0]), len(item[0]), -len(item[1]), item[0]))
    own = evaluated.demand.reason if isinstance(evaluated.demand, Rejection) else None
    groups = [_group(names, [evaluated.refusals[name] for name in names], own) for _, names in ordered]
    reported = [
        WhyGroup(nodes=each.nodes, names=[], causes=[WhyCause(by=BY_REPORT, reason=each.reason, details=[], resolvable=False)])
        for each in unchecked(evaluated.question)
    ]
    return [*groups, *reported][:MOST_GROUPS]


def _is_unselected(evaluated: Evaluated, name: str) -> bool:
    return any(refusal.plugin in SELECTION for refusal in evaluated.refusals[name])


def _group(names: Sequence[str], refusals: Sequence[tuple[Refusal, ...]], own: Reason | None) -> WhyGroup:
    causes = [_cause([each[place] for each in refusals], own) for place in range(len(refusals[0]))]
    return WhyGroup(nodes=len(names), names=list(names[:MOST_NAMES]), causes=causes)


def _cause(refusals: Sequence[Refusal], own: Reason | None) -> WhyCause:
    first = refusals[0]
    return WhyCause(
        by=first.by,
        reason=first.reason,
        details=_most_frequent(refusal.detail for refusal in refusals if refusal.detail and (own is None or refusal.code is not own)),
        resolvable=all(refusal.resolvable for refusal in refusals),
    )


def _most_frequent(details: Iterable[str]) -> list[str]:
    return [detail for detail, _ in sorted(Counter(details).items(), key=lambda item: (-item[1], item[0]))[:MOST_DETAILS]]
