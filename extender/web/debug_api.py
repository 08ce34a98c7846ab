"""For people: why was this decided, what is known of that node. Reads the same snapshot as the verbs do.

Long answers are made in worker threads, so that a person's question never holds up kube-scheduler's.
"""

from __future__ import annotations

import difflib
import time
from collections import Counter
from typing import Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse

from extender.decision.cycle.assumed_pods import AssumedPods
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.scorers import Ranker
from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.node.node_state import NodeView
from extender.decision.report.node_checks import all_reports, node_report
from extender.decision.report.placement_record import placement_record_of
from extender.decision.report.prediction_outcomes import Outcome
from extender.decision.report.serializers import (
    assumed_pod_answer,
    demand_answer,
    explain,
    node_answer,
    node_detail,
    node_summary,
    nodes_without_view,
    notes_by_node,
    outcome_answer,
    set_aside_answer,
)
from extender.decision.request.inferred_workload import inferred
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.state.snapshot import Snapshot
from extender.errors import RequestError
from extender.loading import DocumentError, load_documents
from extender.metrics import Metrics
from extender.pod_templates import PodTemplate, templates_of
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.decision_log import Decision, DecisionLog
from extender.scheduling.ports import ClusterWriter
from extender.scheduling.supervision import Supervisor
from extender.settings import Settings
from extender.web.body import read_body

MOST_POD_BYTES = 3 << 20
"""A larger manifest cannot be a pod's: etcd takes 1.5 MiB."""

MOST_TEMPLATES = 10
"""Pod templates in one request, each of which is held against every node."""

MOST_VERDICTS = 50_000
"""Verdicts in one answer of /v1/decisions: some 50 MB of JSON."""

_encode = msgspec.json.Encoder().encode


