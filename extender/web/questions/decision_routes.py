"""`GET /v1/decisions` and `/v1/decisions/{id}`: what was decided lately, page by page.

Handlers are plain functions, which run in worker threads, so that a long answer does not delay kube-scheduler's calls.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Response

from extender.errors import RequestError
from extender.scheduling.decision_log import Result
from extender.scheduling.scheduling_service import SchedulingService
from extender.settings import Settings
from extender.web.openapi import described
from extender.web.questions.decision_answers import (
    DecisionAnswer,
    DecisionsAnswer,
    Wanted,
    decision_answer,
    decisions_answer,
    number_of,
)
from extender.web.questions.known_parameters import ONLY_KNOWN_PARAMETERS

MOST_TEXT = 512
"""Characters of a parameter."""

_encode = msgspec.json.Encoder().encode


class DecisionRoutes:
    """The routes of decisions."""

    def __init__(self, service: SchedulingService, settings: Settings) -> None:
        self._service, self._settings = service, settings

    def router(self) -> APIRouter:
        """Both routes."""
        router = APIRouter(prefix="/v1", tags=["questions"])
        router.add_api_route(
            "/decisions", self.decisions, methods=["GET"], dependencies=ONLY_KNOWN_PARAMETERS, **described(DecisionsAnswer, errors=(400,))
        )
        router.add_api_route(
            "/decisions/{decision_id}",
            self.decision,
            methods=["GET"],
            dependencies=ONLY_KNOWN_PARAMETERS,
            **described(DecisionAnswer, errors=(404,)),
        )
        return router

    def decisions(
        self,
        limit: Annotated[int, Query(ge=1, le=1000, description="decisions in one answer, newest first")] = 20,
        pod: Annotated[str | None, Query(max_length=MOST_TEXT, description="name, namespace/name or uid of a pod")] = None,
        node: Annotated[
            str | None, Query(max_length=MOST_TEXT, description="a node that was evaluated; only its verdict is listed")
        ] = None,
        outcome: Annotated[Result | None, Query(description="what was decided: the field `result`")] = None,
        since: Annotated[str | None, Query(max_length=64, description="RFC 3339 time, or Unix time in seconds")] = None,
        cursor: Annotated[str | None, Query(max_length=64, description="`next` of the page before")] = None,
    ) -> Response:
        """Recent filter and prioritize decisions, newest first, with every node's verdict.

        A page remains the same while newer decisions arrive. `truncated` says that a page is shorter because it grew too long.
        """
        log = self._service.log
        try:
            before = None if cursor is None else _number(cursor, log.epoch)
            wanted = Wanted(pod, node, outcome, None if since is None else _seconds(since), before)
        except RequestError as error:
            return _json({"error": str(error)}, 400)
        return _json(decisions_answer(log.recent(), log.outcome, self._settings.resource, limit=limit, wanted=wanted))

    def decision(self, decision_id: Annotated[str, Path(max_length=MOST_TEXT)]) -> Response:
        """One decision by its id, or the newest one with that id of a placement record."""
        log = self._service.log
        found = next((each for each in log.recent() if decision_id in (each.id, each.placement)), None)
        if found is None:
            error = f"no decision {decision_id[:64]!r} is kept: /v1/decisions lists those that are, limits.decision_log_bytes keeps more"
            return _json({"error": error}, 404)
        return _json(decision_answer(found, log.outcome(found.uid), self._settings.resource))


def _number(cursor: str, epoch: str) -> int:
    """Return the number of the decision that a cursor names. Raises RequestError."""
    of, _, _ = cursor.rpartition("-")
    try:
        number = number_of(cursor)
    except ValueError as error:
        raise RequestError(f"cursor {cursor!r} is none: take `next` of the page before, or leave it out") from error
    if of != epoch:
        raise RequestError(f"cursor {cursor!r} is of another replica or of an earlier start: leave it out to begin anew")
    return number


def _seconds(text: str) -> float:
    """Return a time as Unix time. Raises RequestError."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            time = datetime.fromisoformat(text.replace(" ", "+"))  # a + in a query is read as a space
            seconds = time.timestamp() if time.tzinfo is not None else math.nan
        except (ValueError, OverflowError):
            seconds = math.nan
    if not math.isfinite(seconds):
        raise RequestError(f"since {text!r} is no time: give one like 2026-05-01T08:00:00Z, or Unix time in seconds")
    return seconds


def _json(content: object, status: int = 200) -> Response:
    return Response(_encode(content), status, media_type="application/json")
