"""POST /v1/explain: what would be decided about a pod, node by node. It changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from extender.decision.cycle.scheduling_cycle import Evaluation, Moment, by_rank, evaluate_pod, known_nodes
from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.report.serializers import explanation
from extender.decision.request.kubernetes_objects import Pod
from extender.errors import RequestError
from extender.loading import DocumentError, load_documents
from extender.pod_templates import PodTemplate, templates_of
from extender.scheduling.scheduling_service import SchedulingService
from extender.settings import Settings
from extender.web.answer_types.explanation_types import Explanation, Explanations
from extender.web.body import is_long, read_body
from extender.web.long_work import LongWork
from extender.web.openapi import POD_EXAMPLE, Manifest, described
from extender.web.pod_manifests import MOST_POD_BYTES, pods_from
from extender.web.questions.asked import Answer, OwnContext, answered, refused, response_of_answer

EXPLAIN_SECONDS = 20.0
"""Time to answer about a long body."""
MOST_TEMPLATES = 10
"""Pod templates in one request; each is evaluated on every node."""

Evaluate = Callable[[Pod, Moment, Collection[str]], Evaluation]
"""(pod, moment, nodes that kube-scheduler's own filters refuse) -> evaluation on all known nodes."""


class ExplainApi:
    """The route."""

    def __init__(
        self, service: SchedulingService, settings: Settings, long_work: LongWork, own_context: OwnContext, *, cluster: str | None = None
    ) -> None:
        """`cluster`: the name of the cluster, for people."""
        self._service, self._settings, self._long_work = service, settings, long_work
        self._own_context, self._cluster = own_context, cluster

    def router(self) -> APIRouter:
        """The route."""
        router = APIRouter(prefix="/v1", tags=["questions"])
        types = described((Explanation, Explanations), errors=(400, 503), body=(Pod, Manifest), example=POD_EXAMPLE)
        router.add_api_route("/explain", self.explain, methods=["POST"], **types)
        return router

    async def explain(self, request: Request) -> Response:
        """What would be decided about this Pod, or about the pods of this workload (JSON or YAML), node by node, with the numbers.

        Several pod templates are answered as a list, `explanations`.
        """
        try:
            body = await read_body(request, MOST_POD_BYTES, self._settings.limits.body_seconds, "send the manifest of one pod")
            moment = self._service.moment()
            if is_long(body):
                return await answered(self._long_work, lambda _: self._answer(body, moment, self._by_own_context), EXPLAIN_SECONDS)
            return response_of_answer(await run_in_threadpool(self._answer, body, moment, lambda _: self._service.explain))
        except RequestError as error:
            return response_of_answer(refused(str(error)))

    def _answer(self, body: bytes, moment: Moment, prepared: Callable[[Moment], Evaluate]) -> Answer:
        """Return the answer to a body. `prepared` is called once, for a body that can be used. Raises RequestError."""
        pods = [(template, *pods_from(template.manifest, template.source)) for template in _templates(body)]
        snapshot = moment.snapshot
        if not snapshot.synced:
            return refused(f"not yet listed: {', '.join(snapshot.missing)}; try again in some seconds; if this stays, see the log", 503)
        age = {"state_age_seconds": round(snapshot.age_seconds(moment.monotonic_seconds), 1)} if snapshot.watch_lost_at else {}
        evaluated = prepared(moment)
        answers = [self._explanation(template, pod, kube_pod, moment, evaluated) for template, pod, kube_pod in pods]
        return Answer({**(answers[0] if len(answers) == 1 else {"explanations": answers}), "cluster": self._cluster, **age})

    def _explanation(self, template: PodTemplate, pod: Pod, kube_pod: KubePod, moment: Moment, evaluated: Evaluate) -> dict[str, Any]:
        """Return the explanation of one template.

        The snapshot has only those fields of other pods that the evaluator reads: kube-scheduler's filters that need more are listed in
        `not_checked`.
        """
        kube = evaluate(kube_pod, Surroundings(moment.snapshot.nodes, class_resources=moment.snapshot.dra.mapped))
        answer = explanation(evaluated(pod, moment, kube.refusals), pod, self._settings.resource, kube)
        return {**answer, "not_checked": [*answer["not_checked"], *template.not_known], "of": template.source}

    def _by_own_context(self, moment: Moment) -> Evaluate:
        """Return what evaluates in a child process, which must not wait for the locks of the service's evaluator."""
        context, ranker = self._own_context()
        context.evaluator.learn(moment.snapshot)
        names = known_nodes(moment.snapshot)
        return lambda pod, moment, excluded: evaluate_pod(context, moment, pod, names, by_rank(ranker, excluded))


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
