"""Puts state, judge and HTTP together, and runs the server."""

from __future__ import annotations

import gc
import sys
import threading
import time
from dataclasses import dataclass, replace

import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from extender.decision.cycle.scheduling_cycle import EvaluationContext
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.node.node_state import NodeState
from extender.decision.report.prediction_outcomes import Known, became_known, compare
from extender.decision.request.pod_request import Demand
from extender.decision.state.snapshot import Snapshot
from extender.metrics import Metrics
from extender.scheduling.binder import Binder
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.decision_log import DecisionLog
from extender.scheduling.owed_events import OwedEvents
from extender.scheduling.ports import ClusterWriter
from extender.scheduling.requeue import Requeuer
from extender.scheduling.set_aside_log import SetAsideLog
from extender.scheduling.supervision import Supervisor
from extender.server.from_settings import node_defaults, policy, ranker
from extender.server.tls import ServerTls
from extender.settings import Settings, Tls
from extender.web.debug_api import DebugApi
from extender.web.scheduler_api import SchedulerApi


@dataclass(frozen=True, slots=True)
class Service:
    """One extender: its state and its HTTP application."""

    settings: Settings
    store: ClusterStore
    metrics: Metrics
    app: FastAPI
    writer: ClusterWriter
    requeuer: Requeuer
    health: FastAPI
    """Health and metrics alone."""
    supervisor: Supervisor
    """Runs the loops; says which of them stay down."""


def observe_outcomes(
    log: DecisionLog, metrics: Metrics, owed: OwedEvents, before: Snapshot, after: Snapshot, set_aside: SetAsideLog | None = None
) -> None:
    """Compare what pods really got with what was predicted, for those that we decided about. Each pod by itself."""
    aside = set_aside or SetAsideLog(metrics)
    for known in _became_known(before, after, aside):
        aside.guard("pods", "observe", known.key, _observe_outcome, log, metrics, owed, before, after, known)


def _became_known(before: Snapshot, after: Snapshot, aside: SetAsideLog) -> list[Known]:
    """As `became_known`; where it raises, node by node, so that one node hides no pods of others."""
    found: list[Known] = []

    def look(state: Snapshot) -> None:
        found.extend(became_known(before, state))

    if not aside.guard("snapshot", "observe", "*", look, after):
        for name in sorted(after.changed):
            aside.guard("nodes", "observe", name, look, replace(after, changed=frozenset((name,))))
    return found


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
    settings: Settings, store: ClusterStore | None = None, metrics: Metrics | None = None, scheduler_api: type[SchedulerApi] = SchedulerApi
) -> Service:
    """An extender over a live cluster (an empty one unless given), not yet serving."""
    metrics = metrics or Metrics()
    log = DecisionLog(settings.limits.decision_log_bytes)
    set_aside, supervisor = SetAsideLog(metrics), Supervisor(metrics)

    def failed(demand: Demand, state: NodeState, error: Exception) -> None:
        set_aside.note("nodes", "evaluate", f"{state.allocatable} x {state.product or 'GPU'}, {demand.total} requested", error)

    evaluator, by_weight = Evaluator(policy(settings), threading.RLock(), failed), ranker(settings.scoring, threading.Lock())
    context = EvaluationContext(evaluator, settings.resource, node_defaults(settings))
    store = store or ClusterStore(settings.resource, prepare=evaluator.prepare, defaults=context.defaults)
    writer = ClusterWriter()
    requeuer = Requeuer(store, evaluator, settings.requeue, metrics, writer, settings.resource, supervisor, set_aside)

    owed = OwedEvents(log, context, settings, writer, set_aside)

    def observe(before: Snapshot, after: Snapshot) -> None:
        set_aside.guard("snapshot", "observe outcomes", "*", observe_outcomes, log, metrics, owed, before, after, set_aside)
        set_aside.guard("snapshot", "observe placements", "*", owed.observe, before, after)
        set_aside.guard("snapshot", "observe waiting pods", "*", requeuer.observe, before, after)

    store.note = set_aside.note
    store.observe = observe
    app = FastAPIOffline(
        title="Fabricwise",
        description="GPU-aware scheduler extender: places pods by link bandwidth and says why.",
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},  # else the page asks swagger.io about the document
    )
    binder = Binder(store, context, settings, log, writer)
    app.include_router(scheduler_api(store, context, by_weight, settings, metrics, log, requeuer, binder).router())
    debug = DebugApi(store, evaluator, by_weight, settings, metrics, log, writer, supervisor)
    app.include_router(debug.router())
    health = FastAPI(title="Fabricwise health", openapi_url=None)
    health.include_router(debug.health_router())
    return Service(settings, store, metrics, app, writer, requeuer, health, supervisor)


def serve_health(service: Service, host: str) -> None:
    """Health and metrics over plain HTTP on a port of their own, if the settings name one; ends with the process."""
    port = service.settings.server.health_port
    if port:
        server = uvicorn.Server(uvicorn.Config(service.health, host=host, port=port, log_level="warning", access_log=False))
        threading.Thread(target=server.run, name="health", daemon=True).start()


def server_for(service: Service, host: str, port: int) -> uvicorn.Server:
    """A uvicorn server for the service; `run()` blocks, `should_exit` stops it. Raises SettingsError for unusable certificates."""
    config = uvicorn.Config(
        service.app,
        host=host,
        port=port,
        log_level=service.settings.server.log_level,
        access_log=False,
        timeout_keep_alive=service.settings.server.keep_alive_seconds,
        timeout_graceful_shutdown=5,
    )
    if service.settings.server.tls != Tls():
        tls = ServerTls(service.settings.server.tls)
        config.load()
        config.ssl = tls.context
    return uvicorn.Server(config)


SWITCH_SECONDS = 0.0005
"""A verb that arrives while state is folded gets its turn after so long; Python's own 5 ms are more than a verb takes."""


def settle_process(service: Service) -> None:
    """For a process that serves: short turns between threads; and once the cluster is listed, take what was loaded out of the
    garbage collector's sight.

    A full collection walks every object ever kept; on thousands of nodes that is a pause of a quarter of a second in
    the middle of a verb. What the first listing made lives for ever anyway.
    """

    sys.setswitchinterval(SWITCH_SECONDS)

    def settle() -> None:
        while not service.store.snapshot.synced:
            time.sleep(0.1)
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 50)

    threading.Thread(target=settle, name="settle-memory", daemon=True).start()
