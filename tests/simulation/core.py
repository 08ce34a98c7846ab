"""The extender's core with a watch of its own: it calls the functions that the service calls, with time as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPods, undone
from extender.decision.cycle.preemption import Candidate, preferred
from extender.decision.cycle.scheduling_cycle import Decide, Evaluation, EvaluationContext, Moment, by_feasibility, by_rank, evaluate_pod
from extender.decision.evaluate.by_name.verdict_table import VerdictTable
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.report.placement_record import placement_record_of
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.other_resources import others_needed
from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import Listed
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import seen
from extender.scheduling.assume import assumed_pod_of
from extender.server.from_settings import ranker
from extender.settings import Scoring
from tests.objects import GPU
from tests.simulation.world import Event

TTL_SECONDS = 30.0
KINDS = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}


@dataclass(frozen=True)
class Trace:
    """One evaluation, with all that it was made from."""

    pod: Pod
    moment: Moment
    evaluation: Evaluation


@dataclass
class Core:
    """The state, the assumed pods and the verbs."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    assumed_pods: AssumedPods = NO_ASSUMED_PODS
    cursor: int = 0
    """Number of events of the log that it has seen."""
    evaluator: Evaluator = field(default_factory=lambda: Evaluator(DEFAULT_POLICY))
    traces: list[Trace] = field(default_factory=list)

    def __post_init__(self) -> None:
        scoring = ranker(Scoring())
        self.context = EvaluationContext(self.evaluator, GPU, NODE_DEFAULTS)
        self.table = VerdictTable(self.evaluator, scoring)
        self.rank = by_rank(scoring)

    def apply(self, events: Sequence[Event], now: float) -> None:
        """Fold some events of the watch."""
        before = self.snapshot
        self.snapshot = fold_all(before, [event.change() for event in events], GPU)
        self._settle(before, now)

    def relist(self, log: Sequence[Event], now: float) -> None:
        """List the cluster again, because the history of the watch was lost."""
        before, newest = self.snapshot, dict[tuple[str, str], Event]()
        for event in log:
            newest[event.kind, event.uid or event.manifest["metadata"]["name"]] = event
        listings = []
        for kind, listed in KINDS.items():
            objects = tuple(seen(kind, event.manifest) for (of, _), event in newest.items() if of == kind and not event.deleted)
            listings.append(Listed(listed, objects, len(log)))
        self.snapshot, self.cursor = fold_all(before, listings, GPU), len(log)
        self._settle(before, now)

    def _settle(self, before: Snapshot, now: float) -> None:
        self.assumed_pods = self.assumed_pods.released(
            [*self.assumed_pods.ended(self.snapshot, now), *undone(self.assumed_pods, before, self.snapshot)]
        )

    def moment(self, now: float) -> Moment:
        """Return the state at a time."""
        return Moment(self.snapshot, self.assumed_pods, now)

    def filter(self, pod: Pod, names: Sequence[str], now: float) -> Evaluation:
        """As `SchedulingService.filter`."""
        moment = self.moment(now)
        evaluation = self._evaluated(moment, pod, names, by_feasibility)
        self.traces.append(Trace(pod, moment, evaluation))
        self.assumed_pods = self.assumed_pods.released([pod.key])
        if evaluation.stall is None:
            self._assume(pod, evaluation, now)
        return evaluation

    def prioritize(self, pod: Pod, names: Sequence[str], now: float) -> dict[str, int]:
        """As `SchedulingService.prioritize`, by name."""
        moment = self.moment(now)
        evaluation = self._evaluated(moment, pod, names, self.rank, to_rank=True)
        assert evaluation.cycle.requests_gpus
        self.traces.append(Trace(pod, moment, evaluation))
        self._assume(pod, evaluation, now)
        return dict(zip(names, evaluation.scores(), strict=True))

    def _evaluated(self, moment: Moment, pod: Pod, names: Sequence[str], decide: Decide, *, to_rank: bool = False) -> Evaluation:
        """Evaluate with the table of verdicts, as the verbs do; what it lacks is evaluated at once."""
        context = replace(self.context, table=self.table)
        evaluation = evaluate_pod(context, moment, pod, names, decide, to_rank=to_rank)
        if evaluation.unevaluated is not None:
            self.table.evaluate(evaluation.unevaluated)
            evaluation = evaluate_pod(context, moment, pod, names, decide, to_rank=to_rank)
        assert evaluation.unevaluated is None
        return evaluation

    def preempt(self, pod: Pod, candidates: Sequence[Candidate], now: float) -> list[Candidate]:
        """As `SchedulingService.preempt`."""
        cycle = evaluate_pod(self.context, self.moment(now), pod, ()).cycle
        assert isinstance(cycle.demand, Demand)
        options = preferred(cycle, cycle.demand, candidates, others_needed(pod, GPU), self.context)
        return [option.candidate for option in options]

    def _assume(self, pod: Pod, evaluation: Evaluation, now: float) -> None:
        node, verdict = evaluation.decided_node, evaluation.decided_verdict
        if node is None or verdict is None:
            return
        assert isinstance(evaluation.cycle.demand, Demand)
        record = placement_record_of(pod.key, node, verdict.evidence)
        self.assumed_pods = self.assumed_pods.placed(
            assumed_pod_of(pod, evaluation.cycle.demand, verdict.evidence, record, now, TTL_SECONDS)
        )
