"""SCORERS: how good would a node be? Each gives a value in [0, 1]; their weighted mean is the node's value.

kube-scheduler wants integers 0..10. They are the values over the best candidate's; the best alone (and its exact
equals) get 10, so that rounding never lets the second best tie with the best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from extender.decision.demand import Demand
from extender.decision.verdict import Evidence, Verdict

TOP_SCORE = 10


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a scorer may know of the other candidates, and the operator's neutral values."""

    best_expected_gbps: float | None
    unknown_topology_value: float
    unknown_memory_value: float


@dataclass(frozen=True, slots=True)
class Score:
    """One scorer's opinion of one node."""

    value: float
    detail: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """A node among the candidates."""

    score: int
    value: float
    scores: Mapping[str, Score]
    weights: Mapping[str, float]


Scorer = Callable[[Demand, Evidence, Candidates], Score]


def link(demand: Demand, evidence: Evidence, candidates: Candidates) -> Score:
    """Expected all-reduce bandwidth of the devices the pod would get, over the best candidate's."""
    if not demand.needs_links:
        return Score(1.0, "one GPU per container: no links needed")
    if evidence.expected_gbps is None:
        return Score(candidates.unknown_topology_value, "topology unknown")
    best = candidates.best_expected_gbps or evidence.expected_gbps
    share = evidence.expected_gbps / best if best else 0.0
    return Score(min(1.0, share), f"{evidence.expected_gbps:.1f} GB/s expected, best candidate {best:.1f}")


def fragmentation(_demand: Demand, evidence: Evidence, candidates: Candidates) -> Score:
    """How little of what the node is good for is lost to later pods."""
    if evidence.loss is None:
        return Score(candidates.unknown_topology_value, "topology unknown")
    return Score(
        1.0 - min(1.0, evidence.loss), f"{evidence.loss:.3f} of an HGX H100's capability lost, {evidence.least_loss or 0:.3f} at least"
    )


def memory(demand: Demand, evidence: Evidence, candidates: Candidates) -> Score:
    """How much of the GPU memory the pod demands: 1 where it is just enough."""
    have, need = evidence.gpu_memory_bytes, demand.min_gpu_memory_bytes
    if have is None:
        return Score(candidates.unknown_memory_value, "GPU memory unknown")
    if need is None:
        return Score(candidates.unknown_memory_value, f"pod states no need, GPU has {have / 2**30:.0f} GiB")
    return Score(min(1.0, need / have), f"{need / 2**30:.0f} of {have / 2**30:.0f} GiB needed")


SCORERS: tuple[tuple[str, Scorer], ...] = (("link", link), ("fragmentation", fragmentation), ("memory", memory))


def rank(
    demand: Demand, verdicts: Sequence[Verdict], weights: Mapping[str, float], unknown_topology: float, unknown_memory: float
) -> dict[Verdict, Ranking]:
    """The ranking per distinct verdict (nodes in equal states share one). Infeasible verdicts have none."""
    distinct = list(dict.fromkeys(verdict for verdict in verdicts if verdict.feasible))
    speeds = [v.evidence.expected_gbps for v in distinct if v.evidence.expected_gbps is not None]
    candidates = Candidates(max(speeds, default=None), unknown_topology, unknown_memory)
    total = sum(weights.get(name, 0.0) for name, _ in SCORERS) or 1.0
    valued: dict[Verdict, tuple[float, dict[str, Score]]] = {}
    for verdict in distinct:
        scores = {name: scorer(demand, verdict.evidence, candidates) for name, scorer in SCORERS}
        value = sum(weights.get(name, 0.0) * score.value for name, score in scores.items()) / total
        valued[verdict] = (round(value, 9), scores)
    top = max((value for value, _ in valued.values()), default=0.0)
    return {verdict: Ranking(_integer(value, top), value, scores, weights) for verdict, (value, scores) in valued.items()}


def _integer(value: float, top: float) -> int:
    if value == top:
        return TOP_SCORE
    return max(0, min(TOP_SCORE - 1, int(TOP_SCORE * value / top))) if top > 0 else 0
