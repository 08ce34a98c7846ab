"""The debug API, `/v1`: why a pod was decided for a node, and what is known of each node. It reads the state that the verbs read.

Handlers that are plain functions run in worker threads, so that a long answer does not delay kube-scheduler's calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.report.checks.node_checks import all_reports, node_report
from extender.decision.report.serializers import explanation
from extender.decision.request.kubernetes_objects import Pod
from extender.errors import RequestError
from extender.loading import DocumentError, load_documents
from extender.pod_templates import PodTemplate, templates_of
from extender.scheduling.ports import TelemetryStatus, telemetry_off
from extender.scheduling.scheduling_service import SchedulingService
from extender.settings import Settings
from extender.telemetry.conditions import Tuning
from extender.web.answer_types.explanation_types import Explanation, Explanations
from extender.web.answer_types.node_types import AssumedPodsAnswer, NodePage, NodesAnswer, TelemetryAnswer
from extender.web.answer_types.report_types import ReportCard, ReportsAnswer
from extender.web.body import read_body
from extender.web.debug_serializers import assumed_pods_answer, no_node, node_page, nodes_answer
from extender.web.openapi import POD_EXAMPLE, Manifest, NodeNameParameter, described

MOST_POD_BYTES = 3 << 20
"""A larger manifest cannot be a pod's: etcd takes 1.5 MiB."""

MOST_TEMPLATES = 10
"""Pod templates in one request; each is evaluated on every node."""

MOST_NAME_CHARACTERS = 512
"""Longer than any namespace/name or uid: a name has at most 253 characters."""

_encode = msgspec.json.Encoder().encode


def pods_from(manifest: Any, source: str = "the manifest") -> tuple[Pod, KubePod]:
    """Return the pod of a manifest (parsed YAML or JSON) as the evaluator and as kube-scheduler's filters read it.

    Raises RequestError naming `source`.
    """
    try:
        return msgspec.convert(manifest, Pod, strict=False), msgspec.convert(manifest, KubePod, strict=False)
    except msgspec.ValidationError as error:
        raise RequestError(
            f"{source} is not a Pod manifest: {error}. `kubectl explain pod` has the fields; `kubectl get pod NAME -o yaml` prints one"
        ) from error


class DebugApi:
    """The routes of `/v1`."""

    def __init__(
        self,
        service: SchedulingService,
        settings: Settings,
        *,
        cluster: str | None = None,
        telemetry: TelemetryStatus = telemetry_off,
    ) -> None:
        """`cluster`: the name of the cluster, for people."""
        self._service, self._settings, self._cluster, self._telemetry = service, settings, cluster, telemetry

    def router(self) -> APIRouter:
        """All routes."""
        router = APIRouter(prefix="/v1", tags=["debug"])
        explained = described((Explanation, Explanations), errors=(400, 503), body=(Pod, Manifest), example=POD_EXAMPLE)
        router.add_api_route("/explain", self.explain, methods=["POST"], **explained)
        router.add_api_route("/nodes", self.nodes, methods=["GET"], **described(NodesAnswer))
        router.add_api_route("/nodes/{name}", self.node, methods=["GET"], **described(NodePage, errors=(404,)))
        router.add_api_route("/telemetry", self.telemetry, methods=["GET"], **described(TelemetryAnswer))
        router.add_api_route("/nodes/{name}/report", self.report, methods=["GET"], **described(ReportCard, errors=(404,)))
        router.add_api_route("/reports", self.reports, methods=["GET"], **described(ReportsAnswer))
        router.add_api_route("/assumed-pods", self.assumed_pods, methods=["GET"], **described(AssumedPodsAnswer))
        return router

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
        pods = [(template, *pods_from(template.manifest, template.source)) for template in _templates(body)]
        moment = self._service.moment()
        snapshot = moment.snapshot
        if not snapshot.synced:
            return _json(
                {"error": f"not yet listed: {', '.join(snapshot.missing)}; try again in some seconds; if this stays, see the log"},
                503,
            )
        age = {"state_age_seconds": round(snapshot.age_seconds(moment.monotonic_seconds), 1)} if snapshot.watch_lost_at else {}
        answers = [self._explanation(template, pod, kube_pod, moment) for template, pod, kube_pod in pods]
        return _json({**(answers[0] if len(answers) == 1 else {"explanations": answers}), "cluster": self._cluster, **age})

    def _explanation(self, template: PodTemplate, pod: Pod, kube_pod: KubePod, moment: Moment) -> dict[str, Any]:
        """Return the explanation of one template.

        The snapshot has only those fields of other pods that the evaluator reads: kube-scheduler's filters that need more are listed in
        `not_checked`.
        """
        kube = evaluate(kube_pod, Surroundings(moment.snapshot.nodes, class_resources=moment.snapshot.dra.mapped))
        evaluation = self._service.explain(pod, moment, kube.refusals)
        answer = explanation(evaluation, pod, self._settings.resource, kube)
        return {**answer, "not_checked": [*answer["not_checked"], *template.not_known], "of": template.source}

    def nodes(self) -> Response:
        """All nodes, a summary each, with what is set aside of each; then everything that is set aside."""
        return _json(nodes_answer(self._service.moment().snapshot))

    def node(self, name: NodeNameParameter) -> Response:
        """One node: its hardware, its pods and their GPUs, and the sets of GPUs that may be free."""
        moment = self._service.moment()
        return self._of_node(name, node_page(moment, name, self._tuning), moment)

    def report(self, name: NodeNameParameter) -> Response:
        """A node's report card: every check with its evidence and remedy, and the eight questions of a baseline."""
        moment = self._service.moment()
        card = node_report(name, moment.snapshot, self._settings.resource, self._tuning)
        return self._of_node(name, None if card is None else {**card, "cluster": self._cluster}, moment)

    def reports(self) -> Response:
        """The report cards of all nodes with GPUs."""
        cards = all_reports(self._service.moment().snapshot, self._settings.resource, self._tuning)
        return _json({"nodes": cards, "cluster": self._cluster})

    def assumed_pods(self) -> Response:
        """Pods that were decided for a node and are not visible there yet, oldest first."""
        return _json({"assumed_pods": assumed_pods_answer(self._service.moment())})

    def telemetry(self) -> Response:
        """The targets that are scraped for telemetry, with the result of the last scrape of each."""
        return _json(self._telemetry())

    @property
    def _tuning(self) -> Tuning:
        return self._service.store.defaults.tuning

    @staticmethod
    def _of_node(name: str, answer: Mapping[str, Any] | None, moment: Moment) -> Response:
        return _json({"error": no_node(moment.snapshot, name)}, 404) if answer is None else _json(answer)


def _templates(body: bytes) -> tuple[PodTemplate, ...]:
    """Return the pod templates of the body. Raises RequestError."""
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
