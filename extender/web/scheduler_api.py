"""The verbs that kube-scheduler calls: decode, call the service, encode, measure.

The status is always 200: with any other, kube-scheduler drops the connection and learns less. Filter and prioritize are answered on the
event loop, because they only read memory. Preempt takes longer and runs in a thread; bind writes to the API server in a thread of its own
pool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from extender.decision.evaluate.verdict import Verdict
from extender.errors import RequestError
from extender.metrics import Metrics
from extender.scheduling.scheduling_service import NO_SENT_NODES, Foreign, NotDecided, SchedulingService, SentNodes
from extender.settings import Settings
from extender.web import openapi, wire
from extender.web.body import read_body

INTERNAL = "fabricwise failed to evaluate this request: look for a traceback in its log, and report it"
TOO_LARGE = "set nodeCacheCapable: true in kube-scheduler's configuration, or raise limits.max_body_bytes"

logger = logging.getLogger("fabricwise.verbs")

_SETTLE_SECONDS = 0.05
"""Decisions are accounted for in the log this long after the first one that waits, off the verbs' path."""

Answer = Callable[[bytes], Awaitable[bytes]]


class SchedulerApi:
    """The routes of filter, prioritize, preempt and bind."""

    def __init__(self, service: SchedulingService, settings: Settings, metrics: Metrics) -> None:
        self._service, self._settings, self._metrics = service, settings, metrics
        self._verb_seconds = {verb: metrics.verb_seconds.labels(verb) for verb in ("filter", "prioritize", "preempt", "bind")}
        self._passed, self._failed = metrics.nodes.labels("passed"), metrics.nodes.labels("failed")
        self._binding = ThreadPoolExecutor(settings.binding.concurrency, thread_name_prefix="binding")

    def router(self) -> APIRouter:
        """The four routes."""
        router = APIRouter(prefix="/scheduler", tags=["scheduler verbs"])
        no_preemption = wire.encode(wire.ExtenderPreemptionResult())
        for verb, answer, error_answer, doc in (
            ("filter", self._deciding(_on_the_loop(self.filter)), _filter_error, openapi.NODES),
            ("prioritize", self._deciding(_on_the_loop(self.prioritize)), _error_in_header(b"[]"), openapi.NODES),
            ("preempt", self._deciding(_in_a_thread(self.preempt)), _error_in_header(no_preemption), openapi.PREEMPT),
            ("bind", self.bind, _bind_error, openapi.BIND),
        ):
            router.add_api_route(f"/{verb}", self._route(verb, answer, error_answer), methods=["POST"], openapi_extra=doc)
        return router

    def filter(self, body: bytes) -> bytes:
        """Which of the named nodes can take the pod, and why the others cannot. Raises RequestError."""
        args = wire.decode_args(body)
        named = wire.named_nodes(args)
        outcome = self._service.filter(args.pod, list(named), len(body), self._sent(args, named))
        if isinstance(outcome, Foreign):
            return wire.encode(wire.filter_result(args, named, list(named)))
        if isinstance(outcome, NotDecided):
            self._metrics.verb_errors.labels("filter", outcome.cause).inc()
            return wire.encode(wire.ExtenderFilterResult(error=outcome.message))
        return wire.encode(self._filter_result(args, named, outcome.verdicts))

    def prioritize(self, body: bytes) -> bytes:
        """An integer score from 0 to 10 for each named node, once, and the top score for one node alone. Raises RequestError."""
        args = wire.decode_args(body)
        named = wire.named_nodes(args)
        scores = self._service.prioritize(args.pod, list(named), len(body), self._sent(args, named))
        return wire.encode(list(map(wire.HostPriority, named, scores)))

    def _sent(self, args: wire.ExtenderArgs, named: dict[str, msgspec.Raw | None]) -> SentNodes:
        """Return the whole Nodes of the call that the watch does not know."""
        return NO_SENT_NODES if args.node_names is not None else wire.whole_nodes(named, self._service.store.snapshot.nodes)

    def preempt(self, body: bytes) -> bytes:
        """Which of the candidate nodes help the pod, and which victims there; an empty map vetoes preemption. Raises RequestError."""
        args = wire.decode_preemption(body)
        outcome = self._service.preempt(args.pod, wire.candidates_of(args))
        if isinstance(outcome, NotDecided):
            self._metrics.verb_errors.labels("preempt", outcome.cause).inc()
            return wire.encode(wire.preemption_result(()))  # no pod is evicted while the state is not known
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
            except RequestError as error:
                self._metrics.verb_errors.labels(verb, "request").inc()
                return error_answer(str(error))
            except Exception:  # a bug: kube-scheduler still gets an answer in its format, once per attempt
                self._metrics.verb_errors.labels(verb, "internal").inc()
                logger.exception("%s failed", verb)
                return error_answer(INTERNAL)
            if self._service.log.unsettled == 1:
                asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._service.log.settle)
            return Response(content, media_type="application/json")

        handle.__name__, handle.__doc__ = verb, answer.__doc__
        return handle

    def _deciding(self, answer: Answer) -> Answer:
        """The same answer, during which sources of state give way."""

        async def answered(body: bytes) -> bytes:
            with self._service.store.answering_verb():
                return await answer(body)

        answered.__doc__ = answer.__doc__
        return answered

    def _filter_result(
        self, args: wire.ExtenderArgs, named: dict[str, msgspec.Raw | None], verdicts: Sequence[Verdict]
    ) -> wire.ExtenderFilterResult:
        passed: list[str] = []
        failed: dict[str, str] = {}
        unresolvable: dict[str, str] = {}
        for name, verdict in zip(named, verdicts, strict=True):
            reason = verdict.reason
            if reason is None:
                passed.append(name)
            elif verdict.resolvable:
                failed[name] = reason
            else:
                unresolvable[name] = reason
        self._passed.inc(len(passed))
        self._failed.inc(len(named) - len(passed))
        return wire.filter_result(args, named, passed, failed, unresolvable)


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


def _on_the_loop(answer: Callable[[bytes], bytes]) -> Answer:
    """Return `answer` as a coroutine function that runs on the event loop."""

    async def answered(body: bytes) -> bytes:
        return answer(body)

    answered.__doc__ = answer.__doc__
    return answered


def _in_a_thread(answer: Callable[[bytes], bytes]) -> Answer:
    """Return `answer` as a coroutine function that runs in a thread: it may evaluate hundreds of candidates."""

    async def answered(body: bytes) -> bytes:
        return await run_in_threadpool(answer, body)

    answered.__doc__ = answer.__doc__
    return answered
