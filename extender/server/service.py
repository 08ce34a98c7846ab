"""Builds one extender (state, evaluator, service, HTTP), and runs its server."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import msgspec
from fastapi import FastAPI
from starlette.types import ASGIApp

from extender.collectors.feed import TelemetryFeed
from extender.decision.cycle.scheduling_cycle import EvaluationContext
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.node.node_state import NodeState
from extender.decision.replay.journal_lines import FORMAT, HeadLine
from extender.decision.report.prediction_outcomes import Known, became_known, compare
from extender.decision.request.pod_request import Demand
from extender.decision.state.snapshot import Snapshot
from extender.errors import SettingsError
from extender.metrics import Metrics
from extender.scheduling.binder import Binder
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.decision_file import DecisionFile
from extender.scheduling.decision_log import DecisionLog
from extender.scheduling.owed_events import OwedEvents
from extender.scheduling.ports import Cluster
from extender.scheduling.requeue import Requeuer
from extender.scheduling.scheduling_service import SchedulingService
from extender.scheduling.set_aside_log import SetAsideLog
from extender.scheduling.supervision import Supervisor
from extender.server.applications import debug_routers, for_browsers, plain_application
from extender.server.from_settings import decision_settings, node_defaults, policy, ranker
from extender.server.program_version import program_version
from extender.settings import Settings, Telemetry
from extender.web.child_processes.copies import Copies
from extender.web.child_processes.fork_pace import ForkPace
from extender.web.health import HealthApi
from extender.web.live.cluster_feed import ClusterFeed
from extender.web.long_work import LongWork
from extender.web.scheduler_api import SchedulerApi

GIVE_WAY_SECONDS = 0.02
"""Longest pause of the work for the web UI, or of the file of decisions, while a verb is being answered."""

CALLS_SECONDS = 2.0
"""Kube-scheduler is taken to be at work until it has not called for so long: questions then wait for one another no more."""

TelemetryDefault = Literal["off", "dcgm-exporter"]
"""What `telemetry.source: auto` means for a cluster."""


@dataclass(frozen=True, slots=True)
class Service:
    """One extender: its state, its service and its HTTP applications."""

    settings: Settings
    store: ClusterStore
    metrics: Metrics
    scheduling: SchedulingService
    requeuer: Requeuer
    supervisor: Supervisor
    """Runs the loops, and says which of them are down."""
    telemetry: TelemetryFeed | None
    """Not yet started; None where telemetry is off."""
    decision_file: DecisionFile | None
    """Not yet started; None where decisions are not written to a file."""
    app: ASGIApp
    """The verbs, health and metrics; where `server.debug_port` is 0, also all of `debug_app`."""
    health: FastAPI
    """Health and metrics alone."""
    debug_app: ASGIApp
    """The debug API and the web UI; the same as `app` where `server.debug_port` is 0."""
    feed: ClusterFeed
    """What the web UI shows; not yet started."""
    long_work: LongWork
    """Answers questions in child processes."""


def observe_outcomes(
    log: DecisionLog, metrics: Metrics, owed: OwedEvents, set_aside: SetAsideLog, before: Snapshot, after: Snapshot
) -> None:
    """Compare the GPUs that pods got with what was predicted for them; an error about one pod hides no other pod."""
    for known in _became_known(before, after, set_aside):
        set_aside.guard("pods", "observe", known.key, _observe_outcome, log, metrics, owed, before, after, known)


def _became_known(before: Snapshot, after: Snapshot, set_aside: SetAsideLog) -> list[Known]:
    """Return as `became_known`; where that raises, node by node, so that one node hides no pods of other nodes."""
    pods: list[Known] = []

    def add_pods(state: Snapshot) -> None:
        pods.extend(became_known(before, state))

    if not set_aside.guard("snapshot", "observe", "*", add_pods, after):
        for name in sorted(after.changed):
            set_aside.guard("nodes", "observe", name, add_pods, replace(after, changed=frozenset((name,))))
    return pods


def _observe_outcome(log: DecisionLog, metrics: Metrics, owed: OwedEvents, before: Snapshot, after: Snapshot, known: Known) -> None:
    predicted, bound = log.predicted(known.key, known.node), after.pods.get(known.key)
    if predicted is not None:
        outcome = compare(known, predicted[1])
        log.add_outcome(outcome)
        metrics.observe_outcome(outcome)
    floor = max([bound.floor_gbps or 0.0, predicted[0].wishes.min_busbw_gbps or 0.0 if predicted else 0.0]) if bound else 0.0
    if known.busbw_gbps is not None and known.busbw_gbps < floor:
        owed.floor_missed(known, floor, before, after)


def build_service(
    settings: Settings,
    cluster: Cluster | None = None,
    *,
    metrics: Metrics | None = None,
    supervisor: Supervisor | None = None,
    telemetry_default: TelemetryDefault = "off",
    scheduler_api: type[SchedulerApi] = SchedulerApi,
) -> Service:
    """Return an extender whose state is empty and that does not serve yet. Raises SettingsError.

    `cluster`: what the service may write to; by default nothing. `scheduler_api`: the routes of the verbs; benchmarks replace them.
    """
    cluster, metrics = cluster or Cluster(), metrics or Metrics()
    supervisor = supervisor or Supervisor(metrics)
    log = DecisionLog(settings.limits.decision_log_bytes, settings.limits.replay_bytes)
    set_aside = SetAsideLog(metrics)
    context = _context(settings, set_aside)
    store = ClusterStore(settings.resource, prepare=context.evaluator.prepare, defaults=context.defaults)
    telemetry = telemetry_feed(settings.telemetry, telemetry_default, store, metrics, supervisor)
    requeuer = Requeuer(
        store=store,
        context=context,
        settings=settings.requeue,
        metrics=metrics,
        writer=cluster.writer,
        leadership=cluster.leadership,
        supervisor=supervisor,
        set_aside=set_aside,
    )
    owed = OwedEvents(
        log=log, context=context, settings=settings, writer=cluster.writer, leadership=cluster.leadership, set_aside=set_aside
    )

    def observe(before: Snapshot, after: Snapshot) -> None:
        log.follow(after)
        set_aside.guard("snapshot", "observe outcomes", "*", observe_outcomes, log, metrics, owed, set_aside, before, after)
        set_aside.guard("snapshot", "observe placements", "*", owed.observe, before, after)
        set_aside.guard("snapshot", "observe waiting pods", "*", requeuer.observe, before, after)

    store.note, store.observe = set_aside.note, observe
    scheduling = SchedulingService(
        store=store,
        context=context,
        ranker=ranker(settings.scoring, threading.Lock()),
        settings=settings,
        log=log,
        requeuer=requeuer,
        binder=Binder(store, context, settings, log, cluster.writer),
    )
    decision_file = _decision_file(settings, metrics, store)
    scheduling.recorder = decision_file.add if decision_file is not None else None
    give_way = partial(store.give_way, GIVE_WAY_SECONDS)
    feed = ClusterFeed(
        scheduling.moment,
        log,
        resource=settings.resource,
        usable_memory_share=settings.filtering.usable_memory_share,
        cluster=cluster.name,
        give_way=give_way,
        slots=metrics.slots.by_size,
    )
    pace = ForkPace(is_called=partial(store.has_answered_within, CALLS_SECONDS))
    long_work = LongWork(copies=Copies(pace, give_way))
    health = HealthApi(store, metrics, supervisor, cluster.leadership, feed, settings.server.node_metrics)
    debug = debug_routers(scheduling, settings, cluster, feed, long_work, telemetry)
    verbs = (scheduler_api(scheduling, settings, metrics).router(), health.router())
    has_debug_port = settings.server.debug_port != 0
    debug_app = for_browsers(settings, cluster, *(() if has_debug_port else verbs), *debug)
    return Service(
        settings=settings,
        store=store,
        metrics=metrics,
        scheduling=scheduling,
        requeuer=requeuer,
        supervisor=supervisor,
        telemetry=telemetry,
        app=plain_application(*verbs) if has_debug_port else debug_app,
        health=plain_application(health.router()),
        debug_app=debug_app,
        feed=feed,
        long_work=long_work,
        decision_file=decision_file,
    )


def _decision_file(settings: Settings, metrics: Metrics, store: ClusterStore) -> DecisionFile | None:
    """Return the file of `decisions.file`, not yet started; None where there is none."""
    if not settings.decisions.file:
        return None

    def head() -> HeadLine:
        return HeadLine(FORMAT, program_version(), time.time(), False, settings.resource, decision_settings(settings))

    def pace() -> bool:
        store.give_way(GIVE_WAY_SECONDS)
        return True

    return DecisionFile(settings.decisions, head, settings.resource, metrics, pace)


def _context(settings: Settings, set_aside: SetAsideLog) -> EvaluationContext:
    def failed(demand: Demand, state: NodeState, error: Exception) -> None:
        set_aside.note("nodes", "evaluate", f"{state.allocatable} x {state.product or 'GPU'}, {demand.total} requested", error)

    return EvaluationContext(Evaluator(policy(settings), threading.RLock(), failed), settings.resource, node_defaults(settings))


def telemetry_feed(
    settings: Telemetry, default: TelemetryDefault, store: ClusterStore, metrics: Metrics, supervisor: Supervisor
) -> TelemetryFeed | None:
    """Return the feed of telemetry as the settings have it, not yet started; None where it is off. Raises SettingsError."""
    source = default if settings.source == "auto" else settings.source
    if source == "off":
        return None
    if source == "prometheus" and not settings.prometheus.url:
        raise SettingsError("settings: telemetry.source is prometheus: set telemetry.prometheus.url")
    return TelemetryFeed(store, msgspec.structs.replace(settings, source=source), metrics, supervisor)
