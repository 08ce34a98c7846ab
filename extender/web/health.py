"""Health and metrics: what the kubelet and Prometheus read."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Protocol

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from extender.decision.node.node_state import NodeView
from extender.decision.report.live.cluster_rows import NodeRow
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.ports import Leadership
from extender.scheduling.supervision import Supervisor
from topology.gputopology.topology_record import TopologyRecord


class LiveFigures(Protocol):
    """What the live view knows for /metrics."""

    @property
    def clients(self) -> int:
        """Clients of its stream."""
        ...

    def rows(self) -> list[NodeRow]:
        """A row per node with GPUs, up to date."""
        ...


class HealthApi:
    """`/healthz`, `/readyz` and `/metrics`."""

    def __init__(
        self,
        store: ClusterStore,
        metrics: Metrics,
        supervisor: Supervisor,
        leadership: Leadership,
        live: LiveFigures | None = None,
        most_nodes: int = 0,
    ) -> None:
        """`live`: what the live view knows. `most_nodes`: nodes with GPUs up to which there are metrics of each node."""
        self._store, self._metrics, self._supervisor, self._leadership = store, metrics, supervisor, leadership
        self._live, self._most_nodes = live, most_nodes

    def router(self) -> APIRouter:
        """The three routes."""
        router = APIRouter(tags=["health"])
        text = {"text/plain": {"schema": {"type": "string"}}}
        not_ready: dict[int | str, dict[str, Any]] = {503: {"description": "Not ready: what is missing or down.", "content": text}}
        exposition: dict[int | str, dict[str, Any]] = {200: {"description": "Prometheus exposition.", "content": text}}
        router.add_api_route("/healthz", self.healthz, methods=["GET"], response_class=PlainTextResponse)
        router.add_api_route("/readyz", self.readyz, methods=["GET"], response_class=PlainTextResponse, responses=not_ready)
        router.add_api_route("/metrics", self.metrics, methods=["GET"], response_class=PlainTextResponse, responses=exposition)
        return router

    async def healthz(self) -> Response:
        """Alive."""
        return PlainTextResponse("ok")

    async def readyz(self) -> Response:
        """200 once nodes, pods and topologies have been listed and while every loop runs; 503 names what is missing or down."""
        missing, down = self._store.snapshot.missing, self._supervisor.down()
        problems = [f"not yet listed: {', '.join(missing)}"] * bool(missing) + [f"fails again and again: {', '.join(down)}"] * bool(down)
        return PlainTextResponse("; ".join(problems), 503) if problems else PlainTextResponse("ok")

    def metrics(self) -> Response:
        """Prometheus exposition."""
        self._set_gauges()
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4")

    def _set_gauges(self) -> None:
        """Set the gauges that describe the present state."""
        metrics, snapshot = self._metrics, self._store.snapshot
        views = snapshot.views.values()
        metrics.synced.set(snapshot.synced)
        metrics.loops_down.set(len(self._supervisor.down()))
        metrics.state_age.set(snapshot.age_seconds(time.monotonic()))
        metrics.assumed_pods.set(len(self._store.assumed_pods.by_pod))
        metrics.leading.set(self._leadership.is_leading())
        metrics.revision.set(snapshot.revision)
        metrics.disagreements.set(sum(len(view.disagreements) for view in views))
        metrics.steering.set(
            (node, record.status.steering)
            for node, record in snapshot.topologies.items()
            if node in snapshot.views and isinstance(record, TopologyRecord) and record.status and record.status.steering
        )
        metrics.pending.set(len(snapshot.pending))
        if self._live is not None:
            metrics.rows.set(self._live.rows(), self._most_nodes)
            metrics.stream_clients.set(self._live.clients)
        metrics.stale.set(sum(view.stale_since_seconds is not None for view in views))
        metrics.fenced.set(sum(len(view.state.faults) for view in views))
        known = sum(view.state.table is not None for view in views)
        contradicted = sum(view.problem is not None for view in views)
        for topology, count in (("known", known), ("contradicted", contradicted), ("unknown", len(views) - known - contradicted)):
            metrics.known_nodes.labels(topology).set(count)
        telemetry = Counter(_telemetry_state(view) for view in views)
        for state in ("fresh", "stale", "none"):
            metrics.telemetry_nodes.labels(state).set(telemetry[state])


def _telemetry_state(view: NodeView) -> str:
    telemetry = view.state.device_telemetry
    if telemetry.stale:
        return "stale"
    return "fresh" if any(telemetry.device_loads) else "none"
