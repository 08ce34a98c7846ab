"""Snapshots from the lines of a journal: the objects of each moment, and the views derived from them with any settings.

Only the views of nodes that differ from the moment before are derived anew, by the function that derives them for the live state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.dra.dra_state import DraObjectSeen
from extender.decision.node.node_sources import Times
from extender.decision.node.node_state import NodeDefaults
from extender.decision.replay.journal_lines import MomentLine
from extender.decision.replay.kept_objects.object_kinds import OBJECT_KINDS
from extender.decision.state.fold.draft import Draft
from extender.decision.state.fold.view_derivation import derived_snapshot
from extender.decision.state.snapshot import Snapshot

Objects = Mapping[str, Mapping[str, Any]]
"""Kind -> key -> the object, or None where it is gone."""

NOTHING = Moment(Snapshot(), NO_ASSUMED_PODS, 0.0)
"""The moment before the first one of a journal."""


def rebuilt(
    before: Moment, line: MomentLine, objects: Objects, assumed: tuple[AssumedPod, ...], resource: str, defaults: NodeDefaults
) -> Moment:
    """Return the moment after `before`. `objects` and `assumed`: what the lines after `line` contain."""
    assumed_pods = before.assumed_pods.released(line.released)
    for pod in assumed:
        assumed_pods = assumed_pods.placed(pod)
    return Moment(_snapshot(before.snapshot, line, objects, resource, defaults), assumed_pods, line.monotonic_seconds)


def _snapshot(before: Snapshot, line: MomentLine, objects: Objects, resource: str, defaults: NodeDefaults) -> Snapshot:
    draft = Draft(before, resource, defaults)
    for kind, row in OBJECT_KINDS.items():
        for key, value in objects.get(kind, {}).items():
            row.put(draft, key, value)
    _watch(draft, line.watched)
    draft.listed = frozenset(line.listed)
    draft.watch_lost_at.replace(line.watch_lost_at)
    draft.times = Times(line.now_seconds, line.state_monotonic_seconds)
    draft.touched |= _aged(draft, Times(before.now_seconds, before.monotonic_seconds), draft.times)
    after = derived_snapshot(draft)
    return replace(after, revision=line.revision)


def _watch(draft: Draft, watched: Mapping[str, bool]) -> None:
    """Take over which kinds of resource.k8s.io an API server serves."""
    dra = draft.dra.settled()
    for kind, is_watched in watched.items():
        if dra.watched.get(kind, False) is not is_watched:
            known: Mapping[str, Any] = getattr(dra, kind)
            draft.dra.relist(kind, [DraObjectSeen(kind, key, item) for key, item in known.items()], is_watched=is_watched)


def _aged(draft: Draft, before: Times, after: Times) -> set[str]:
    """Return the names of the nodes whose views depend on which of the two times it is. The time may go back: see `Decision.moment`."""
    if before == after:
        return set()
    aged = {
        name
        for name, record in draft.topologies.now.items()
        if draft.is_stale(name, record, before) is not draft.is_stale(name, record, after)
    }
    earlier, later = before.monotonic_seconds, after.monotonic_seconds
    for name, pods in draft.ended.now.items():
        if any(pod.may_still_hold(earlier) is not pod.may_still_hold(later) for pod in pods):
            aged.add(name)
    limit = draft.defaults.tuning.max_age_seconds
    for name, telemetry in draft.telemetry.now.items():
        if telemetry.ages_between(earlier, later, limit) or telemetry.ages_between(later, earlier, limit):
            aged.add(name)
    return aged