def pods_from(manifest: Any, source: str = "the manifest") -> tuple[Pod, KubePod]:
    """A Pod manifest as parsed YAML or JSON -> the pod as decisions and as kube-scheduler's filters see it.

    Raises RequestError naming `source`.
    """
    try:
        return msgspec.convert(manifest, Pod, strict=False), msgspec.convert(manifest, KubePod, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(
            f"{source} is not a Pod manifest: {error}. `kubectl explain pod` has the fields; `kubectl get pod NAME -o yaml` prints one"
        ) from error


class DebugApi:
    """`/v1`, health and metrics."""

    def __init__(
        self,
        store: ClusterStore,
        evaluator: Evaluator,
        ranker: Ranker,
        settings: Settings,
        metrics: Metrics,
        log: DecisionLog,
        writer: ClusterWriter,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._writer, self._supervisor = writer, supervisor or Supervisor(metrics)
        self._store, self._evaluator, self._ranker, self._settings, self._metrics, self._log = (
            store,
            evaluator,
            ranker,
            settings,
            metrics,
            log,
        )

    def health_router(self) -> APIRouter:
        """What the kubelet and Prometheus ask for."""
        router = APIRouter()
        router.add_api_route("/healthz", self.healthz, methods=["GET"], tags=["health"], response_class=PlainTextResponse)
        router.add_api_route("/readyz", self.readyz, methods=["GET"], tags=["health"], response_class=PlainTextResponse)
        router.add_api_route("/metrics", self.metrics, methods=["GET"], tags=["health"])
        return router

    def router(self) -> APIRouter:
        """All routes."""
        router = self.health_router()
        router.add_api_route("/v1/explain", self.explain, methods=["POST"], tags=["debug"], openapi_extra=_POD_BODY)
        router.add_api_route("/v1/nodes", self.nodes, methods=["GET"], tags=["debug"])
        router.add_api_route("/v1/nodes/{name}", self.node, methods=["GET"], tags=["debug"])
        router.add_api_route("/v1/telemetry", self.telemetry, methods=["GET"], tags=["debug"])
        router.add_api_route("/v1/nodes/{name}/report", self.report, methods=["GET"], tags=["debug"])
        router.add_api_route("/v1/reports", self.reports, methods=["GET"], tags=["debug"])
        router.add_api_route("/v1/assumed-pods", self.assumed_pods, methods=["GET"], tags=["debug"])
        router.add_api_route("/v1/decisions", self.decisions, methods=["GET"], tags=["debug"])
        return router

    async def healthz(self) -> Response:
        """Alive."""
        return PlainTextResponse("ok")

    async def readyz(self) -> Response:
        """200 once nodes, pods and topologies have been listed and while every loop runs; 503 names what is missing or down."""
        missing, down = self._store.snapshot.missing, self._supervisor.down()
        problems = [f"not yet listed: {', '.join(missing)}"] * bool(missing) + [f"fails again and again: {', '.join(down)}"] * bool(down)
        return PlainTextResponse("; ".join(problems), 503) if problems else PlainTextResponse("ok")

    def metrics(self) -> Response:
        """Prometheus exposition."""
        snapshot = self._store.snapshot
        self._metrics.synced.set(snapshot.synced)
        self._metrics.loops_down.set(len(self._supervisor.down()))
        self._metrics.state_age.set(snapshot.age_seconds(time.monotonic()))
        self._metrics.assumed_pods.set(len(self._store.assumed_pods.by_pod))
        self._metrics.leading.set(self._writer.is_leading)
        self._metrics.revision.set(snapshot.revision)
        known = sum(view.state.table is not None for view in snapshot.views.values())
        problems = sum(view.problem is not None for view in snapshot.views.values())
        self._metrics.disagreements.set(sum(len(view.disagreements) for view in snapshot.views.values()))
        self._metrics.stale.set(sum(view.stale_since_seconds is not None for view in snapshot.views.values()))
        for topology, count in (("known", known), ("contradicted", problems), ("unknown", len(snapshot.views) - known - problems)):
            self._metrics.known_nodes.labels(topology).set(count)
        self._metrics.fenced.set(sum(len(view.state.faults) for view in snapshot.views.values()))
        standing = Counter(_telemetry_state(view) for view in snapshot.views.values())
        for state in ("fresh", "stale", "none"):
            self._metrics.telemetry_nodes.labels(state).set(standing[state])
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4")

    def assumed_pods(self) -> Response:
        """Pods that were decided for a node and are not visible there yet, oldest first."""
        snapshot, assumed_pods = self._store.moment
        now = time.monotonic()
        ended = set(assumed_pods.ended(snapshot, now))
        return _json(
            {"assumed_pods": [assumed_pod_answer(assumed_pod, now) for key, assumed_pod in assumed_pods.by_pod.items() if key not in ended]}
        )

    def telemetry(self) -> Response:
        """What is asked for telemetry, and who does not answer."""
        return _json(self._writer.telemetry() if self._writer.telemetry else {"source": "off", "targets": 0, "looks": []})

    async def explain(self, request: Request) -> Response:
        """What would be decided about this Pod, or about the pods of this workload (JSON or YAML), node by node, with the numbers.

        Several pod templates are answered as a list, `explanations`.
        """
        try:
            body = await read_body(request, MOST_POD_BYTES, self._settings.limits.body_seconds, "send the manifest of one pod")
            return await run_in_threadpool(self._explain, body)
        except RequestError as error:
            return _json({"error": str(error)}, 400)

    def _explain(self, body: bytes) -> Response:
        templates = _templates(body)
        snapshot, assumed_pods = self._store.moment
        if not snapshot.synced:
            return _json(
                {"error": f"not yet listed: {', '.join(snapshot.missing)}; try again in some seconds; if this stays, see the log"},
                503,
            )
        now = time.monotonic()
        age = {"state_age_seconds": round(snapshot.age_seconds(now), 1)} if snapshot.watch_lost_at else {}
        common = {"cluster": self._writer.cluster, **age}
        answers = [{**self._explain_one(one, snapshot, assumed_pods, now), "of": one.source} for one in templates]
        return _json({**(answers[0] if len(answers) == 1 else {"explanations": answers}), **common})

    def _explain_one(self, template: PodTemplate, snapshot: Snapshot, assumed_pods: AssumedPods, now: float) -> dict[str, Any]:
        """The pods on the nodes are kept as far as decisions need them: what more kube-scheduler's filters need is named as not checked."""
        pod, kube_pod = pods_from(template.manifest, template.source)
        kube = evaluate(kube_pod, Surroundings(snapshot.nodes))
        answer = explain(self._evaluator, self._ranker, snapshot, pod, self._settings.resource, assumed_pods, now, kube)
        return {**answer, "not_checked": [*answer["not_checked"], *template.not_known]}

    def nodes(self) -> Response:
        """All nodes, a summary each, with what is set aside of each; then everything that is set aside."""
        snapshot = self._store.snapshot
        notes = notes_by_node(snapshot)
        rows = [{**node_summary(snapshot.views[name]), "set_aside": notes.get(name, [])} for name in sorted(snapshot.views)]
        for name in nodes_without_view(snapshot):
            problem = "it could not be evaluated"
            rows.append({"node": name, "topology": f"topology unknown: {problem}", "problem": problem, "set_aside": notes[name]})
        return _json({"nodes": rows, "set_aside": set_aside_answer(snapshot)})

    def node(self, name: str) -> Response:
        """One node: hardware, who holds what, what is believed free."""
        snapshot = self._store.snapshot
        view = snapshot.views.get(name)
        if view is None:
            return _json({"error": _no_node(name, sorted(snapshot.views))}, 404)
        detail = node_detail(view, snapshot.topologies.get(name), snapshot, self._store.defaults.tuning)
        detail["set_aside"] = notes_by_node(snapshot).get(name, [])
        now, (_, assumed_pods) = time.monotonic(), self._store.moment
        ended = set(assumed_pods.ended(snapshot, now))
        detail["assumed_pods"] = [
            assumed_pod_answer(one, now) for key, one in assumed_pods.by_pod.items() if one.node == name and key not in ended
        ]
        return _json(detail)

    def report(self, name: str) -> Response:
        """A node's report card: every check with its evidence and remedy, and the eight questions of a baseline."""
        snapshot = self._store.snapshot
        found = node_report(name, snapshot, self._settings.resource, self._store.defaults.tuning)
        if found is None:
            return _json({"error": _no_node(name, sorted(snapshot.views))}, 404)
        return _json({**found, "cluster": self._writer.cluster})

    def reports(self) -> Response:
        """The report cards of all nodes with GPUs."""
        snapshot = self._store.snapshot
        cards = all_reports(snapshot, self._settings.resource, self._store.defaults.tuning)
        return _json({"nodes": cards, "cluster": self._writer.cluster})

    def decisions(self, limit: int = Query(20, ge=1, le=1000, description="decisions, newest first"), pod: str | None = None) -> Response:
        """Recent filter and prioritize decisions, newest first, with every node's verdict.

        `truncated` says that older ones were left out because the answer grew too long.
        """
        rows: list[dict[str, Any]] = []
        verdicts, truncated = 0, False
        for decision in self._log.recent():
            if pod is not None and pod not in (decision.pod, f"{decision.namespace}/{decision.pod}", decision.uid):
                continue
            truncated = bool(rows) and verdicts + len(decision.names) > MOST_VERDICTS
            if truncated or len(rows) >= limit:
                break
            verdicts += len(decision.names)
            rows.append(_decision(decision, self._log.outcome(decision.uid), self._settings.resource))
        return _json({"decisions": rows, "truncated": truncated})


def _telemetry_state(view: NodeView) -> str:
    store = view.state.device_telemetry
    return "none" if not any(store.device_loads) and not store.stale else "stale" if store.stale else "fresh"


def _decision(decision: Decision, outcome: Outcome | None, resource: str) -> dict[str, Any]:
    demand = decision.demand
    told = inferred(decision.spec, demand, resource)
    pairs = list(zip(decision.names, decision.verdicts, strict=True))
    evidence = next((verdict.evidence for name, verdict in pairs if name == decision.decided), None)
    return {
        "at_seconds": decision.at_seconds,
        "verb": decision.verb,
        "pod": f"{decision.namespace}/{decision.pod}",
        "uid": decision.uid,
        "demand": demand_answer(decision.demand),
        "took_seconds": decision.took_seconds,
        "revision": decision.revision,
        "nodes": [node_answer(name, verdict, decision.ranks.get(verdict, name == decision.decided)) for name, verdict in pairs],
        "outcome": outcome_answer(outcome) if outcome else None,
        "warnings": list(told.warnings),
        "decided": decision.decided,
        "id": placement_record_of(decision.uid, decision.decided, evidence).id if evidence is not None and decision.decided else None,
        "error": decision.stall,
        "state_age_seconds": round(decision.state_age_seconds, 1),
    }


def _no_node(name: str, names: list[str]) -> str:
    """That no node has the name, and which do; the likely ones first."""
    close = difflib.get_close_matches(name, names, n=3)
    shown = ", ".join(close or names[:5]) or "none yet"
    return (
        f"no node {name[:253]!r} is known: did you mean {shown}?"
        if close
        else f"no node {name[:253]!r} is known; nodes: {shown}, all in /v1/nodes"
    )


def _templates(body: bytes) -> tuple[PodTemplate, ...]:
    """The pod templates of the body. Raises RequestError."""
    try:
        documents = load_documents(body, "request body")
    except DocumentError as error:
        raise RequestError(str(error)) from error
    templates = templates_of(documents, "request body").pods
    if len(templates) > MOST_TEMPLATES:
        raise RequestError(f"request body: {len(templates)} pod templates, at most {MOST_TEMPLATES} are answered at once: send fewer")
    return templates


def _json(content: object, status: int = 200) -> Response:
    return Response(_encode(content), status, media_type="application/json")


_POD_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object", "title": "Pod"}}}}}
