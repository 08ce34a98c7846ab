"""The dominant reason of a pending pod: the one that, once removed, makes the pod schedulable at least cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from extender.decision.request.reasons import Rejection
from extender.decision.why.helping.node_remedies import ASSUMED, NOMINATED, TERMINATING
from extender.decision.why.helping.remedy_case import ADD_NODE, EVICT, Case
from extender.decision.why.pod_question import SELECTION
from extender.decision.why.reason_sentences import sentence
from extender.decision.why.why_types import WhyRemedy

NO_NODES = "no nodes are known"
_WAITS = (ASSUMED, NOMINATED, TERMINATING)


@dataclass(frozen=True, slots=True)
class Dominant:
    """The dominant reason and its sentence."""

    reason: str
    sentence: str


def dominant_reason(case: Case, remedies: Sequence[WhyRemedy]) -> Dominant:
    """Return the reason of the cheapest verified remedy.

    Remedies that cost more than one pod are no indication by themselves: of their causes, the one that refuses most nodes that would else
    suit the pod counts. Where no remedy makes the pod fit, it is the reason that refuses most of those nodes; of two, the one
    that no eviction resolves. A node that the pod does not
    select (nodeSelector, node affinity) would not suit it, as long as it selects any node.
    """
    demand = case.evaluated.demand
    if isinstance(demand, Rejection):
        return Dominant(demand.reason.value, sentence(case, demand.reason.value, ()))
    if not case.evaluated.refusals:
        return Dominant(NO_NODES, "No node is known: the pod cannot be placed.")
    fitting = [remedy for remedy in remedies if remedy.fits and remedy.cost < ADD_NODE]
    cheap = [remedy for remedy in fitting if remedy.cost <= EVICT]
    if cheap:
        return _dominant(case, cheap[0].cause, cheap[0])
    counts = _counts(case)
    causes = {remedy.cause: remedy for remedy in reversed(fitting) if counts[remedy.cause]}
    if causes:
        cause = max(causes, key=lambda each: (counts[each], -causes[each].cost, each))
        return _dominant(case, cause, causes[cause])
    lasting = {refusal.reason for refusals in case.evaluated.refusals.values() for refusal in refusals if not refusal.resolvable}
    return _dominant(case, max(counts, key=lambda each: (counts[each], each in lasting, each)), None)


def _counts(case: Case) -> Counter[str]:
    """Return reason -> number of nodes that it refuses, among the selected nodes with GPUs that the fewest reasons refuse."""
    refused = case.evaluated.refusals
    selected = {name: refusals for name, refusals in refused.items() if not any(each.plugin in SELECTION for each in refusals)}
    with_gpus = {name: refusals for name, refusals in (selected or refused).items() if not _has_no_gpus(case, name)}
    candidates = with_gpus or selected or refused
    fewest = min(len(refusals) for refusals in candidates.values())
    near = [refusals for refusals in candidates.values() if len(refusals) == fewest]
    return Counter(refusal.reason for refusals in near for refusal in refusals)


def _has_no_gpus(case: Case, name: str) -> bool:
    view = case.question.moment.snapshot.views.get(name)
    return view is not None and not view.state.allocatable and not view.state.slices and view.dra is None


def _dominant(case: Case, reason: str, remedy: WhyRemedy | None) -> Dominant:
    if reason in _WAITS:
        return Dominant(reason, f"The pod waits: {reason}.")
    first = remedy.node if remedy is not None else None
    return Dominant(reason, sentence(case, reason, _closest_first(case, reason, first)))


def _closest_first(case: Case, reason: str, first: str | None) -> list[str]:
    """Return the nodes with a reason and the fewest further ones: the node of the remedy, then those with the most free GPUs."""
    views, refusals = case.question.moment.snapshot.views, case.evaluated.refusals
    with_reason = [name for name, each in refusals.items() if any(refusal.reason == reason for refusal in each)]
    fewest = min((len(refusals[name]) for name in with_reason), default=0)
    names = [name for name in with_reason if name == first or len(refusals[name]) == fewest]

    def distance(name: str) -> tuple[bool, int, str]:
        free = views[name].state.free_count if name in views else 0
        return name != first, -free, name

    return sorted(names, key=distance)
