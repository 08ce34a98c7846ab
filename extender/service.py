"""Puts state, judge and HTTP together, and runs the server."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import uvicorn
from fastapi import FastAPI

from extender.decision.answers import ranker, rules, tuning
from extender.decision.cluster import NodeDefaults, Snapshot
from extender.decision.judge import Judge
from extender.decision.outcomes import Known, became_known, compare
from extender.decision_log import DecisionLog
from extender.live import LiveCluster
from extender.metrics import Metrics
from extender.settings import Settings
from extender.web.debug_api import DebugApi
from extender.web.scheduler_api import SchedulerApi
from topology.numa_alignment import TopologyManager
from topology.prediction import DevicePlugin, Kubelet

FloorMissed = Callable[[Known, float], None]


@dataclass(slots=True)
class Reports:
    """Who is told what must not stay unseen; a source that can tell somebody sets it. Called under the state's lock: return at once."""

    floor_missed: FloorMissed | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One extender: its state and its HTTP application."""

    settings: Settings
    live: LiveCluster
    metrics: Metrics
    app: FastAPI
    reports: Reports


def node_defaults(settings: Settings) -> NodeDefaults:
    """What the settings take for granted of nodes."""
    nodes = settings.nodes
    return NodeDefaults(
        Kubelet(TopologyManager(nodes.topology_manager), DevicePlugin(nodes.device_plugin)),
        nodes.assume_from_product,
        nodes.max_status_age_seconds,
        tuning(settings),
    )


def observe_outcomes(log: DecisionLog, metrics: Metrics, reports: Reports, before: Snapshot, after: Snapshot) -> None:
    """Compare what pods really got with what was predicted, for those that we decided about."""
    for known in became_known(before, after):
        predicted = log.predicted(known.key, known.node)
        if predicted is None:
            continue
        demand, evidence = predicted
        outcome = compare(known, evidence)
        log.add_outcome(outcome)
        metrics.observe_outcome(outcome)
        floor = demand.min_busbw_gbps
        if floor is not None and known.busbw_gbps is not None and known.busbw_gbps < floor and reports.floor_missed is not None:
            reports.floor_missed(known, floor)


def build_service(
    settings: Settings, live: LiveCluster | None = None, metrics: Metrics | None = None, scheduler_api: type[SchedulerApi] = SchedulerApi
) -> Service:
    """An extender over a live cluster (an empty one unless given), not yet serving."""
    metrics = metrics or Metrics()
    log = DecisionLog(settings.limits.decision_log_bytes)
    judge, by_weight = Judge(rules(settings)), ranker(settings.scoring)
    live = live or LiveCluster(settings.resource, prepare=judge.prepare, defaults=node_defaults(settings))
    reports = Reports()
    live.observe = partial(observe_outcomes, log, metrics, reports)
    app = FastAPI(title="Fabricwise", description="GPU-aware scheduler extender: places pods by link bandwidth and says why.")
    app.include_router(scheduler_api(live, judge, by_weight, settings, metrics, log).router())
    app.include_router(DebugApi(live, judge, by_weight, settings, metrics, log).router())
    return Service(settings, live, metrics, app, reports)


def server_for(service: Service, host: str, port: int) -> uvicorn.Server:
    """A uvicorn server for the service; `run()` blocks, `should_exit` stops it."""
    config = uvicorn.Config(
        service.app,
        host=host,
        port=port,
        log_level=service.settings.server.log_level,
        access_log=False,
        timeout_keep_alive=service.settings.server.keep_alive_seconds,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def settle_memory(service: Service) -> None:
    """Once the cluster is listed, take what was loaded out of the garbage collector's sight.

    A full collection walks every object ever kept; on thousands of nodes that is a pause of a quarter of a second in
    the middle of a verb. What the first listing made lives for ever anyway.
    """

    def settle() -> None:
        while not service.live.snapshot.synced:
            time.sleep(0.1)
        gc.collect()
        gc.freeze()

    threading.Thread(target=settle, name="settle-memory", daemon=True).start()
