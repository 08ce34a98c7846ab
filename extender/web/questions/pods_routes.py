"""`/v1/pods`: the pods that request GPUs, those that need a person first."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from extender.decision.report.pod_rows import PodRow, pod_rows
from extender.scheduling.scheduling_service import SchedulingService
from extender.web.openapi import described

MOST_PODS = 1000
MOST_SEARCH = 317
"""Characters of namespace/name: 63, a slash, 253."""


class PodsAnswer(msgspec.Struct, frozen=True):
    """The pods that request GPUs: pending ones first, then those that get the smallest share of what their node could give."""

    pods: list[PodRow]
    known: int
    """Pods that match, listed or not."""
    at_seconds: float
    """Unix time."""
    state_age_seconds: float


class PodsRoutes:
    """The route."""

    def __init__(self, service: SchedulingService) -> None:
        self._service = service

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter(prefix="/v1", tags=["questions"])
        router.add_api_route("/pods", self.pods, methods=["GET"], **described(PodsAnswer))
        return router

    def pods(
        self,
        search: Annotated[str, Query(max_length=MOST_SEARCH, description="part of namespace/name or of the node's name")] = "",
        limit: Annotated[int, Query(ge=1, le=MOST_PODS)] = 200,
    ) -> Response:
        """Pods that request GPUs: pending ones, then slow ones, then the others."""
        moment = self._service.moment()
        rows = pod_rows(moment.snapshot, search, limit)
        age = round(moment.snapshot.age_seconds(moment.monotonic_seconds), 1)
        answer = PodsAnswer(rows.pods, rows.known, round(time.time(), 3), age)
        return Response(msgspec.json.encode(answer), media_type="application/json")
