"""The cluster after a pod has left its node, where the pod is placed then, and the cluster after that.

A pod leaves and arrives as changes of the one fold, and it is placed by the evaluation that serves the verbs. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from msgspec.structs import replace as replaced

from extender.decision.cycle.assumed_pods import AssumedPods
from extender.decision.cycle.scheduling_cycle import EvaluationContext, Moment, by_rank, evaluate_pod, known_nodes
from extender.decision.disruption.disruption_facts import PodFacts
from extender.decision.evaluate.scorers import Ranker
from extender.decision.evaluate.verdict import Evidence
from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.node.allocation.allocations import BoundPod, released
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.state.changes import Change, PodGone, PodSeen, TopologySeen
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.pods import RECORD_ANNOTATION
from extender.decision.state.snapshot import Snapshot
from topology.gputopology.topology_record import TopologyRecord

_LAST = "9999-12-31T23:59:59Z"
"""creationTimestamp of a pod that is recreated: it is admitted after all pods that its new node has."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A cluster, real or after some moves."""

    snapshot: Snapshot
    pods_by_node: Mapping[str, tuple[KubePod, ...]] | None
    """As kube-scheduler's filters read them; None: not known."""


@dataclass(frozen=True, slots=True)
class PlacedPod:
    """A recreated pod and the node that the evaluation places it on."""

    facts: PodFacts
    node: str
    evidence: Evidence


def _never(_scheduler: str | None) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class PodMover:
    """Moves pods of an arrangement, without any effect on the cluster."""

    context: EvaluationContext
    ranker: Ranker
    assumed_pods: AssumedPods
    monotonic_seconds: float
    is_foreign: Callable[[str | None], bool] = _never
    """Whether a pod of this spec.schedulerName is placed by another scheduler, about whose choice nothing is known."""

    def without(self, before: Arrangement, leaving: Sequence[BoundPod]) -> Arrangement:
        """Return the arrangement after pods have left, and after the agents have seen it."""
        changes: list[Change] = [PodGone(pod.key) for pod in leaving]
        for node in sorted({pod.node for pod in leaving}):
            record = before.snapshot.topologies.get(node)
            if isinstance(record, TopologyRecord):
                left = tuple(pod for pod in leaving if pod.node == node)
                changes.append(TopologySeen(node, released(record, left)))
        gone = {pod.full_name for pod in leaving}
        pods = before.pods_by_node
        if pods is not None:
            pods = dict(pods)
            for node in {pod.node for pod in leaving}:
                pods[node] = tuple(pod for pod in pods.get(node, ()) if f"{pod.namespace}/{pod.metadata.name}" not in gone)
        return Arrangement(self._folded(before.snapshot, changes), pods)

    def placed(self, arrangement: Arrangement, recreated: PodFacts, excluded: Collection[str]) -> PlacedPod | None:
        """Return where a recreated pod is placed; None where no node takes it. `excluded`: nodes that are cordoned by then."""
        snapshot, pod = arrangement.snapshot, recreated.pod
        names, moment = known_nodes(snapshot), Moment(snapshot, self.assumed_pods, self.monotonic_seconds)
        evaluation = evaluate_pod(self.context, moment, pod, names, by_rank(self.ranker, excluded))
        if evaluation.decided_node is not None:
            around = Surroundings(snapshot.nodes, arrangement.pods_by_node, class_resources=snapshot.dra.mapped)
            refusals = evaluate(recreated.kube_pod, around).refusals
            if evaluation.decided_node in refusals:
                evaluation = evaluate_pod(self.context, moment, pod, names, by_rank(self.ranker, {*excluded, *refusals}))
        node, verdict = evaluation.decided_node, evaluation.decided_verdict
        return PlacedPod(recreated, node, verdict.evidence) if node is not None and verdict is not None else None

    def with_pod(self, before: Arrangement, placed: PlacedPod) -> Arrangement:
        """Return the arrangement after a recreated pod was bound; which devices it got is predicted."""
        pod, kube_pod = placed.facts.pod, placed.facts.kube_pod
        bound = replaced(pod, spec=replaced(pod.spec, node_name=placed.node))
        pods = before.pods_by_node
        if pods is not None:
            kube_bound = replaced(kube_pod, spec=replaced(kube_pod.spec, node_name=placed.node))
            pods = {**pods, placed.node: (*pods.get(placed.node, ()), kube_bound)}
        return Arrangement(self._folded(before.snapshot, [PodSeen(bound)]), pods)

    def _folded(self, snapshot: Snapshot, changes: Sequence[Change]) -> Snapshot:
        return fold_all(snapshot, changes, self.context.resource, self.context.defaults)


def recreated(facts: PodFacts) -> PodFacts:
    """Return the pod that the controller creates in place of an evicted one: not bound, and with a uid of its own."""
    pod, kube_pod = facts.pod, facts.kube_pod
    annotations = {key: text for key, text in (pod.metadata.annotations or {}).items() if key != RECORD_ANNOTATION}
    meta = replaced(
        pod.metadata,
        uid=f"{pod.key}-recreated",
        creation_timestamp=_LAST,
        deletion_timestamp=None,
        annotations=annotations,
    )
    return replace(
        facts,
        pod=Pod(meta, replaced(pod.spec, node_name=None)),
        kube_pod=KubePod(meta, replaced(kube_pod.spec, node_name=None)),
    )
