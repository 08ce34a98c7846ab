"""A node after some of its pods have left, by all filters together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from extender.decision.cycle.scheduling_cycle import verdict_without
from extender.decision.evaluate.verdict import Verdict
from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.request.pod_request import Demand
from extender.decision.why.helping.remedy_case import Case


def verdict_after(case: Case, demand: Demand, name: str, gone: frozenset[str]) -> Verdict | None:
    """Return the verdict on a node after the pods with these keys have left, if the pod fits then by all filters; else None."""
    question = case.question
    verdict = verdict_without(case.evaluated.evaluation.cycle, demand, name, gone, question.context)
    if verdict is None or not verdict.feasible:
        return None
    if question.kube_pod is not None:
        around = question.around
        if around.pods is not None:
            around = replace(around, pods=_pods_without(around.pods, name, gone))
        if evaluate(question.kube_pod, around, (name,)).refusals:
            return None
    return verdict


def _pods_without(pods: Mapping[str, tuple[KubePod, ...]], name: str, gone: frozenset[str]) -> Mapping[str, tuple[KubePod, ...]]:
    return {**pods, name: tuple(pod for pod in pods.get(name, ()) if key_of(pod) not in gone)}


def key_of(pod: KubePod) -> str:
    """Return the key of a pod, as `Pod.key`."""
    return pod.metadata.uid or f"{pod.namespace}/{pod.metadata.name}"
