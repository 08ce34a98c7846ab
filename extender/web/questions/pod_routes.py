"""`/v1/pods`: the pods that request GPUs, page by page."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query, Response

from extender.decision.report.live.pod_rows import OutcomeOf, PodRow, State, with_outcome
from extender.web.live.pod_table import PodQuery, PodTable
from extender.web.openapi import described
from extender.web.questions.known_parameters import ONLY_KNOWN_PARAMETERS

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

    def __init__(self, table: PodTable, outcome_of: OutcomeOf) -> None:
        """`outcome_of` returns what has become of the prediction for a pod."""
        self._table, self._outcome_of = table, outcome_of

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter(prefix="/v1", tags=["debug"])
        router.add_api_route("/pods", self.pods, methods=["GET"], dependencies=ONLY_KNOWN_PARAMETERS, **described(Pods))
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
        query = PodQuery(namespace, node, state, search)
        page = self._table.by_need(query, limit) if order == "worst" else self._table.by_name(query, after, limit)
        rows = [with_outcome(row, self._outcome_of) for row in page.rows[:limit]]
        following = rows[-1].position if len(page.rows) > limit else None
        age_seconds = round(page.moment.snapshot.age_seconds(page.moment.monotonic_seconds), 1)
        return Response(msgspec.json.encode(Pods(rows, page.total, following, age_seconds)), media_type="application/json")
