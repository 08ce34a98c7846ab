"""A question about a pod, and its evaluation on nodes by kube-scheduler's filters and Fabricwise's together.

Remedies ask the same question of a changed pod or a changed cluster: `Question.evaluated` is the one evaluation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from extender.decision.cycle.scheduling_cycle import Evaluation, EvaluationContext, Moment, by_rank, evaluate_pod, known_nodes
from extender.decision.evaluate.scorers import Ranker
from extender.decision.evaluate.verdict import Verdict
from extender.decision.kube_filters.evaluate import KubeAnswer
from extender.decision.kube_filters.evaluate import evaluate as kube_answer
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Reason, Rejection
from extender.decision.why.scheduler_reports import NOTHING_REPORTED, Reported

KUBE, OURS, BY_REPORT = "kube-scheduler", "fabricwise", "kube-scheduler's report"
"""What refuses a node: a filter of kube-scheduler that was evaluated here, a filter of Fabricwise, or a message of kube-scheduler."""
NOT_KEPT = "kube-scheduler's own filters: the extender does not keep the pod's tolerations, affinities and volumes; send its manifest"
SELECTION = ("NodeAffinity", "NodeName")
"""kube-scheduler's filters by which a pod selects nodes: a node that it does not select would not suit it."""
_COUNTS = (Reason.TOO_FEW_GPUS, Reason.TOO_FEW_FREE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal of a node."""

    by: str
    reason: str
    detail: str
    resolvable: bool
    code: Reason | None = None
    """The reason of Fabricwise; also of a count of GPUs by kube-scheduler, which means the same."""
    plugin: str | None = None
    """kube-scheduler's filter."""


@dataclass(frozen=True, slots=True)
class Question:
    """A pod, and everything that the answer about it depends on."""

    pod: Pod
    kube_pod: KubePod | None
    """The pod as kube-scheduler's filters read it; None where only the fields that the extender keeps are known."""
    moment: Moment
    context: EvaluationContext
    ranker: Ranker
    around: Surroundings
    reported: Reported = NOTHING_REPORTED
    now_seconds: float | None = None
    """Unix time; None where it is not known, as for a dump."""
    is_new: bool = False
    """Whether the pod is a manifest that was not created yet."""
    is_foreign: bool = False
    """Whether the pod's scheduler does not ask Fabricwise, so that its filters do not apply."""

    @property
    def resource(self) -> str:
        """The resource that counts GPUs."""
        return self.context.resource

    def evaluated(self, names: Collection[str] | None = None) -> Evaluated:
        """Return the pod's evaluation on the named nodes; None: on all nodes."""
        wanted = known_nodes(self.moment.snapshot) if names is None else sorted(names)
        kube = KubeAnswer({}, (NOT_KEPT,)) if self.kube_pod is None else kube_answer(self.kube_pod, self.around, wanted)
        decide = by_rank(self.ranker, kube.refusals)
        return Evaluated(self, evaluate_pod(self.context, self.moment, self.pod, wanted, decide), kube)

    def of(self, pod: Pod, kube_pod: KubePod | None = None) -> Question:
        """Return the question about a changed pod."""
        return replace(self, pod=pod, kube_pod=kube_pod if kube_pod is not None else self.kube_pod)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A pod evaluated on nodes, by all filters that could be evaluated."""

    question: Question
    evaluation: Evaluation
    kube: KubeAnswer
    refusals: Mapping[str, tuple[Refusal, ...]] = field(init=False)
    """Node -> its refusals, those of kube-scheduler first; () where the pod fits."""

    def __post_init__(self) -> None:
        """Collect the refusals, so that every reader sees the same ones."""
        pairs = zip(self.evaluation.names.texts, self.evaluation.verdicts, strict=True)
        object.__setattr__(self, "refusals", {name: tuple(self._refusals(name, verdict)) for name, verdict in pairs})

    def _refusals(self, name: str, verdict: Verdict) -> Iterator[Refusal]:
        rejection = None if self.question.is_foreign else verdict.rejection
        counted = rejection if rejection is not None and rejection.reason in _COUNTS else None
        is_counted = False
        for each in self.kube.refusals.get(name, ()):
            if counted is not None and self._is_count_of(each.reason.removeprefix("Insufficient "), counted):
                is_counted = True
                yield Refusal(KUBE, each.reason, counted.detail, counted.resolvable, counted.reason, each.plugin)
            else:
                yield Refusal(KUBE, each.reason, each.detail, each.resolvable, None, each.plugin)
        if rejection is not None and not is_counted:
            yield Refusal(OURS, rejection.reason.value, rejection.detail, rejection.resolvable, rejection.reason)

    def _is_count_of(self, resource: str, counted: Rejection) -> bool:
        """Return whether Fabricwise's refusal for a count says the same as kube-scheduler's `Insufficient RESOURCE`."""
        slices = self.demand.slices if isinstance(self.demand, Demand) else ()
        is_slice = any(resource == name for name, _, _ in slices) and f" {resource}," in counted.detail
        return is_slice or resource == self.question.resource

    @property
    def demand(self) -> Demand | Rejection:
        """What the pod asks for."""
        return self.evaluation.cycle.demand

    @property
    def feasible(self) -> tuple[str, ...]:
        """The nodes that refuse for no reason."""
        return tuple(name for name, refusals in self.refusals.items() if not refusals)

    @property
    def best(self) -> str | None:
        """The feasible node with the highest rank; without ranks, as for a pod without GPUs, the first by name."""
        feasible = self.feasible
        decided = self.evaluation.decided_node
        return decided if decided in feasible else next(iter(feasible), None)

    def verdict(self, name: str) -> Verdict:
        """Return Fabricwise's verdict on a node."""
        return self.evaluation.verdicts[self.evaluation.names.texts.index(name)]

    def expected_gbps(self, name: str) -> float | None:
        """Return the bandwidth that the pod can expect on a feasible node, in GB/s; None where it has none or it is unknown."""
        return self.verdict(name).evidence.expected_gbps


def unbound(pod: Pod) -> Pod:
    """Return the pod without a node."""
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=None))


def unbound_kube_pod(pod: KubePod) -> KubePod:
    """Return the pod without a node."""
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=None))
