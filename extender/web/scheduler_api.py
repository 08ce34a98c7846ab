"""The verbs that kube-scheduler calls: decode, call the service, encode, measure.

The status is always 200: with any other, kube-scheduler drops the connection and learns less. Filter and prioritize are answered on the
event loop, because they only read memory; the first evaluation of a demand runs in a thread. Preempt takes longer, so it runs in a
thread; bind writes to the API server in a thread of its own pool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from extender.decision.cycle.scheduling_cycle import Evaluation
from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.verdict_table import Unevaluated
from extender.decision.request.kubernetes_objects import Pod
from extender.errors import RequestError
from extender.metrics import Metrics
from extender.scheduling.scheduling_service import NO_SENT_NODES, STILL_EVALUATING, Foreign, NotDecided, SchedulingService, SentNodes
from extender.settings import Settings
from extender.web import openapi, wire
from extender.web.body import read_body
from extender.web.first_evaluations import FirstEvaluations
from extender.web.verb_answers import every_node_passes, filter_answer, prioritize_answer

INTERNAL = "fabricwise failed to evaluate this request: look for a traceback in its log, and report it"
TOO_LARGE = "set nodeCacheCapable: true in kube-scheduler's configuration, or raise limits.max_body_bytes"

logger = logging.getLogger("fabricwise.verbs")

_SETTLE_SECONDS = 0.05
"""Decisions are accounted for in the log this long after the first one that waits, off the verbs' path."""

_MOST_FILTERED = 8
"""kube-scheduler calls prioritize right after filter, one pod after another."""

_FOLLOW_UP_SECONDS = 0.0005
"""By then the answer is sent, and kube-scheduler has not called about the next pod yet."""

Answer = Callable[[bytes], Awaitable[bytes | NotDecided]]
Outcome = TypeVar("Outcome")


