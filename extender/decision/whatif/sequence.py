"""Pods placed one after another, as kube-scheduler would with the extender: filters, evaluation, decision, devices; then the next pod.

kube-scheduler takes hundreds of pods per second from a queue, long before an agent reports which GPUs the first of them got. So each pod is
decided with the earlier ones bound and their GPUs predicted, as in a running extender. Which GPUs each pod gets is predicted with those of
the earlier ones known: no GPU is given to two pods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod, AssumedPods
from extender.decision.cycle.scheduling_cycle import Evaluation, EvaluationContext, Moment, by_rank, evaluate_pod, known_nodes
from extender.decision.evaluate.by_name.verdict_table import VerdictTable
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.scorers import TOP_SCORE, Ranker
from extender.decision.evaluate.verdict import Prospect, Verdict
from extender.decision.kube_filters.surroundings import KubeRefusal
from extender.decision.node.node_state import NodeDefaults
from extender.decision.pace import Pace, unhurried
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Rejection
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.decision.whatif.kube_objects import KubeObjects
from extender.decision.whatif.kube_refusals import KubeRefusals
from extender.decision.whatif.placed_pod import placed
from extender.decision.whatif.placements import NOT_REACHED, PlacedPods, Placement, PlacementOutcome, RefusalCount
from extender.decision.whatif.pod_queue import QueuedPod

_MOST_ATTEMPTS = 3
"""How often an evaluation by name is tried before the nodes are evaluated one by one: see `VerdictTable`."""


@dataclass(frozen=True, slots=True)
class Decider:
    """What decides: policy and weights, the name of the GPU resource, and the defaults of nodes."""

    evaluator: Evaluator
    ranker: Ranker
    resource: str
    defaults: NodeDefaults


@dataclass(frozen=True, slots=True)
class SequenceStart:
    """The state in which a sequence begins."""

    snapshot: Snapshot
    kube: KubeObjects
    assumed_pods: AssumedPods = NO_ASSUMED_PODS
    monotonic_seconds: float = 0.0
    agents_report: bool = False
    """Whether agents report the GPUs of each pod before the next pod is decided, as where pods are created one by one."""


def place_one_by_one(start: SequenceStart, queue: Sequence[QueuedPod], decider: Decider, pace: Pace = unhurried) -> PlacedPods:
    """Return where the pods of a queue go, each with all earlier ones in place. Preemption is not simulated.

    `pace` is called before each pod; where it returns False, the pods that are left are not reached.
    """
    decider.evaluator.learn(start.snapshot)
    sequence = _Sequence(start, decider)
    placements: dict[str, Placement] = {}
    is_over = False
    for queued in queue:
        is_over = is_over or not pace()
        placements[queued.pod.key] = NOT_REACHED if is_over else sequence.place(queued)
    return PlacedPods(placements, sequence.reported, tuple(sequence.kube.not_checked))


class _Sequence:
    """The state while a sequence goes on."""

    def __init__(self, start: SequenceStart, decider: Decider) -> None:
        self.kube = KubeRefusals(start.snapshot, start.kube)
        self._decided, self._agents_report = start.snapshot, start.agents_report
        """The state in which pods are decided."""
        self.reported = start.snapshot
        """The same state, with the GPUs of each placed pod reported where an agent does so."""
        self._assumed, self._monotonic_seconds = start.assumed_pods, start.monotonic_seconds
        self._decider, self._decide = decider, by_rank(decider.ranker)
        self._context = EvaluationContext(decider.evaluator, decider.resource, decider.defaults)
        self._by_name = replace(self._context, table=VerdictTable(decider.evaluator, decider.ranker))
        self._names = known_nodes(start.snapshot)
        self._placed = 0

    def place(self, queued: QueuedPod) -> Placement:
        """Return where a pod goes, and fold it in there."""
        if queued.skipped is not None:
            return Placement(PlacementOutcome.SKIPPED, why=queued.skipped)
        refusals = self.kube.of(queued.kube_pod)
        names = [name for name in self._names if name not in refusals] if refusals else self._names
        evaluation = self._on_nominated(queued, names) or self._evaluated(queued, names)
        if evaluation.decided is None:
            return _not_placed(evaluation, refusals)
        node, demand, verdict = evaluation.decided_node, evaluation.cycle.demand, evaluation.decided_verdict
        assert node is not None
        assert verdict is not None
        likely = self._likely(queued, node)
        self._fold(queued, node, likely.gpus if likely is not None else None)
        if isinstance(demand, Demand) and demand.claims is not None:  # no claim shows its devices: it counts as a decided pod does
            self._assumed = self._assumed.placed(_assumed_pod(queued, node, demand, verdict))
        return _placement(evaluation, likely)

    def _likely(self, queued: QueuedPod, node: str) -> Prospect | None:
        """Return the set of GPUs that a pod most probably gets, given those of the pods before it; None = no prediction."""
        moment = Moment(self.reported, self._assumed, self._monotonic_seconds)
        verdict = evaluate_pod(self._context, moment, queued.pod, [node]).verdicts[0]
        return next(iter(verdict.evidence.prospects), None)

    def _on_nominated(self, queued: QueuedPod, names: Sequence[str]) -> Evaluation | None:
        """Return the evaluation on the node that preemption has nominated; None where there is none or it is infeasible.

        kube-scheduler asks about that node alone first. Source: kubernetes 1.36 `pkg/scheduler/schedule_one.go` (evaluateNominatedNode).
        """
        nominated = queued.pod.status.nominated_node_name if queued.pod.status else None
        if not nominated or nominated not in names:
            return None
        evaluation = self._evaluated(queued, [nominated])
        return evaluation if evaluation.decided is not None else None

    def _evaluated(self, queued: QueuedPod, names: Sequence[str]) -> Evaluation:
        """Return the evaluation on these nodes with its decision; without one for a pod that requests no whole GPU."""
        moment = Moment(self._decided, self._assumed, self._monotonic_seconds)
        for _ in range(_MOST_ATTEMPTS):
            evaluation = evaluate_pod(self._by_name, moment, queued.pod, names, self._decide, to_rank=True)
            if evaluation.unevaluated is None:
                break
            assert self._by_name.table is not None
            self._by_name.table.evaluate(evaluation.unevaluated)
        else:
            evaluation = evaluate_pod(self._context, moment, queued.pod, names, self._decide, to_rank=True)
        if evaluation.cycle.requests_gpus:
            return evaluation
        return evaluate_pod(self._context, moment, queued.pod, names)

    def _fold(self, queued: QueuedPod, node: str, gpus: tuple[int, ...] | None) -> None:
        """Count a pod on its node, in both states."""
        resource, defaults = self._decider.resource, self._decider.defaults
        binding, report = placed(self.reported, queued.pod, node, gpus, self._placed)
        self.reported = fold_all(self.reported, (binding, *report), resource, defaults)
        self._decided = self.reported if self._agents_report else fold_all(self._decided, (binding,), resource, defaults)
        self.kube.place(queued.kube_pod, node)
        self._placed += 1


def _assumed_pod(queued: QueuedPod, node: str, demand: Demand, verdict: Verdict) -> AssumedPod:
    meta = queued.pod.metadata
    return AssumedPod(
        key=queued.pod.key,
        namespace=meta.namespace or "default",
        name=meta.name,
        node=node,
        demand=demand,
        evidence=verdict.evidence,
        placed_monotonic_seconds=0.0,
        until_monotonic_seconds=inf,
        decision="",
    )


def _placement(evaluation: Evaluation, likely: Prospect | None) -> Placement:
    """Return the placement on the decided node. `likely`: the most probable set of GPUs."""
    verdict = evaluation.decided_verdict
    return Placement(
        outcome=PlacementOutcome.PLACED,
        node=evaluation.decided_node,
        gpus=likely.gpus if likely is not None else None,
        probability=likely.probability if likely is not None else None,
        bandwidth_gbps=likely.busbw_gbps if likely is not None else None,
        expected_gbps=verdict.evidence.expected_gbps if verdict is not None else None,
        equally_good_nodes=int(np.count_nonzero(evaluation.ranks.scores == TOP_SCORE)),
        feasible_nodes=int(np.count_nonzero(evaluation.verdicts.feasible)),
    )


def _not_placed(evaluation: Evaluation, refusals: Mapping[str, tuple[KubeRefusal, ...]]) -> Placement:
    """Return the placement of a pod without a decided node: no node is feasible, or kube-scheduler decides alone."""
    feasible, demand = np.flatnonzero(evaluation.verdicts.feasible), evaluation.cycle.demand
    if len(feasible):
        only = evaluation.names[int(feasible[0])] if len(feasible) == 1 else None
        why = f"it requests no whole GPU: kube-scheduler chooses among {len(feasible)} nodes by its own scores"
        return Placement(PlacementOutcome.KUBE_DECIDES, only, feasible_nodes=len(feasible), why=why)
    counts = Counter((each[0].reason, "kube-scheduler") for each in refusals.values())
    counts.update((verdict.reason or "", "fabricwise") for verdict in evaluation.verdicts)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    why = demand.detail if isinstance(demand, Rejection) else _no_node(ordered)
    return Placement(PlacementOutcome.NO_NODE, refusals=tuple(RefusalCount(reason, by, count) for (reason, by), count in ordered), why=why)


def _no_node(counts: Sequence[tuple[tuple[str, str], int]]) -> str:
    """Return the refusals as kube-scheduler's event states them."""
    total = sum(count for _, count in counts)
    reasons = ", ".join(f"{count} {reason}" for (reason, _), count in counts)
    return f"0/{total} nodes are available: {reasons}" if total else "the cluster has no node"
