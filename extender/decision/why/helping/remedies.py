"""REMEDIES: the table of functions that look for what would help a pending pod."""

from __future__ import annotations

from dataclasses import dataclass

from extender.decision.why.helping.eviction_remedies import evicted
from extender.decision.why.helping.node_remedies import (
    agent_installed,
    labelled_for_pool,
    other_selection,
    repaired,
    tolerated_taints,
    waiting,
)
from extender.decision.why.helping.pod_remedies import corrected_annotation, fewer_gpus, lowered_demand, lowered_together, other_class
from extender.decision.why.helping.remedy_case import Case, Found, Look
from extender.decision.why.helping.room_remedies import added_node, less_requested, offered_resource
from extender.decision.why.why_types import WhyRemedy

REMEDIES: tuple[Look, ...] = (
    waiting,
    corrected_annotation,
    other_class,
    tolerated_taints,
    labelled_for_pool,
    repaired,
    agent_installed,
    evicted,
    lowered_demand,
    other_selection,
    offered_resource,
    less_requested,
    fewer_gpus,
    lowered_together,
    added_node,
)
"""In the order of their usual costs. A further remedy is one function here."""

MOST_REMEDIES = 8
"""Remedies of one answer, those that were verified and cost least first."""


@dataclass(frozen=True, slots=True)
class Remedies:
    """What would help."""

    remedies: list[WhyRemedy]
    """The cheapest first."""
    is_complete: bool
    """Whether all functions were asked before the time was over."""
    not_checked: tuple[str, ...]
    unread: tuple[str, ...]
    """What could not be read for them, as sentences."""


def remedies_for(case: Case) -> Remedies:
    """Return what would help."""
    found: list[Found] = []
    is_complete = True
    for look in REMEDIES:
        if not case.pace():
            is_complete = False
            break
        found += look(case)
    found.sort(key=lambda each: (not each.fits, each.cost))
    not_checked = dict.fromkeys(text for each in found for text in each.not_checked)
    unread = dict.fromkeys(text for each in found for text in each.unread)
    return Remedies([_remedy(each) for each in found[:MOST_REMEDIES]], is_complete, tuple(not_checked), tuple(unread))


def _remedy(found: Found) -> WhyRemedy:
    return WhyRemedy(
        kind=found.kind,
        text=found.text,
        cause=found.cause,
        fits=found.fits,
        cost=found.cost,
        nodes=found.nodes,
        node=found.node,
        bandwidth_gbps=found.bandwidth_gbps,
        annotations=dict(found.annotations),
        evict=list(found.evict),
        requests=dict(found.requests),
        taints=list(found.taints),
        platform=found.platform,
        harms=list(found.harms),
        restarts=list(found.restarts),
    )