class SchedulerApi:
    """The routes of filter, prioritize, preempt and bind."""

    def __init__(self, service: SchedulingService, settings: Settings, metrics: Metrics) -> None:
        self._service, self._settings, self._metrics = service, settings, metrics
        self._verb_seconds = {verb: metrics.verb_seconds.labels(verb) for verb in ("filter", "prioritize", "preempt", "bind")}
        self._passed, self._failed = metrics.nodes.labels("passed"), metrics.nodes.labels("failed")
        self._filtered = FilteredPods()
        self._first_evaluations = FirstEvaluations(service.evaluate)
        self._after_answers = ThreadPoolExecutor(1, thread_name_prefix="after-answers")
        self._to_start: set[str] = set()
        """Names of the work that waits to start in that thread."""
        self._binding = ThreadPoolExecutor(settings.binding.concurrency, thread_name_prefix="binding")

    def router(self) -> APIRouter:
        """The four routes."""
        router = APIRouter(prefix="/scheduler", tags=["scheduler verbs"])
        no_preemption = wire.encode(wire.ExtenderPreemptionResult())
        for verb, answer, error_answer, doc in (
            ("filter", self._deciding(self.filter), _filter_error, openapi.FILTER),
            ("prioritize", self._deciding(self.prioritize), _error_in_header(b"[]"), openapi.PRIORITIZE),
            ("preempt", self._deciding(_in_a_thread(self.preempt)), _error_in_header(no_preemption), openapi.PREEMPT),
            ("bind", self.bind, _bind_error, openapi.BIND),
        ):
            router.add_api_route(f"/{verb}", self._route(verb, answer, error_answer), methods=["POST"], **doc)
        return router

    async def filter(self, body: bytes) -> bytes | NotDecided:
        """Which of the named nodes can take the pod, and why the others cannot. Raises RequestError."""
        args = wire.decode_args(body)
        named = wire.named_nodes(args)
        outcome: Evaluation | NotDecided | Foreign = await self._evaluated(
            partial(self._service.filter, args.pod, named.names, len(body), self._sent(named))
        )
        if isinstance(outcome, Foreign):
            return every_node_passes(named)
        if isinstance(outcome, NotDecided):
            return outcome
        answer, passed, passed_json = filter_answer(named, outcome.verdicts)
        self._passed.inc(len(passed))
        self._failed.inc(len(named.names) - len(passed))
        self._filtered.keep(body, args, passed, passed_json)
        return answer

    async def prioritize(self, body: bytes) -> bytes | NotDecided:
        """An integer score from 0 to 10 for each named node, once, and the top score for one node alone. Raises RequestError."""
        found = self._filtered.find(body)
        pod, names, sent = (*found, NO_SENT_NODES) if found else self._asked(body)
        scores = await self._evaluated(partial(self._service.prioritize, pod, names, len(body), sent))
        if isinstance(scores, NotDecided):
            return scores
        return prioritize_answer(names.texts, scores)

    def _asked(self, body: bytes) -> tuple[Pod, NodeNames, SentNodes]:
        args = wire.decode_args(body)
        named = wire.named_nodes(args)
        return args.pod, named.names, self._sent(named)

    def _sent(self, named: wire.NamedNodes) -> SentNodes:
        """Return the whole Nodes of a request that the watch does not know."""
        return NO_SENT_NODES if named.nodes is None else wire.unknown_nodes(named, self._service.store.snapshot.nodes)

    def preempt(self, body: bytes) -> bytes | NotDecided:
        """Which of the candidate nodes help the pod, and which victims there; an empty map vetoes preemption. Raises RequestError."""
        args = wire.decode_preemption(body)
        outcome = self._service.preempt(args.pod, wire.candidates_of(args))
        if isinstance(outcome, NotDecided):
            return outcome  # no pod is evicted while the state is not known
        return wire.encode(wire.preemption_result(outcome))

    async def bind(self, body: bytes) -> bytes:
        """Bind the pod to the node if it still is feasible; never success without a binding. Raises RequestError."""
        args = wire.decode_binding(body)
        arguments = args.pod_namespace or "default", args.pod_name, args.pod_uid, args.node
        error = await asyncio.get_running_loop().run_in_executor(self._binding, self._service.bind, *arguments)
        if error:
            self._metrics.verb_errors.labels("bind", "refused").inc()
        return wire.encode(wire.ExtenderBindingResult(error))

    def _route(self, verb: str, answer: Answer, error_answer: Callable[[str], Response]) -> Callable[..., object]:
        observe, limits = self._verb_seconds[verb].observe, self._settings.limits

        async def handle(request: Request) -> Response:
            try:
                body = await read_body(request, limits.max_body_bytes, limits.body_seconds, TOO_LARGE)
                started = time.perf_counter()
                content = await answer(body)
                observe(time.perf_counter() - started)
                self._follow_up()
                if isinstance(content, NotDecided):
                    self._metrics.verb_errors.labels(verb, content.cause).inc()
                    return error_answer(content.message)
            except RequestError as error:
                self._metrics.verb_errors.labels(verb, "request").inc()
                return error_answer(str(error))
            except Exception:  # a bug: kube-scheduler still gets an answer in its format, once per attempt
                self._metrics.verb_errors.labels(verb, "internal").inc()
                logger.exception("%s failed", verb)
                return error_answer(INTERNAL)
            return Response(content, media_type="application/json")

        handle.__name__, handle.__doc__ = verb, answer.__doc__
        return handle

    def _follow_up(self) -> None:
        """Start what a decision entails and its answer does not need, in a thread: the sizes of the log, and the nodes of assumed pods."""
        service = self._service
        if service.log.unsettled:
            self._start_once("settle", _SETTLE_SECONDS, service.log.settle)
        if service.newly_assumed:
            self._start_once("evaluate assumed", _FOLLOW_UP_SECONDS, service.evaluate_assumed)

    def _start_once(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        """Start work in the thread after some seconds, unless it is to start already. What arrives once it runs starts it again."""
        if name in self._to_start:
            return
        self._to_start.add(name)

        def run() -> None:
            self._to_start.discard(name)
            try:
                work()
            except Exception:  # the next answer starts it again
                logger.exception("%s failed", name)

        asyncio.get_running_loop().call_later(seconds, self._after_answers.submit, run)

    def _deciding(self, answer: Answer) -> Answer:
        """The same answer, during which sources of state give way."""

        async def answered(body: bytes) -> bytes | NotDecided:
            with self._service.store.answering_verb():
                return await answer(body)

        answered.__doc__ = answer.__doc__
        return answered

    async def _evaluated(self, verb: Callable[[], Outcome | Unevaluated]) -> Outcome | NotDecided:
        """Call a verb until it has all verdicts that it needs, for a limited time. Other requests are answered meanwhile."""
        deadline = time.monotonic() + self._settings.limits.evaluation_seconds
        outcome = verb()
        while isinstance(outcome, Unevaluated):
            if not await self._first_evaluations.completed(outcome, deadline - time.monotonic()):
                return NotDecided("evaluating", STILL_EVALUATING)
            outcome = verb()
        return outcome


class FilteredPods:
    """The pods of the latest filter requests with the nodes that passed.

    kube-scheduler calls prioritize with the same text of the pod and exactly the list that filter has returned: neither is decoded again.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[bytes, bytes, Pod, NodeNames]] = deque(maxlen=_MOST_FILTERED)

    def keep(self, body: bytes, args: wire.ExtenderArgs, passed: NodeNames, passed_json: bytes) -> None:
        """Keep a filter request and the names that pass, where the request ends with its names as kube-scheduler writes it."""
        end = bytes(args.node_names) + b"}"
        if body.endswith(end):
            self._kept.appendleft((body[: -len(end)], passed_json, args.pod, passed))

    def find(self, body: bytes) -> tuple[Pod, NodeNames] | None:
        """Return the pod and the names of a request with the same pod and exactly the names that passed; None for other requests."""
        for start, names_json, pod, names in self._kept:
            is_same = len(body) == len(start) + len(names_json) + 1 and body.startswith(names_json, len(start)) and body.startswith(start)
            if is_same and body.endswith(b"}"):
                return pod, names
        return None


def _filter_error(message: str) -> Response:
    return Response(wire.encode(wire.ExtenderFilterResult(error=message)), media_type="application/json")


def _bind_error(message: str) -> Response:
    return Response(wire.encode(wire.ExtenderBindingResult(message)), media_type="application/json")


def _error_in_header(content: bytes) -> Callable[[str], Response]:
    """Return an answer without room for an error; kube-scheduler goes on without scores or preemption, and a header names the error."""

    def error_answer(message: str) -> Response:
        safe = message.encode("ascii", "replace").decode()[:500].replace("\n", " ").replace("\r", " ")
        return Response(content, media_type="application/json", headers={"X-Fabricwise-Error": safe})

    return error_answer


def _in_a_thread(answer: Callable[[bytes], bytes | NotDecided]) -> Answer:
    """Return `answer` as a coroutine function that runs in a thread: it may evaluate hundreds of candidates."""

    async def answered(body: bytes) -> bytes | NotDecided:
        return await run_in_threadpool(answer, body)

    answered.__doc__ = answer.__doc__
    return answered
