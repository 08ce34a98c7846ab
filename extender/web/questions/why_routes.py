"""`/v1/why`: why a pod is Pending, or where it is and how fast it is there, and what would help."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from heapq import nsmallest
from itertools import chain, islice
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.disruption.disruption_facts import NOTHING_READ, DisruptionFacts, facts_of
from extender.decision.disruption.evictions import Evictee
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.pace import Pace
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.why.pod_question import Question
from extender.decision.why.running_pod import pod_of_bound
from extender.decision.why.scheduler_reports import MOST_EVENTS, reported_of
from extender.decision.why.why_pod import evictees, why_answer
from extender.decision.why.why_types import WhyAnswer
from extender.errors import RequestError
from extender.near_names import MOST_LOOKED_AT, near_names
from extender.scheduling.decision_log import Decision, predicted_on
from extender.scheduling.ports import DisruptionReader
from extender.scheduling.scheduling_service import SchedulingService
from extender.settings import Settings
from extender.web.body import read_body
from extender.web.long_work import LongWork, NotDone
from extender.web.openapi import described
from extender.web.pod_manifests import MOST_POD_BYTES, pods_from
from extender.web.questions.asked import (
    Answer,
    OwnContext,
    answered,
    encoded,
    not_answered,
    reader,
    refused,
    response_of,
    response_of_answer,
)
from extender.web.questions.known_parameters import ONLY_KNOWN_PARAMETERS

WHY_SECONDS = 20.0
"""Time for one answer; remedies that are not looked for by then are left out, and `complete` is false."""
_ANSWER, _EVICTEES = b"a", b"e"
"""What the first child process hands over: the encoded answer, or the pods that a remedy could evict."""
MOST_NAME = 600
"""Characters of NAMESPACE/NAME: 63, a slash and 253, with room for a clear error."""
_MOST_SHOWN = 5

_EXAMPLE = {
    "pod": {
        "metadata": {"name": "llm", "namespace": "default"},
        "spec": {"containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "4"}}}]},
    }
}


class WhyBody(msgspec.Struct, frozen=True):
    """The body of POST /v1/why."""

    pod: dict[str, Any]
    """The manifest of the pod, created or not."""
    events: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MOST_EVENTS)] | None = None
    """Its events, newest or oldest first: `kubectl get events --field-selector involvedObject.uid=UID -o json`."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question as far as it is read from the request and from the state."""

    pod: Pod
    kube_pod: KubePod | None
    events: list[dict[str, Any]] | None
    predicted_gbps: float | None
    is_new: bool = False


