"""The verbs kube-scheduler calls. Always 200: anything else costs it the connection and tells it less.

Nothing here waits: a verb reads the snapshot, judges from memory, answers. It changes nothing outside memory.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
from fastapi import APIRouter, Request, Response

from extender.decision.answers import demand_in, judge_all
from extender.decision.cluster import Snapshot
from extender.decision.demand import Demand
from extender.decision.judge import Judge
from extender.decision.reasons import Reason, Rejection
from extender.decision.scores import NO_RANKS, Ranker, Ranks
from extender.decision.verdict import Verdict
from extender.decision_log import Decision, DecisionLog
from extender.errors import RequestError
from extender.live import LiveCluster
from extender.metrics import Metrics
from extender.settings import Settings
from extender.waking import Waker
from extender.web import protocol
from extender.web.body import read_body

NOT_SYNCED = "fabricwise has not yet listed nodes, pods and topologies; try again"
INTERNAL = "fabricwise failed to judge this request; its log says why"
LAGGING = "fabricwise does not yet see the GPUs free that were nominated to this pod; try again"

logger = logging.getLogger("fabricwise.verbs")

_SETTLE_SECONDS = 0.05


class SchedulerApi:
    """filter and prioritize, over one live cluster."""

    def __init__(
        self, live: LiveCluster, judge: Judge, ranker: Ranker, settings: Settings, metrics: Metrics, log: DecisionLog, waker: Waker
    ) -> None:
        self._waker = waker
        self._live, self._judge, self._ranker, self._settings, self._metrics, self._log = live, judge, ranker, settings, metrics, log
        self._verb_seconds = {verb: metrics.verb_seconds.labels(verb) for verb in ("filter", "prioritize")}
        self._passed, self._failed = metrics.nodes.labels("passed"), metrics.nodes.labels("failed")

    def router(self) -> APIRouter:
        """The two routes."""
        router = APIRouter(prefix="/scheduler", tags=["scheduler verbs"])
        router.add_api_route("/filter", self._route("filter", self.filter, self._filter_error), methods=["POST"], openapi_extra=_DOC)
        router.add_api_route(
            "/prioritize", self._route("prioritize", self.prioritize, self._prioritize_error), methods=["POST"], openapi_extra=_DOC
        )
        return router

    def _route(self, verb: str, answer: Callable[[bytes], bytes], refuse: Callable[[str], Response]) -> Callable[..., object]:
        observe = self._verb_seconds[verb].observe

        async def handle(request: Request) -> Response:
            try:
                body = await read_body(request, self._settings.limits.max_body_bytes)
                started = time.perf_counter()
                self._live.answering = True
                content = answer(body)
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
        started = time.perf_counter()
        args = protocol.decode_args(body)
        named = protocol.named_nodes(args)
        snapshot = self._live.snapshot
        if not snapshot.synced:
            self._metrics.verb_errors.labels("filter", "not synced").inc()
            return protocol.encode(protocol.ExtenderFilterResult(error=NOT_SYNCED))
        demand = demand_in(snapshot, args.pod, self._settings.resource)
        names = list(named)
        verdicts = judge_all(self._judge, snapshot, demand, names)
        self._remember("filter", args, demand, names, verdicts, snapshot, (started, len(body)))
        if self._lags(args, names, verdicts):
            self._metrics.verb_errors.labels("filter", "lagging").inc()
            return protocol.encode(protocol.ExtenderFilterResult(error=LAGGING))
        self._tell_waker(args, demand, names, verdicts)
        return protocol.encode(self._filter_result(args, named, verdicts))

    def _tell_waker(self, args: protocol.ExtenderArgs, demand: Demand | Rejection, names: list[str], verdicts: list[Verdict]) -> None:
        """A pod that nobody can take now may be helped later; one whose request makes no sense cannot."""
        meta = args.pod.metadata
        if any(verdict.feasible for verdict in verdicts):
            self._waker.accepted(meta.uid)
        elif isinstance(demand, Demand):
            self._waker.rejected(meta.namespace or "default", meta.name, meta.uid, demand, names)

    def _filter_result(
        self, args: protocol.ExtenderArgs, named: dict[str, msgspec.Raw | None], verdicts: list[Verdict]
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
        if args.node_names is None and args.nodes is not None:
            items = [item for name in passed if (item := named[name]) is not None]
            return protocol.ExtenderFilterResult(protocol.EchoedNodes(items), None, failed, unresolvable)
        return protocol.ExtenderFilterResult(None, passed, failed, unresolvable)

    def _lags(self, args: protocol.ExtenderArgs, names: list[str], verdicts: list[Verdict]) -> bool:
        """Nothing fits but, by kube-scheduler's count, the node nominated to this very pod: its victims are gone, we lag.

        A rejection here would make it evict from a second node too; an error costs one retry.
        """
        nominated = args.pod.status.nominated_node_name if args.pod.status else None
        if not nominated or nominated not in names or any(verdict.feasible for verdict in verdicts):
            return False
        rejection = verdicts[names.index(nominated)].rejection
        return rejection is not None and rejection.reason is Reason.TOO_FEW_FREE

    def prioritize(self, body: bytes) -> bytes:
        """An integer score 0..10 for each named node, once. Raises RequestError."""
        started = time.perf_counter()
        args = protocol.decode_args(body)
        names = list(protocol.named_nodes(args))
        snapshot = self._live.snapshot
        demand = demand_in(snapshot, args.pod, self._settings.resource)
        if not snapshot.synced or isinstance(demand, Rejection) or not demand.total:
            return protocol.encode([protocol.HostPriority(name, 0) for name in names])
        verdicts = judge_all(self._judge, snapshot, demand, names)
        ranks = self._ranker.rank(demand, verdicts)
        self._remember("prioritize", args, demand, names, verdicts, snapshot, (started, len(body)), ranks)
        scores, pairs = ranks.scores, zip(names, verdicts, strict=True)
        return protocol.encode([protocol.HostPriority(name, scores.get(verdict, 0)) for name, verdict in pairs])

    def _remember(
        self, verb: str, args: protocol.ExtenderArgs, demand: Demand | Rejection, names: list[str],
        verdicts: list[Verdict], snapshot: Snapshot, request: tuple[float, int], ranks: Ranks = NO_RANKS,
    ) -> None:  # fmt: skip
        """Keep the decision; `request` is when it came (monotonic seconds) and its length in bytes."""
        meta, (started, body_bytes) = args.pod.metadata, request
        self._log.add(
            Decision(
                at_seconds=time.time(),
                verb=verb,
                pod=meta.name,
                namespace=meta.namespace or "default",
                uid=meta.uid,
                spec=args.pod,
                demand=demand,
                names=names,
                verdicts=verdicts,
                ranks=ranks,
                body_bytes=body_bytes,
                took_seconds=time.perf_counter() - started,
                revision=snapshot.revision,
            )
        )

    @staticmethod
    def _filter_error(message: str) -> Response:
        return Response(protocol.encode(protocol.ExtenderFilterResult(error=message)), media_type="application/json")

    @staticmethod
    def _prioritize_error(message: str) -> Response:
        """An array has no room for an error; the header tells a person, kube-scheduler goes on without scores."""
        safe = message.encode("ascii", "replace").decode()[:500].replace("\n", " ").replace("\r", " ")
        return Response(b"[]", media_type="application/json", headers={"X-Fabricwise-Error": safe})


_DOC = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "title": "ExtenderArgs", "required": ["Pod"]},
                "example": {
                    "Pod": {
                        "metadata": {"name": "llm", "namespace": "default", "uid": "1"},
                        "spec": {"containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "4"}}}]},
                    },
                    "NodeNames": ["gpu-a", "gpu-b"],
                },
            }
        },
    }
}
