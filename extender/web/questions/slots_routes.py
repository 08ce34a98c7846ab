"""`GET /v1/slots`: how many more pods of each size fit now, and what the missing ones are lost to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from msgspec.structs import replace

from extender.decision.evaluate.policy import Policy
from extender.decision.pace import Pace
from extender.decision.slots.slot_answer import SlotsAnswer
from extender.decision.slots.slot_question import MOST_SIZES, By, SlotQuestion, asked
from extender.decision.slots.slot_summary import slots_of
from extender.decision.state.snapshot import Snapshot
from extender.scheduling.scheduling_service import SchedulingService
from extender.web.long_work import LongWork
from extender.web.openapi import described
from extender.web.questions.asked import Answer, answered, refused
from extender.web.questions.known_parameters import ONLY_KNOWN_PARAMETERS

SECONDS = 10.0
"""Time for one answer; after it, the answer is about the nodes counted so far."""

MOST_TEXT = 100

ClassQuery = Annotated[str | None, Query(alias="class", max_length=MOST_TEXT, description="workload class of the pods")]
MOST_FLOOR_GBPS = 100_000.0
FloorQuery = Annotated[
    float | None,
    Query(gt=0, le=MOST_FLOOR_GBPS, description="bus bandwidth that each pod with several GPUs must reach, GB/s"),
]
MemoryQuery = Annotated[str | None, Query(max_length=MOST_TEXT, description="memory that each GPU must have, such as 80Gi")]
SizesQuery = Annotated[
    list[Annotated[str, Query(pattern="^[0-9]{1,4}(,[0-9]{1,4})*$", max_length=MOST_TEXT)]] | None,
    Query(max_length=MOST_SIZES, description="GPUs per pod, such as 4 or 2,4,8; it may be repeated"),
]


class SlotsApi:
    """The route of slots."""

    def __init__(
        self, service: SchedulingService, resource: str, policy: Policy, long_work: LongWork, *, cluster: str | None = None
    ) -> None:
        """`resource` is the one that counts GPUs; `cluster`: the name of the cluster, for people."""
        self._service, self._resource, self._policy, self._long_work, self._cluster = service, resource, policy, long_work, cluster

    def router(self) -> APIRouter:
        """The route."""
        router = APIRouter(prefix="/v1", tags=["questions"])
        router.add_api_route(
            "/slots", self.slots, methods=["GET"], dependencies=ONLY_KNOWN_PARAMETERS, **described(SlotsAnswer, errors=(400, 503))
        )
        return router

    async def slots(
        self,
        size: SizesQuery = None,
        workload_class: ClassQuery = None,
        floor_gbps: FloorQuery = None,
        memory: MemoryQuery = None,
        by: By = By.PRODUCT,
    ) -> Response:
        """How many more pods of each size fit now, per product, pool or node, and what each missing one is lost to."""
        moment = self._service.moment()
        snapshot = moment.snapshot

        def ask(pace: Pace) -> Answer:
            unlisted = not_listed(snapshot)
            if unlisted is not None:
                return unlisted
            sizes = [int(each) for text in size or () for each in text.split(",")]
            question = asked(sizes, workload_class, floor_gbps, memory, by, snapshot.classes)
            if not isinstance(question, SlotQuestion):
                return refused(question)
            extra_pods = moment.assumed_pods.extra_pods(snapshot, moment.monotonic_seconds, but="")
            answer = slots_of(snapshot, question, self._resource, policy=self._policy, extra_pods=extra_pods, pace=pace)
            return Answer(replace(answer, cluster=self._cluster))

        return await answered(self._long_work, ask, SECONDS)


def not_listed(snapshot: Snapshot) -> Answer | None:
    """Return the refusal of a question while the cluster is not listed in full; None once it is."""
    if snapshot.synced:
        return None
    return refused(f"not yet listed: {', '.join(snapshot.missing)}; try again in some seconds; if this stays, see the log", 503)