class WhyApi:
    """The routes."""

    def __init__(
        self,
        service: SchedulingService,
        settings: Settings,
        long_work: LongWork,
        own_context: OwnContext,
        disruptions: DisruptionReader,
        *,
        cluster: str | None = None,
    ) -> None:
        """`cluster`: the name of the cluster, for people."""
        self._service, self._settings, self._long_work = service, settings, long_work
        self._own_context, self._disruptions, self._cluster = own_context, disruptions, cluster

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter(prefix="/v1", tags=["questions"])
        get = described(WhyAnswer, errors=(404, 503))
        post = described(WhyAnswer, errors=(400, 503), body=WhyBody, example=_EXAMPLE)
        router.add_api_route("/why", self.of_known_pod, methods=["GET"], dependencies=ONLY_KNOWN_PARAMETERS, **get)
        router.add_api_route("/why", self.of_manifest, methods=["POST"], **post)
        return router

    async def of_known_pod(
        self, pod: Annotated[str, Query(max_length=MOST_NAME, description="NAMESPACE/NAME, or the uid, of a pod that requests GPUs")]
    ) -> Response:
        """Why a pod is Pending or slow, by what the extender knows of it.

        The extender keeps neither tolerations nor affinities of pods: `not_checked` says so, and kube-scheduler's message fills in. POST
        the manifest for the whole truth.
        """
        moment = self._service.moment()
        asked = await run_in_threadpool(self._known, pod, moment)
        return await self._answered(asked if isinstance(asked, Answer) else lambda: asked, moment)

    async def of_manifest(self, request: Request) -> Response:
        """Why this pod is Pending or slow, by its manifest and its events; also for a manifest that was not created yet."""
        try:
            body = await read_body(request, MOST_POD_BYTES, self._settings.limits.body_seconds, "send the pod and its newest events")
            moment = self._service.moment()
            read = await run_in_threadpool(self._reader, body)
        except RequestError as error:
            return response_of_answer(refused(str(error)))
        return await self._answered(read, moment)

    def _reader(self, body: bytes) -> Callable[[], _Asked]:
        """Return what reads a body. Raises RequestError. The log is read here, because a child process must not wait for its lock."""
        return reader(body, partial(_sent, tuple(self._service.log.recent())))

    async def _answered(self, read: Callable[[], _Asked] | Answer, moment: Moment) -> Response:
        if not moment.snapshot.synced:
            missing = ", ".join(moment.snapshot.missing)
            return response_of_answer(refused(f"not yet listed: {missing}; try again in some seconds; if this stays, see the log", 503))
        if isinstance(read, Answer):
            return response_of_answer(read)
        first = await self._long_work.run(lambda pace: self._first(read, moment, pace), WHY_SECONDS)
        if isinstance(first, NotDone):
            return not_answered(first)
        if first.startswith(_ANSWER):
            return response_of(first.removeprefix(_ANSWER))
        pods = msgspec.json.decode(first.removeprefix(_EVICTEES), type=list[Evictee])
        found = await run_in_threadpool(self._disruptions.read, pods)
        facts = facts_of(found.pods, found.budgets, found.unread, found.unlisted_groups)
        return await answered(self._long_work, lambda pace: self._answer(read(), moment, facts, pace), WHY_SECONDS)

    def _first(self, read: Callable[[], _Asked], moment: Moment, pace: Pace) -> bytes:
        """Return the pods that a remedy could evict, or the answer where there are none.

        A child process has no connection to the API server, so the parent looks these pods up, and the question is then asked again.
        """
        try:
            asked = read()
        except RequestError as error:
            refusal = refused(str(error))
            return _ANSWER + encoded(lambda _: refusal, pace)
        if not asked.pod.spec.node_name:
            pods = evictees(self._question(asked, moment), pace)
            if pods:
                return _EVICTEES + msgspec.json.encode(pods)
        return _ANSWER + encoded(lambda pace: self._answer(asked, moment, NOTHING_READ, pace), pace)

    def _known(self, name: str, moment: Moment) -> _Asked | Answer:
        snapshot = moment.snapshot
        by_key = snapshot.pending.get(name)
        pending = by_key or next((each for each in snapshot.pending.values() if _full_name(each.pod) == name), None)
        if pending is not None:
            return _Asked(pending.pod, None, None, None)
        bound = snapshot.pods.get(name) or next((each for each in snapshot.pods.values() if each.full_name == name), None)
        if bound is None:
            return refused(self._no_pod(name, moment), 404)
        pod = pod_of_bound(snapshot, bound.key, self._settings.resource)
        assert pod is not None
        return _Asked(pod, None, None, _predicted(self._service.log.recent(), pod))

    @staticmethod
    def _no_pod(name: str, moment: Moment) -> str:
        snapshot = moment.snapshot
        all_names = chain((_full_name(each.pod) for each in snapshot.pending.values()), (each.full_name for each in snapshot.pods.values()))
        names = list(islice(all_names, MOST_LOOKED_AT))
        close = near_names(name, names)
        shown = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(nsmallest(_MOST_SHOWN, names)) or 'none'}"
        return f"no pod {name[:120]!r} that requests GPUs is known (give NAMESPACE/NAME): {shown}"

    def _question(self, asked: _Asked, moment: Moment) -> Question:
        context, ranker = self._own_context()
        context.evaluator.learn(moment.snapshot)
        return Question(
            pod=asked.pod,
            kube_pod=asked.kube_pod,
            moment=moment,
            context=context,
            ranker=ranker,
            around=Surroundings(moment.snapshot.nodes, class_resources=moment.snapshot.dra.mapped),
            reported=reported_of(asked.pod, asked.events),
            now_seconds=time.time(),
            is_new=asked.is_new,
            is_foreign=self._settings.is_foreign(asked.pod.spec.scheduler_name),
        )

    def _answer(self, asked: _Asked, moment: Moment, facts: DisruptionFacts, pace: Pace) -> Answer:
        answer = why_answer(self._question(asked, moment), pace, asked.predicted_gbps, lambda _: facts)
        age = moment.snapshot.age_seconds(moment.monotonic_seconds) if moment.snapshot.watch_lost_at else None
        return Answer(
            msgspec.structs.replace(
                answer, cluster=self._cluster, by_extender=True, state_age_seconds=None if age is None else round(age, 1)
            )
        )


def _full_name(pod: Pod) -> str:
    return f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"


def _sent(decisions: Iterable[Decision], body: bytes) -> _Asked:
    """Return the question of a body. `decisions`: the recent ones. Raises RequestError."""
    try:
        sent = msgspec.json.decode(body, type=WhyBody)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RequestError(
            f'request body: {str(error) or type(error).__name__}; send {{"pod": MANIFEST, "events": [...]}}; /docs has the schema'
        ) from error
    pod, kube_pod = pods_from(sent.pod, "request body: pod")
    is_new = not pod.metadata.uid and pod.metadata.creation_timestamp is None
    return _Asked(pod, kube_pod, sent.events, _predicted(decisions, pod) if pod.spec.node_name else None, is_new)


def _predicted(decisions: Iterable[Decision], pod: Pod) -> float | None:
    """Return the GB/s that were predicted for a pod where it is."""
    predicted = predicted_on(decisions, pod.key, pod.spec.node_name or "")
    return predicted[1].expected_gbps if predicted is not None else None
