"""The debug API, `/v1`: why a pod was decided for a node, and what is known of each node. It reads the state that the verbs read.

Handlers that are plain functions run in worker threads, so that a long answer does not delay kube-scheduler's calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Response

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.report.checks.node_checks import all_reports, node_report
from extender.scheduling.ports import TelemetryStatus, telemetry_off
from extender.scheduling.scheduling_service import SchedulingService
from extender.settings import Settings
from extender.telemetry.conditions import Tuning
from extender.web.answer_types.node_types import AssumedPodsAnswer, NodePage, NodesAnswer, TelemetryAnswer
from extender.web.answer_types.report_types import ReportCard, ReportsAnswer
from extender.web.debug_serializers import assumed_pods_answer, no_node, node_page, nodes_answer
from extender.web.openapi import NodeNameParameter, described

MOST_NAME_CHARACTERS = 512
"""Longer than any namespace/name or uid: a name has at most 253 characters."""

_encode = msgspec.json.Encoder().encode


class DebugApi:
    """The routes of `/v1`."""

    def __init__(
        self,
        service: SchedulingService,
        settings: Settings,
        *,
        cluster: str | None = None,
        telemetry: TelemetryStatus = telemetry_off,
    ) -> None:
        """`cluster`: the name of the cluster, for people."""
        self._service, self._settings, self._cluster, self._telemetry = service, settings, cluster, telemetry

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter(prefix="/v1", tags=["debug"])
        router.add_api_route("/nodes", self.nodes, methods=["GET"], **described(NodesAnswer))
        router.add_api_route("/nodes/{name}", self.node, methods=["GET"], **described(NodePage, errors=(404,)))
        router.add_api_route("/telemetry", self.telemetry, methods=["GET"], **described(TelemetryAnswer))
        router.add_api_route("/nodes/{name}/report", self.report, methods=["GET"], **described(ReportCard, errors=(404,)))
        router.add_api_route("/reports", self.reports, methods=["GET"], **described(ReportsAnswer))
        router.add_api_route("/assumed-pods", self.assumed_pods, methods=["GET"], **described(AssumedPodsAnswer))
        return router

    def nodes(self) -> Response:
        """All nodes, a summary each, with what is set aside of each; then everything that is set aside."""
        return _json(nodes_answer(self._service.moment().snapshot))

    def node(self, name: NodeNameParameter) -> Response:
        """One node: its hardware, its pods and their GPUs, and the sets of GPUs that may be free."""
        moment = self._service.moment()
        return self._of_node(name, node_page(moment, name, self._tuning), moment)

    def report(self, name: NodeNameParameter) -> Response:
        """A node's report card: every check with its evidence and remedy, and the eight questions of a baseline."""
        moment = self._service.moment()
        card = node_report(
            name, moment.snapshot, self._settings.resource, self._tuning, usable_memory_share=self._settings.filtering.usable_memory_share
        )
        return self._of_node(name, None if card is None else {**card, "cluster": self._cluster}, moment)

    def reports(self) -> Response:
        """The report cards of all nodes with GPUs."""
        cards = all_reports(
            self._service.moment().snapshot, self._settings.resource, self._tuning, self._settings.filtering.usable_memory_share
        )
        return _json({"nodes": cards, "cluster": self._cluster})

    def assumed_pods(self) -> Response:
        """Pods that were decided for a node and are not visible there yet, oldest first."""
        return _json({"assumed_pods": assumed_pods_answer(self._service.moment())})

    def telemetry(self) -> Response:
        """The targets that are scraped for telemetry, with the result of the last scrape of each."""
        return _json(self._telemetry())

    @property
    def _tuning(self) -> Tuning:
        return self._service.store.defaults.tuning

    @staticmethod
    def _of_node(name: str, answer: Mapping[str, Any] | None, moment: Moment) -> Response:
        return _json({"error": no_node(moment.snapshot, name)}, 404) if answer is None else _json(answer)


def _json(content: object, status: int = 200) -> Response:
    return Response(_encode(content), status, media_type="application/json")
