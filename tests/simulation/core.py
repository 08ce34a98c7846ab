"""The extender's core with its own watch: the same functions that the web layer calls, with time as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod, AssumedPods, undone
from extender.decision.cycle.preemption import Candidate, preferred
from extender.decision.cycle.scheduling_cycle import EvaluationContext, Filtered, SchedulingCycle, begin, filtered
from extender.decision.evaluate.evaluator import Evaluator, evaluate_nodes
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.evaluate.verdict import Verdict
from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.other_resources import others_needed
from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import Listed, ObjectSeen
from extender.decision.state.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.decode import seen
from extender.server.from_settings import ranker
from extender.settings import Scoring
from tests.objects import GPU
from tests.simulation.world import Event

TTL_SECONDS = 30.0
KINDS = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}


@dataclass(frozen=True)
class Trace:
    """One decision, with all its inputs."""

    cycle: SchedulingCycle
    pod: Pod
    assumed_pods: AssumedPods
    now: float
    names: tuple[str, ...]
    verdicts: Sequence[Verdict]
    decided: str | None


@dataclass
class Core:
    """State, assumed pods, and the verbs."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    assumed_pods: AssumedPods = NO_ASSUMED_PODS
    cursor: int = 0
    """Number of events of the log that it has read."""
    evaluator: Evaluator = field(default_factory=lambda: Evaluator(DEFAULT_POLICY))
    traces: list[Trace] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context = EvaluationContext(self.evaluator, GPU, NODE_DEFAULTS)
        self.ranker = ranker(Scoring())

    def apply(self, events: Sequence[Event], now: float) -> None:
        """Apply events of the watch."""
        before = self.snapshot
        self.snapshot = fold_all(before, [event.change() for event in events], GPU)
        self._settle(before, now)

    def relist(self, log: Sequence[Event], now: float) -> None:
        """List again after the watch's history was lost."""
        before, newest = self.snapshot, dict[tuple[str, str], Event]()
        for event in log:
            newest[event.kind, event.uid or event.manifest["metadata"]["name"]] = event
        listings = []
        for kind, listed in KINDS.items():
            left = tuple(_seen(event) for (of, _), event in newest.items() if of == kind and not event.deleted)
            listings.append(Listed(listed, left, len(log)))
        self.snapshot, self.cursor = fold_all(before, listings, GPU), len(log)
        self._settle(before, now)

    def _settle(self, before: Snapshot, now: float) -> None:
        self.assumed_pods = self.assumed_pods.released(
            [*self.assumed_pods.ended(self.snapshot, now), *undone(self.assumed_pods, before, self.snapshot)]
        )

    def filter(self, pod: Pod, names: Sequence[str], now: float) -> Filtered:
        """As the web layer's."""
        cycle, assumed_pods = begin(self.snapshot, self.assumed_pods, pod, GPU, now), self.assumed_pods
        found = filtered(cycle, names, evaluate_nodes(self.evaluator, self.snapshot, cycle.demand, names, cycle.extra_pods), self.context)
        self.traces.append(Trace(cycle, pod, assumed_pods, now, tuple(names), found.verdicts, found.decided))
        self.assumed_pods = self.assumed_pods.released([pod.key])
        if found.stall is None and found.decided is not None:
            self._assume(cycle, pod, found.decided, found.verdicts[list(names).index(found.decided)], now)
        return found

    def prioritize(self, pod: Pod, names: Sequence[str], now: float) -> dict[str, int]:
        """As the web layer's."""
        cycle, assumed_pods = begin(self.snapshot, self.assumed_pods, pod, GPU, now), self.assumed_pods
        assert isinstance(cycle.demand, Demand)
        verdicts = evaluate_nodes(self.evaluator, self.snapshot, cycle.demand, names, cycle.extra_pods)
        ranks = self.ranker.rank(cycle.demand, verdicts)
        decided = ranks.decided(names, verdicts, pod.key)
        self.traces.append(Trace(cycle, pod, assumed_pods, now, tuple(names), verdicts, decided))
        if decided is not None:
            self._assume(cycle, pod, decided, verdicts[list(names).index(decided)], now)
        scores = ranks.scores_but_one
        return {name: 10 if name == decided else scores.get(verdict, 0) for name, verdict in zip(names, verdicts, strict=True)}

    def preempt(self, pod: Pod, candidates: Sequence[Candidate], now: float) -> list[Candidate]:
        """As the web layer's."""
        cycle = begin(self.snapshot, self.assumed_pods, pod, GPU, now)
        assert isinstance(cycle.demand, Demand)
        return [one.candidate for one in preferred(cycle, cycle.demand, candidates, others_needed(pod, GPU), self.context)]

    def _assume(self, cycle: SchedulingCycle, pod: Pod, node: str, verdict: Verdict, now: float) -> None:
        assert isinstance(cycle.demand, Demand)
        assumed_pod = AssumedPod(pod.key, "sim", pod.metadata.name, node, cycle.demand, verdict.evidence, now, now + TTL_SECONDS, "")
        self.assumed_pods = self.assumed_pods.placed(assumed_pod)


def _seen(event: Event) -> ObjectSeen:
    return seen(event.kind, event.manifest)
