"""The verbs kube-scheduler calls. Always 200: anything else costs it the connection and tells it less.

Filter and prioritize wait for nothing: a verb reads the snapshot and the holds, judges from memory, answers. Preempt does the same in a
thread, for it may take longer. None of them changes anything outside memory. Bind alone writes to the API server, in a thread too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from extender.binding import Binder
from extender.decision.cluster import Snapshot
from extender.decision.cycle import Cycle, Stall, World, begin, filtered
from extender.decision.demand import Demand
from extender.decision.eviction import preferred
from extender.decision.holds import Hold, Holds
from extender.decision.judge import judge_all
from extender.decision.reasons import Rejection
from extender.decision.record import record_of
from extender.decision.requests import others_needed
from extender.decision.scores import NO_RANKS, TOP_SCORE, Ranker, Ranks
from extender.decision.sent_nodes import with_sent_nodes
from extender.decision.verdict import Verdict
from extender.decision_log import Decision, DecisionLog
from extender.errors import RequestError
from extender.live import LiveCluster
from extender.metrics import Metrics
from extender.settings import Settings
from extender.waking import Waker
from extender.web import openapi, protocol
from extender.web.body import read_body

NOT_SYNCED = "fabricwise has not yet listed nodes, pods and topologies; try again"
INTERNAL = "fabricwise failed to judge this request: look for a traceback in its log, and report it"
STALE = "fabricwise has not reached the API server for too long to decide; try again, and check its log and network if this stays"
TOO_LARGE = "set nodeCacheCapable: true in kube-scheduler's configuration, or raise limits.max_body_bytes"
LAGGING = Stall.LAGGING.value

_CYCLE_SECONDS = 5.0
"""Between filter and prioritize of one scheduling cycle, at most."""

logger = logging.getLogger("fabricwise.verbs")

_SETTLE_SECONDS = 0.05


@dataclass(slots=True)
class _Asked:
    """One request: what came, and when."""

    args: protocol.ExtenderArgs
    body_bytes: int
    started: float = field(default_factory=time.perf_counter)
    steady_seconds: float = field(default_factory=time.monotonic)


class SchedulerApi:
    """filter, prioritize, preempt and bind, over one live cluster."""

    def __init__(
        self, live: LiveCluster, world: World, ranker: Ranker, settings: Settings, metrics: Metrics, log: DecisionLog, waker: Waker,
        binder: Binder,
    ) -> None:  # fmt: skip
        self._waker, self._binder, self._world = waker, binder, world
        self._live, self._judge, self._ranker, self._settings, self._metrics, self._log = live, world.judge, ranker, settings, metrics, log
        self._verb_seconds = {verb: metrics.verb_seconds.labels(verb) for verb in ("filter", "prioritize", "preempt", "bind")}
        self._passed, self._failed = metrics.nodes.labels("passed"), metrics.nodes.labels("failed")
        self._last_filter: tuple[str, Snapshot, Holds, float] | None = None
        """(pod key, the state and the holds it was filtered by, monotonic seconds) of the last filter call; only with slices."""
        self._binding = ThreadPoolExecutor(settings.binding.concurrency, thread_name_prefix="binding")

    def router(self) -> APIRouter:
        """The four routes."""
        router = APIRouter(prefix="/scheduler", tags=["scheduler verbs"])
        for verb, answer, refuse, doc in (
            ("filter", self.filter, self._filter_error, openapi.NODES),
            ("prioritize", self.prioritize, self._bare_error(b"[]"), openapi.NODES),
        ):
            router.add_api_route(f"/{verb}", self._route(verb, _at_once(answer), refuse), methods=["POST"], openapi_extra=doc)
        nobody = self._bare_error(protocol.encode(protocol.ExtenderPreemptionResult()))
        preempt = self._route("preempt", _in_a_thread(self.preempt), nobody)
        router.add_api_route("/preempt", preempt, methods=["POST"], openapi_extra=openapi.PREEMPT)
        router.add_api_route("/bind", self._route("bind", self.bind, self._bind_error), methods=["POST"], openapi_extra=openapi.BIND)
        return router

    def _route(self, verb: str, answer: Callable[[bytes], Awaitable[bytes]], refuse: Callable[[str], Response]) -> Callable[..., object]:
        observe, limits = self._verb_seconds[verb].observe, self._settings.limits

        async def handle(request: Request) -> Response:
            try:
                body = await read_body(request, limits.max_body_bytes, limits.body_seconds, TOO_LARGE)
                started = time.perf_counter()
                self._live.answering = True
                content = await answer(body)
                observe(time.perf_counter() - started)
            except RequestError as error:
                self._metrics.verb_errors.labels(verb, "request").inc()
                return refuse(str(error))
            except Exception:  # a bug of ours: kube-scheduler still gets an answer it understands, once per attempt
                self._metrics.verb_errors.labels(verb, "internal").inc()
                logger.exception("%s failed", verb)
                return refuse(INTERNAL)
            finally:
                self._live.answering = False
            if self._log.unsettled == 1:
                asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._log.settle)
            return Response(content, media_type="application/json")

        handle.__name__, handle.__doc__ = verb, answer.__doc__
        return handle

    def filter(self, body: bytes) -> bytes:
        """Which of the named nodes can take the pod, and why the others cannot. Raises RequestError."""
        asked = _Asked(protocol.decode_args(body), len(body))
        args, named = asked.args, protocol.named_nodes(asked.args)
        if self._settings.is_foreign(args.pod.spec.scheduler_name):
            return protocol.encode(protocol.filter_result(args, named, list(named)))
        snapshot, holds = self._live.moment
        if not snapshot.synced:
            return self._filter_stalled("not synced", NOT_SYNCED)
        if snapshot.age_seconds(asked.steady_seconds) > self._settings.kube.max_state_age_seconds:
            return self._filter_stalled("stale", STALE)
        snapshot = self._with_sent(snapshot, named)
        self._last_filter = (args.pod.key, snapshot, holds, asked.steady_seconds) if snapshot.dra.slices_of else None
        cycle, names = begin(snapshot, holds, args.pod, self._settings.resource, asked.steady_seconds), list(named)
        found = filtered(cycle, names, judge_all(self._judge, snapshot, cycle.demand, names, cycle.guests), self._world)
        self._live.release(cycle.key)  # asked about anew: what it was decided for before does not count
        self._remember("filter", asked, cycle, names, found.verdicts, found.decided, found.stall)
        if found.stall is not None:
            return self._filter_stalled(found.stall.name.lower(), found.stall.value)
        if found.decided is not None:
            self._hold(asked, cycle, found.decided, found.verdicts[names.index(found.decided)])
        self._tell_waker(args, cycle.demand, names, found.verdicts)
        return protocol.encode(self._filter_result(args, named, found.verdicts))

    def _as_filtered(self, asked: _Asked, snapshot: Snapshot, holds: Holds) -> tuple[Snapshot, Holds]:
        """The state that the pod was filtered by, where Dynamic Resource Allocation serves nodes: kube-scheduler chose the devices right
        before it called filter, and what has become free since is not among them."""
        last = self._last_filter
        if last is None or last[0] != asked.args.pod.key or asked.steady_seconds - last[3] > _CYCLE_SECONDS:
            return snapshot, holds
        return last[1], last[2]

    def _with_sent(self, snapshot: Snapshot, named: Mapping[str, msgspec.Raw | None]) -> Snapshot:
        """With the nodes that came whole and that the watch does not know."""
        nodes = protocol.whole_nodes(named, snapshot.nodes)
        return with_sent_nodes(snapshot, nodes, self._settings.resource, self._live.defaults) if nodes else snapshot

    def _filter_stalled(self, cause: str, message: str) -> bytes:
        self._metrics.verb_errors.labels("filter", cause).inc()
        return protocol.encode(protocol.ExtenderFilterResult(error=message))

    def _hold(self, asked: _Asked, cycle: Cycle, node: str, verdict: Verdict) -> None:
        """Reckon with the pod on that node until the watch shows where it is."""
        demand, meta, seconds = cycle.demand, asked.args.pod.metadata, self._settings.holds.ttl_seconds
        if isinstance(demand, Rejection) or not demand.may_hold_gpus or seconds <= 0:
            return
        record, now = record_of(cycle.key, node, verdict.evidence), asked.steady_seconds
        namespace = meta.namespace or "default"
        self._live.hold(Hold(cycle.key, namespace, meta.name, node, demand, verdict.evidence, now, now + seconds, record.id))
        self._log.add_record(cycle.key, record)

    def _tell_waker(self, args: protocol.ExtenderArgs, demand: Demand | Rejection, names: list[str], verdicts: Sequence[Verdict]) -> None:
        """A pod that nobody can take now may be helped later; one whose request makes no sense cannot."""
        meta = args.pod.metadata
        if any(verdict.feasible for verdict in verdicts):
            self._waker.accepted(meta.uid)
        elif isinstance(demand, Demand):
            self._waker.rejected(meta.namespace or "default", meta.name, meta.uid, demand, names)

    def _filter_result(
        self, args: protocol.ExtenderArgs, named: dict[str, msgspec.Raw | None], verdicts: Sequence[Verdict]
    ) -> protocol.ExtenderFilterResult:
        passed: list[str] = []
        failed: dict[str, str] = {}
        unresolvable: dict[str, str] = {}
        for name, verdict in zip(named, verdicts, strict=True):
            reason = verdict.reason
            if reason is None:
                passed.append(name)
            elif verdict.curable:
                failed[name] = reason
            else:
                unresolvable[name] = reason
        self._passed.inc(len(passed))
        self._failed.inc(len(named) - len(passed))
        return protocol.filter_result(args, named, passed, failed, unresolvable)

    def prioritize(self, body: bytes) -> bytes:
        """An integer score 0..10 for each named node, once, and the top one for one node alone. Raises RequestError."""
        asked = _Asked(protocol.decode_args(body), len(body))
        named = protocol.named_nodes(asked.args)
        names = list(named)
        snapshot, holds = self._live.moment
        snapshot, holds = self._as_filtered(asked, snapshot, holds)
        snapshot = self._with_sent(snapshot, named)
        cycle = begin(snapshot, holds, asked.args.pod, self._settings.resource, asked.steady_seconds)
        demand, foreign = cycle.demand, self._settings.is_foreign(asked.args.pod.spec.scheduler_name)
        if foreign or not snapshot.synced or isinstance(demand, Rejection) or not demand.may_hold_gpus:
            return protocol.encode([protocol.HostPriority(name, 0) for name in names])
        verdicts = judge_all(self._judge, snapshot, demand, names, cycle.guests)
        ranks = self._ranker.rank(demand, verdicts)
        decided = ranks.decided(names, verdicts, cycle.key)
        self._remember("prioritize", asked, cycle, names, verdicts, decided, None, ranks)
        if decided is not None:
            self._hold(asked, cycle, decided, verdicts[names.index(decided)])
        scores = ranks.scores_but_one
        return protocol.encode(
            [
                protocol.HostPriority(name, TOP_SCORE if name == decided else scores.get(verdict, 0))
                for name, verdict in zip(names, verdicts, strict=True)
            ]
        )

    def preempt(self, body: bytes) -> bytes:
        """Which of the candidate nodes' victims are worth their eviction; an empty map vetoes them all. Raises RequestError."""
        args = protocol.decode_preemption(body)
        candidates = protocol.candidates_of(args)
        snapshot, holds = self._live.moment
        now, resource = time.monotonic(), self._settings.resource
        if self._settings.is_foreign(args.pod.spec.scheduler_name):
            return protocol.encode(protocol.preemption_result(candidates))
        if not snapshot.synced or snapshot.age_seconds(now) > self._settings.kube.max_state_age_seconds:
            self._metrics.verb_errors.labels("preempt", "stale" if snapshot.synced else "not synced").inc()
            return protocol.encode(protocol.preemption_result([]))  # nobody is evicted on a guess
        cycle = begin(snapshot, holds, args.pod, resource, now)
        if isinstance(cycle.demand, Rejection):
            return protocol.encode(protocol.preemption_result([]))
        if not cycle.demand.may_hold_gpus:
            return protocol.encode(protocol.preemption_result(candidates))
        found = preferred(cycle, cycle.demand, candidates, others_needed(args.pod, resource), self._world)
        meta = args.pod.metadata
        helping = "; ".join(f"{len(one.candidate.victims)} victims, {one.gpus} GPUs on {one.candidate.node}" for one in found)
        logger.info("preempt for %s/%s: %d candidates, %s", meta.namespace, meta.name, len(candidates), helping or "none helps")
        return protocol.encode(protocol.preemption_result([one.candidate for one in found]))

    async def bind(self, body: bytes) -> bytes:
        """Bind the pod to the node, if that still is right; never success without a binding. Raises RequestError."""
        args = protocol.decode_binding(body)
        loop = asyncio.get_running_loop()
        self._live.answering = False  # what follows waits for the API server
        error = await loop.run_in_executor(
            self._binding, self._binder.bind, args.pod_namespace or "default", args.pod_name, args.pod_uid, args.node
        )
        if error:
            self._metrics.verb_errors.labels("bind", "refused").inc()
        return protocol.encode(protocol.ExtenderBindingResult(error))

    def _remember(
        self, verb: str, asked: _Asked, cycle: Cycle, names: list[str], verdicts: Sequence[Verdict], decided: str | None,
        stall: Stall | None = None, ranks: Ranks = NO_RANKS,
    ) -> None:  # fmt: skip
        """Keep the decision."""
        meta, snapshot = asked.args.pod.metadata, cycle.snapshot
        self._log.add(
            Decision(
                at_seconds=time.time(),
                verb=verb,
                pod=meta.name,
                namespace=meta.namespace or "default",
                uid=meta.uid,
                spec=asked.args.pod,
                demand=cycle.demand,
                names=names,
                verdicts=verdicts,
                ranks=ranks,
                body_bytes=asked.body_bytes,
                took_seconds=time.perf_counter() - asked.started,
                revision=snapshot.revision,
                decided=decided,
                stall=stall.value if stall else None,
                state_age_seconds=snapshot.age_seconds(asked.steady_seconds),
            )
        )

    @staticmethod
    def _filter_error(message: str) -> Response:
        return Response(protocol.encode(protocol.ExtenderFilterResult(error=message)), media_type="application/json")

    @staticmethod
    def _bind_error(message: str) -> Response:
        return Response(protocol.encode(protocol.ExtenderBindingResult(message)), media_type="application/json")

    @staticmethod
    def _bare_error(content: bytes) -> Callable[[str], Response]:
        """An answer without room for an error; the header tells a person, kube-scheduler goes on without scores, or evicts nobody."""

        def refuse(message: str) -> Response:
            safe = message.encode("ascii", "replace").decode()[:500].replace("\n", " ").replace("\r", " ")
            return Response(content, media_type="application/json", headers={"X-Fabricwise-Error": safe})

        return refuse


def _at_once(answer: Callable[[bytes], bytes]) -> Callable[[bytes], Awaitable[bytes]]:
    """The same for who awaits."""

    async def answered(body: bytes) -> bytes:
        return answer(body)

    answered.__doc__ = answer.__doc__
    return answered


def _in_a_thread(answer: Callable[[bytes], bytes]) -> Callable[[bytes], Awaitable[bytes]]:
    """The same where it may take longer than others should wait: hundreds of candidates, each to be derived anew."""

    async def answered(body: bytes) -> bytes:
        return await run_in_threadpool(answer, body)

    answered.__doc__ = answer.__doc__
    return answered
