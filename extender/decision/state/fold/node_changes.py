"""How the changes of nodes, topologies, telemetry and time alter the draft."""

from __future__ import annotations

from collections.abc import Mapping

from extender.decision.node.allocation.ended_pods import reported
from extender.decision.node.node_sources import Times
from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.workload_classes import WorkloadClass
from extender.decision.state.changes import TelemetrySeen
from extender.decision.state.fold.draft import Draft
from extender.decision.state.status_times import status_time
from extender.telemetry.conditions import NodeTelemetry, observe
from topology.gputopology.topology_record import TopologyRecord


def node_seen(draft: Draft, node: Node) -> None:
    """Take over a node."""
    if draft.nodes.put(node.metadata.name, node):
        draft.touched.add(node.metadata.name)


def node_gone(draft: Draft, name: str) -> None:
    """Remove a node, its telemetry and its ended pods. Its topology and its pods have changes of their own."""
    if draft.nodes.put(name, None):
        draft.touched.add(name)
    if draft.telemetry.put(name, None):
        draft.touched.add(name)
    draft.put_ended(name, ())


def topology_seen(draft: Draft, name: str, record: TopologyRecord | str) -> None:
    """Take over the topology of a node."""
    _date_status(draft, name, record)
    _count_report(draft, name, record)
    if draft.topologies.put(name, record):
        draft.touched.add(name)


def topology_gone(draft: Draft, name: str) -> None:
    """Remove the topology of a node."""
    _date_status(draft, name, None)
    if draft.topologies.put(name, None):
        draft.touched.add(name)


def classes_seen(draft: Draft, classes: Mapping[str, WorkloadClass]) -> None:
    """Replace the workload classes: every node may enter or leave a pool."""
    if classes != draft.classes.now:
        draft.classes.replace(classes)
        draft.touched |= set(draft.nodes.now)


def telemetry_seen(draft: Draft, reading: TelemetrySeen) -> None:
    """Take over a reading; one of an unknown node is dropped. The time does not move: only a tick finds all nodes whose data has aged."""
    if reading.node not in draft.nodes.now:
        return
    before = draft.telemetry.now.get(reading.node) or NodeTelemetry()
    problems = (reading.source, reading.problems)
    after = observe(before, reading.devices, reading.engines, problems, reading.monotonic_seconds, draft.defaults.tuning)
    if after != before:
        draft.telemetry.set(reading.node, after)
        draft.measured.add(reading.node)


def clock_ticked(draft: Draft, now_seconds: float | None, monotonic_seconds: float | None) -> None:
    """Move the time, and mark the nodes whose status, telemetry or ended pods have aged past a limit.

    The monotonic time never goes back; None leaves a time as it is.
    """
    before = draft.times
    monotonic = max((time for time in (monotonic_seconds, before.monotonic_seconds) if time is not None), default=None)
    now = draft.times = Times(before.now_seconds if now_seconds is None else now_seconds, monotonic)
    for name in _may_age(draft, before, now) if now_seconds is not None else ():
        record = draft.topologies.now[name]
        was_stale = draft.is_stale(name, record, before)
        _date_status(draft, name, record)
        if was_stale is not draft.is_stale(name, record, now):
            draft.touched.add(name)
    for name, ended in draft.ended.now.items():
        if any(pod.may_still_hold(before.monotonic_seconds) and not pod.may_still_hold(monotonic) for pod in ended):
            draft.touched.add(name)
    limit = draft.defaults.tuning.max_age_seconds
    for name, telemetry in draft.telemetry.now.items():
        if telemetry.ages_between(before.monotonic_seconds, now.monotonic_seconds, limit):
            draft.measured.add(name)


def _may_age(draft: Draft, before: Times, now: Times) -> list[str]:
    """Return the names of the nodes whose status may become stale between the two times, or has not been dated yet.

    Once both clocks are known every status is dated, so only the dates are compared: a tick visits every node.
    """
    if before.now_seconds is None or before.monotonic_seconds is None or now.monotonic_seconds is None:
        return list(draft.topologies.now)
    most_age_seconds = draft.defaults.most_status_age_seconds
    if most_age_seconds is None:
        return []
    earliest, latest = (
        before.monotonic_seconds - most_age_seconds - _MARGIN_SECONDS,
        now.monotonic_seconds - most_age_seconds + _MARGIN_SECONDS,
    )
    return [
        name
        for name, status in draft.status_times.now.items()
        if earliest <= status.received_monotonic_seconds - status.age_at_receipt_seconds <= latest
    ]


_MARGIN_SECONDS = 1.0
"""The exact comparison is made in Unix time, whose floating-point numbers are coarser: more candidates than necessary are harmless."""


def _date_status(draft: Draft, name: str, record: TopologyRecord | str | None) -> None:
    """Record when a status was received, once per status; nothing where no time passes."""
    observed = record.status.observed_at_seconds if isinstance(record, TopologyRecord) and record.status else None
    known = draft.status_times.now.get(name)
    now, monotonic = draft.times.now_seconds, draft.times.monotonic_seconds
    if observed is None or now is None or monotonic is None:
        draft.status_times.put(name, None if observed is None else known)
    elif known is None or known.observed_at_seconds != observed:
        draft.status_times.put(name, status_time(observed, now, monotonic, known))


def _count_report(draft: Draft, node: str, record: TopologyRecord | str) -> None:
    """Count a new status towards the ended pods that it names. An equal status is no new one: the agent writes its hardware separately."""
    before, ended = draft.topologies.now.get(node), draft.ended.now.get(node)
    old = before.status if isinstance(before, TopologyRecord) else None
    new = record.status if isinstance(record, TopologyRecord) else None
    if ended and old != new:
        draft.put_ended(node, reported(ended, new))
