"""The extender's core on a watch of its own: the very functions the web layer calls, with time as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from extender.adapters.manifests import Seen, seen
from extender.decision.answers import ranker
from extender.decision.changes import Listed, fold_all
from extender.decision.cluster import NODE_DEFAULTS, Snapshot
from extender.decision.cycle import Cycle, Filtered, World, begin, filtered
from extender.decision.demand import Demand
from extender.decision.eviction import Candidate, preferred
from extender.decision.holds import NO_HOLDS, Hold, Holds, undone
from extender.decision.judge import Judge, judge_all
from extender.decision.objects import Pod
from extender.decision.requests import others_needed
from extender.decision.rules import RULES
from extender.decision.verdict import Verdict
from extender.settings import Scoring
from tests.objects import GPU
from tests.simulation.world import Event

TTL_SECONDS = 30.0
KINDS = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}


@dataclass(frozen=True)
class Trace:
    """One decision, with all it was made from."""

    cycle: Cycle
    pod: Pod
    holds: Holds
    now: float
    names: tuple[str, ...]
    verdicts: Sequence[Verdict]
    decided: str | None


@dataclass
class Core:
    """State, holds, and the verbs."""

    snapshot: Snapshot = field(default_factory=Snapshot)
    holds: Holds = NO_HOLDS
    cursor: int = 0
    """Events of the log it has seen."""
    judge: Judge = field(default_factory=lambda: Judge(RULES))
    traces: list[Trace] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.world = World(self.judge, GPU, NODE_DEFAULTS)
        self.ranker = ranker(Scoring())

    def apply(self, events: Sequence[Event], now: float) -> None:
        """Some events of the watch."""
        before = self.snapshot
        self.snapshot = fold_all(before, [event.change() for event in events], GPU)
        self._settle(before, now)

    def relist(self, log: Sequence[Event], now: float) -> None:
        """History was lost: list anew."""
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
        self.holds = self.holds.released([*self.holds.ended(self.snapshot, now), *undone(self.holds, before, self.snapshot)])

    def filter(self, pod: Pod, names: Sequence[str], now: float) -> Filtered:
        """As the web layer's."""
        cycle, holds = begin(self.snapshot, self.holds, pod, GPU, now), self.holds
        found = filtered(cycle, names, judge_all(self.judge, self.snapshot, cycle.demand, names, cycle.guests), self.world)
        self.traces.append(Trace(cycle, pod, holds, now, tuple(names), found.verdicts, found.decided))
        self.holds = self.holds.released([pod.key])
        if found.stall is None and found.decided is not None:
            self._hold(cycle, pod, found.decided, found.verdicts[list(names).index(found.decided)], now)
        return found

    def prioritize(self, pod: Pod, names: Sequence[str], now: float) -> dict[str, int]:
        """As the web layer's."""
        cycle, holds = begin(self.snapshot, self.holds, pod, GPU, now), self.holds
        assert isinstance(cycle.demand, Demand)
        verdicts = judge_all(self.judge, self.snapshot, cycle.demand, names, cycle.guests)
        ranks = self.ranker.rank(cycle.demand, verdicts)
        decided = ranks.decided(names, verdicts, pod.key)
        self.traces.append(Trace(cycle, pod, holds, now, tuple(names), verdicts, decided))
        if decided is not None:
            self._hold(cycle, pod, decided, verdicts[list(names).index(decided)], now)
        scores = ranks.scores_but_one
        return {name: 10 if name == decided else scores.get(verdict, 0) for name, verdict in zip(names, verdicts, strict=True)}

    def preempt(self, pod: Pod, candidates: Sequence[Candidate], now: float) -> list[Candidate]:
        """As the web layer's."""
        cycle = begin(self.snapshot, self.holds, pod, GPU, now)
        assert isinstance(cycle.demand, Demand)
        return [one.candidate for one in preferred(cycle, cycle.demand, candidates, others_needed(pod, GPU), self.world)]

    def _hold(self, cycle: Cycle, pod: Pod, node: str, verdict: Verdict, now: float) -> None:
        assert isinstance(cycle.demand, Demand)
        hold = Hold(pod.key, "sim", pod.metadata.name, node, cycle.demand, verdict.evidence, now, now + TTL_SECONDS, "")
        self.holds = self.holds.placed(hold)


def _seen(event: Event) -> Seen:
    return seen(event.kind, event.manifest)
