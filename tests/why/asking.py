"""Questions to `why_answer` from Kubernetes manifests, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPods
from extender.decision.cycle.scheduling_cycle import EvaluationContext, Moment
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.request.workload_classes import read_classes
from extender.decision.state.changes import Change, ClassesSeen, TelemetrySeen
from extender.decision.state.reducer import fold_all
from extender.decision.why.pod_question import Question
from extender.decision.why.scheduler_reports import reported_of
from extender.decision.why.why_pod import why_answer
from extender.decision.why.why_types import WhyAnswer
from extender.server.from_settings import ranker
from extender.settings import Scoring
from tests.objects import GPU, pod_struct, snapshot

NOW_SECONDS = 1_800_000_000.0


def question(
    wanted: dict[str, Any],
    *manifests: dict[str, Any],
    events: list[dict[str, Any]] | None = None,
    classes: list[dict[str, Any]] | None = None,
    telemetry: tuple[TelemetrySeen, ...] = (),
    assumed_pods: AssumedPods = NO_ASSUMED_PODS,
    policy: Policy = DEFAULT_POLICY,
    are_pods_known: bool = True,
    is_kept: bool = False,
    **more: Any,
) -> Question:
    """Return the question about a pod in a cluster of these objects. `is_kept`: only what the extender keeps of the pod is known."""
    state = snapshot(*manifests, wanted)
    changes: list[Change] = [*telemetry]
    if classes is not None:
        changes.append(ClassesSeen(read_classes({"classes": classes})))
    state = fold_all(state, changes, GPU)
    evaluator = Evaluator(policy)
    evaluator.learn(state)
    bound: dict[str, tuple[KubePod, ...]] = {}
    for manifest in [*manifests, wanted]:
        node = manifest["spec"].get("nodeName") if manifest["kind"] == "Pod" else None
        if node:
            bound[node] = (*bound.get(node, ()), msgspec.convert(manifest, KubePod, strict=False))
    pod = pod_struct(wanted)
    return Question(
        pod=pod,
        kube_pod=None if is_kept else msgspec.convert(wanted, KubePod, strict=False),
        moment=Moment(state, assumed_pods, 0.0),
        context=EvaluationContext(evaluator, GPU, NODE_DEFAULTS),
        ranker=ranker(Scoring()),
        around=Surroundings(state.nodes, bound if are_pods_known else None),
        reported=reported_of(pod, events),
        now_seconds=NOW_SECONDS,
        **more,
    )


def ask(wanted: dict[str, Any], *manifests: dict[str, Any], **more: Any) -> WhyAnswer:
    """Return the answer about a pod in a cluster of these objects."""
    return why_answer(question(wanted, *manifests, **more))


def failed(message: str, ago_seconds: float = 40.0) -> dict[str, Any]:
    """Return kube-scheduler's event about an attempt that failed."""
    import datetime

    at = datetime.datetime.fromtimestamp(NOW_SECONDS - ago_seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": "Event",
        "reason": "FailedScheduling",
        "message": message,
        "lastTimestamp": at,
        "source": {"component": "gpu-scheduler"},
    }


def with_spec(manifest: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a node or pod with further fields of its spec."""
    return {**manifest, "spec": {**manifest.get("spec", {}), **fields}}


def asking(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return annotations with Fabricwise's prefix."""
    return {f"fabricwise.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}


__all__ = ["ask", "asking", "failed", "question", "replace", "with_spec"]
