"""POST /v1/what-if: where the pending pods and further pods would go in a hypothetical cluster. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.pace import Pace
from extender.decision.whatif.hypotheses import Unusable
from extender.decision.whatif.kube_objects import known_objects
from extender.decision.whatif.sequence import Decider, SequenceStart
from extender.decision.whatif.what_if_answer import WhatIfAnswer, what_if_answer
from extender.decision.whatif.what_if_question import what_if
from extender.errors import RequestError
from extender.scheduling.ports import PendingManifests, PendingReader
from extender.scheduling.scheduling_service import SchedulingService
from extender.settings import Settings
from extender.settings_overrides import with_overrides
from extender.web.body import is_long, read_body
from extender.web.long_work import LongWork
from extender.web.openapi import described
from extender.web.questions.asked import Answer, answered, reader, refusal, refused, response_of_answer
from extender.web.questions.slots_routes import not_listed
from extender.web.questions.what_if_body import WhatIfBody, hypotheses_of

MOST_BODY_BYTES = 8 << 20
WHAT_IF_SECONDS = 20.0
"""Time for one question; what is not reached by then is marked in the answer."""

_decode = msgspec.json.Decoder(WhatIfBody).decode

_EXAMPLE = {"add": [{"gpus": 4, "count": 10}], "cordon": ["gpu-node-1"], "set": {"scoring.weights.link": 0.5}}


class WhatIfApi:
    """The route of what-if questions."""

    def __init__(
        self,
        service: SchedulingService,
        settings: Settings,
        long_work: LongWork,
        decider: Callable[[Settings], Decider],
        pending: PendingReader,
        *,
        cluster: str | None = None,
    ) -> None:
        """`decider`: what decides by some settings, with caches of its own. `pending`: reads the pods that wait for a node.
        `cluster`: the name of the cluster, for people.
        """
        self._service, self._settings, self._long_work = service, settings, long_work
        self._decider, self._pending, self._cluster = decider, pending, cluster

    def router(self) -> APIRouter:
        """The route."""
        router = APIRouter(prefix="/v1", tags=["questions"])
        types = described(WhatIfAnswer, errors=(400, 503), body=WhatIfBody, example=_EXAMPLE)
        router.add_api_route("/what-if", self.what_if, methods=["POST"], **types)
        return router

    async def what_if(self, request: Request) -> Response:
        """Where the pending pods and further pods would go if pods, nodes, GPUs or settings were others. Nothing is changed.

        kube-scheduler's own filters are repeated as far as the extender knows what they read; `not_checked` has the rest.
        """
        try:
            body = await read_body(request, MOST_BODY_BYTES, self._settings.limits.body_seconds, "send fewer manifests")
            read = reader(body, _decoded)
        except RequestError as error:
            return response_of_answer(refused(str(error)))
        if is_long(body) and (response := await refusal(self._long_work, read, WHAT_IF_SECONDS)) is not None:
            return response  # before the pods that wait are read
        pending = await run_in_threadpool(self._pending.read)
        moment = self._service.moment()
        return await answered(self._long_work, lambda pace: self._answer(read(), pending, moment, pace), WHAT_IF_SECONDS)

    def _answer(self, asked: WhatIfBody, pending: PendingManifests, moment: Moment, pace: Pace) -> Answer:
        snapshot = moment.snapshot
        unlisted = not_listed(snapshot)
        if unlisted is not None:
            return unlisted
        then = with_overrides(self._settings, asked.set, "request body: set")
        hypotheses, not_known = hypotheses_of(asked, self._settings.resource, snapshot.nodes)
        kube = known_objects(snapshot, self._settings.resource, pending.pods, pending.unread)
        start = SequenceStart(snapshot, kube, moment.assumed_pods, moment.monotonic_seconds)
        result = what_if(start, hypotheses, self._decider(self._settings), self._decider(then), self._settings.is_foreign, pace=pace)
        if isinstance(result, Unusable):
            return refused(result.why)
        answer = what_if_answer(result, self._settings.resource)
        return Answer(
            msgspec.structs.replace(
                answer,
                cluster=self._cluster,
                not_checked=[*answer.not_checked, *not_known],
                state_age_seconds=round(snapshot.age_seconds(moment.monotonic_seconds), 1) if snapshot.watch_lost_at else None,
            )
        )


def _decoded(body: bytes) -> WhatIfBody:
    """Return the body. Raises RequestError."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        why = f"request body: {str(error) or type(error).__name__}; /docs has its schema and docs/what-if.md examples"
        raise RequestError(why) from error
