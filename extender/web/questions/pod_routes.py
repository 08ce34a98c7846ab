"""`/v1/pods`: the pods that request GPUs, page by page."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Response

from extender.decision.report.live.pod_rows import PodRow, State, pod_rows, worst_first
from extender.scheduling.scheduling_service import SchedulingService
from extender.web.openapi import described

MOST_ROWS = 5_000

Order = Literal["name", "worst"]


class Pods(msgspec.Struct, frozen=True):
    """A page of pods, by namespace and name."""

    pods: list[PodRow]
    total: int
    """Pods that match, on all pages."""
    next: str | None
    """`after` of the next page; None on the last one."""
    state_age_seconds: float


class PodRoutes:
    """The routes of `/v1/pods`."""

    def __init__(self, service: SchedulingService) -> None:
        self._service = service

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter(prefix="/v1", tags=["debug"])
        router.add_api_route("/pods", self.pods, methods=["GET"], **described(Pods))
        return router

    def pods(
        self,
        namespace: Annotated[str | None, Query(max_length=253)] = None,
        node: Annotated[str | None, Query(max_length=253)] = None,
        state: State | None = None,
        search: Annotated[str | None, Query(max_length=253, description="a part of namespace/name, or of the node's name")] = None,
        after: Annotated[str | None, Query(max_length=600, description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 500,
        order: Annotated[Order, Query(description="worst: pending pods, then slow ones; one page without a next")] = "name",
    ) -> Response:
        """Pods that request GPUs: where each is, its GPUs and their bandwidth, or kube-scheduler's message."""
        moment = self._service.moment()
        rows = [
            row
            for row in pod_rows(moment, self._service.log.outcome)
            if (namespace in (None, row.namespace) and node in (None, row.node) and state in (None, row.state))
            and (search is None or search in f"{row.namespace}/{row.name}" or search in (row.node or ""))
        ]
        if order == "worst":
            age = round(moment.snapshot.age_seconds(moment.monotonic_seconds), 1)
            return Response(msgspec.json.encode(Pods(worst_first(rows)[:limit], len(rows), None, age)), media_type="application/json")
        later = rows if after is None else [row for row in rows if row.position > after]
        page = later[:limit]
        following = page[-1].position if len(later) > limit else None
        answer = Pods(page, len(rows), following, round(moment.snapshot.age_seconds(moment.monotonic_seconds), 1))
        return Response(msgspec.json.encode(answer), media_type="application/json")
