"""`GET /v1/defrag`: which moves of pods would make room for more pods of a size. Advice only."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.concurrency import run_in_threadpool

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.disruption.disruption_facts import facts_of
from extender.decision.evaluate.policy import Policy
from extender.decision.pace import Pace
from extender.decision.slots.defrag_answer import DefragAnswer
from extender.decision.slots.defrag_search import DEFAULT_MOVES, MOST_MOVES, DefragSearch, considered
from extender.decision.slots.pod_moves import PodMover
from extender.decision.slots.slot_question import MOST_GPUS_PER_POD
from extender.scheduling.ports import DisruptionManifests, DisruptionReader
from extender.scheduling.scheduling_service import SchedulingService
from extender.settings import Settings
from extender.web.long_work import LongWork, NotDone
from extender.web.openapi import described
from extender.web.questions.asked import Answer, OwnContext, answered
from extender.web.questions.known_parameters import ONLY_KNOWN_PARAMETERS
from extender.web.questions.slots_routes import not_listed

SECONDS = 15.0
"""Time for the search; after it, the answer has the moves found so far."""

CONSIDER_SECONDS = 5.0
"""Time to find out which pods must be read from the API server."""


class DefragApi:
    """The route of advice on moves."""

    def __init__(
        self,
        service: SchedulingService,
        settings: Settings,
        policy: Policy,
        own_context: OwnContext,
        long_work: LongWork,
        disruptions: DisruptionReader,
        *,
        cluster: str | None = None,
    ) -> None:
        """`own_context`: returns what evaluates and ranks, with caches of its own. `cluster`: the name of the cluster, for people."""
        self._service, self._settings, self._policy, self._own_context = service, settings, policy, own_context
        self._long_work, self._disruptions, self._cluster = long_work, disruptions, cluster

    def router(self) -> APIRouter:
        """The route."""
        router = APIRouter(prefix="/v1", tags=["questions"])
        router.add_api_route(
            "/defrag", self.defrag, methods=["GET"], dependencies=ONLY_KNOWN_PARAMETERS, **described(DefragAnswer, errors=(400, 503))
        )
        return router

    async def defrag(
        self,
        size: Annotated[int, Query(ge=1, le=MOST_GPUS_PER_POD, description="GPUs per pod that room is wanted for")],
        moves: Annotated[int, Query(ge=1, le=MOST_MOVES, description="most moves to advise")] = DEFAULT_MOVES,
    ) -> Response:
        """Which moves of pods would make room for more pods of a size, the best first. Nothing is changed.

        A pod is moved only if a controller recreates it and its PodDisruptionBudget allows that.
        """
        moment = self._service.moment()
        manifests = DisruptionManifests()
        if moment.snapshot.synced:
            keys = await self._long_work.run(lambda pace: self._considered(moment, size, pace), CONSIDER_SECONDS)
            if not isinstance(keys, NotDone):
                pods = [moment.snapshot.pods[key] for key in msgspec.json.decode(keys, type=list[str])]
                manifests = await run_in_threadpool(self._disruptions.read, pods)
        return await answered(self._long_work, lambda pace: self._advice(moment, size, moves, manifests, pace), SECONDS)

    def _considered(self, moment: Moment, size: int, pace: Pace) -> bytes:
        """Return the keys of the pods that must be read, as JSON."""
        pods = considered(moment.snapshot, size, self._settings.resource, self._policy, pace)
        return msgspec.json.encode([pod.key for pod in pods])

    def _advice(self, moment: Moment, size: int, moves: int, manifests: DisruptionManifests, pace: Pace) -> Answer:
        snapshot = moment.snapshot
        unlisted = not_listed(snapshot)
        if unlisted is not None:
            return unlisted
        context, ranker = self._own_context()
        context.evaluator.learn(snapshot)
        mover = PodMover(context, ranker, moment.assumed_pods, moment.monotonic_seconds, self._settings.is_foreign)
        extra_pods = moment.assumed_pods.extra_pods(snapshot, moment.monotonic_seconds, but="")
        facts = facts_of(manifests.pods, manifests.budgets, manifests.unread, manifests.unlisted_groups)
        answer = DefragSearch(snapshot, size, facts, mover, self._policy, extra_pods).advise(moves, pace)
        return Answer(msgspec.structs.replace(answer, cluster=self._cluster))
