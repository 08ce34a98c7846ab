"""SCORERS: how good is a feasible node for the pod? Each gives a value in [0, 1]; their weighted mean is the node's value.

kube-scheduler expects integer scores 0..10: ten times the value over the best candidate's value, rounded down. Only the best candidate and
its exact equals get 10, so that rounding never makes the second best equal to the best.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_verdicts import FEASIBLE, NodeVerdicts, Parts, Valued
from extender.decision.evaluate.verdict import Evidence, Verdict
from extender.decision.request.pod_request import Demand
from extender.decision.request.workload_classes import weights_of
from extender.decision.state.isolation import described

TOP_SCORE = 10

_GOLDEN = np.uint32(0x9E3779B1)
"""2**32 over the golden ratio, for multiplicative hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4)."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a scorer knows of the other candidates, and the configured values for unknown inputs."""

    best_effective_gbps: float | None
    unknown_topology_value: float
    unknown_memory_value: float
    unknown_telemetry_value: float


@dataclass(frozen=True, slots=True)
class Score:
    """One scorer's value of one node, and the format text and numbers of its explanation, which is formatted only when read."""

    value: float
    words: str
    numbers: tuple[float, ...] = ()
    relative_gbps: float | None = None
    """The bandwidth of which `value` is the share of the best candidate's; None where other candidates have no effect on the value."""

    @property
    def detail(self) -> str:
        """The explanation of the value, for people."""
        return self.words.format(*self.numbers)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The score of one node among the candidates, and the values it is computed from."""

    score: int
    value: float
    scores: Mapping[str, Score]
    weights: Mapping[str, float]


Scorer = Callable[[Demand, Evidence, Candidates], Score]


def link(demand: Demand, evidence: Evidence, candidates: Candidates) -> Score:
    """Expected all-reduce bandwidth of the devices the pod may get, over its mix of message sizes, relative to the best candidate's.

    With a preferred bandwidth or link class it is relative to that instead.
    """
    if not demand.needs_links:
        return Score(1.0, "one GPU per container: no links needed")
    effective, large = evidence.effective_gbps, evidence.expected_gbps
    if effective is None or large is None:
        return Score(candidates.unknown_topology_value, "topology unknown")
    preferred = demand.wishes.preferred_busbw_gbps
    if preferred is not None:
        return Score(min(1.0, large / preferred), "{:.1f} GB/s expected of large messages, {:.1f} preferred", (large, preferred))
    if demand.wishes.preferred_link is not None and evidence.worst_rank is not None and evidence.worst_rank <= demand.wishes.preferred_link:
        return Score(1.0, "every set it may get has the preferred link, {:.1f} GB/s expected", (large,))
    best = candidates.best_effective_gbps or effective
    words = "{:.1f} GB/s expected of large messages, {:.1f} over the mix, best candidate's mix {:.1f}"
    return Score(min(1.0, effective / best) if best else 0.0, words, (large, effective, best), effective)


def fragmentation(_demand: Demand, evidence: Evidence, candidates: Candidates) -> Score:
    """1 less the capability that the node is expected to lose for later pods."""
    if evidence.loss is None:
        return Score(candidates.unknown_topology_value, "topology unknown")
    words = "{:.3f} of an HGX H100's capability lost, {:.3f} at least"
    return Score(1.0 - min(1.0, evidence.loss), words, (evidence.loss, evidence.least_loss or 0.0))


def memory(demand: Demand, evidence: Evidence, candidates: Candidates) -> Score:
    """The share of a GPU's memory that the pod needs: 1 where the memory is just enough."""
    have, need = evidence.gpu_memory_bytes, demand.wishes.min_gpu_memory_bytes or demand.inferred_memory_bytes
    if have is None:
        return Score(candidates.unknown_memory_value, "GPU memory unknown")
    if need is None:
        return Score(candidates.unknown_memory_value, "pod states no need, GPU has {:.0f} GiB", (have / 2**30,))
    if need > have:
        return Score(0.0, "its model is reckoned to need {:.0f} GiB, GPU has {:.0f}", (need / 2**30, have / 2**30))
    return Score(min(1.0, need / have), "{:.0f} of {:.0f} GiB needed", (need / 2**30, have / 2**30))


def pressure(_demand: Demand, evidence: Evidence, candidates: Candidates) -> Score:
    """1 less the pressure on the devices the pod may get and on the devices that share a path to the host with them."""
    expected = evidence.pressure
    if expected is None:
        return Score(candidates.unknown_telemetry_value, "telemetry unknown")
    words = "{:.2f} on the GPUs it may get, {:.2f} beside them" + (", {:.0%} of them unknown" if expected.unknown_share else "")
    return Score(max(0.0, 1.0 - expected.whole), words, (expected.own, expected.neighbours, expected.unknown_share))


SCORERS: tuple[tuple[str, Scorer], ...] = (
    ("link", link),
    ("fragmentation", fragmentation),
    ("memory", memory),
    ("pressure", pressure),
)


_RELATIVE = next(number for number, (_, scorer) in enumerate(SCORERS) if scorer is link)
"""The scorer whose value can depend on the best candidate."""

PARTS = len(SCORERS) + 2
"""Numbers that `Ranker.parts` returns."""

_NO_CANDIDATE = -1.0
"""The value, and the effective bandwidth, of a node that is no candidate; the latter also where it is unknown."""

_MOST_CACHED_DEMANDS = 32
_MOST_VERDICTS = 10_000


@dataclass(frozen=True, slots=True)
class Ranks:
    """The scores of an evaluation's nodes. What a score is computed from is computed again when it is read, see `get`."""

    scores: NDArray[np.int8]
    """Per node, 0 to 10: 10 on all nodes that equal the best, 0 where the node is infeasible or no candidate."""
    best_gbps: float | None = None
    """The best candidate's effective bandwidth."""
    top: float = 0.0
    """The best candidate's value."""
    ranking: Callable[[Verdict, float | None, float], Ranking] | None = None

    def get(self, verdict: Verdict, wins: bool = True) -> Ranking | None:
        """Return the ranking of a candidate's verdict; None if it is infeasible.

        `wins`: whether the node is the one that `decided` returns.
        """
        if self.ranking is None or not verdict.feasible:
            return None
        ranking = self.ranking(verdict, self.best_gbps, self.top)
        return ranking if wins else replace(ranking, score=min(ranking.score, TOP_SCORE - 1))

    def decided(self, names: NodeNames, key: str) -> int | None:
        """Return the position of the one node that gets the top score; None if no node is feasible.

        Among equal nodes a hash of the pod's key and the node's name decides, so that the order of `names` has no effect, all replicas
        agree, and pods spread over equal nodes.
        """
        equals = np.flatnonzero(self.scores == TOP_SCORE)
        if not len(equals):
            return None
        mixed = (names.hashes[equals] ^ np.uint32(crc32(key.encode()))) * _GOLDEN
        least = equals[mixed == mixed.min()].tolist()
        return int(min(least, key=names.texts.__getitem__))


NO_RANKS = Ranks(np.zeros(0, np.int8))


class Ranker:
    """Ranks candidates by weights. The parts of a value are cached: they depend on the demand and the verdict only."""

    def __init__(
        self,
        weights: Mapping[str, float],
        unknown_topology_value: float,
        unknown_memory_value: float,
        unknown_telemetry_value: float = 0.5,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        """Without a lock, only one thread may use the ranker."""
        self._lock = lock or nullcontext()
        self._weights = {name: weights.get(name, 0.0) for name, _ in SCORERS}
        self._unknown = (unknown_topology_value, unknown_memory_value, unknown_telemetry_value)
        self._cache: OrderedDict[Demand, dict[Verdict, Parts]] = OrderedDict()

    def rank(self, demand: Demand, verdicts: NodeVerdicts, excluded: Collection[int] = ()) -> Ranks:
        """Return the ranks of the feasible nodes relative to each other. `excluded`: positions of nodes that are no candidates."""
        valued = verdicts.valued
        if valued is None or excluded:
            parts = self._parts_of_each(demand, verdicts, frozenset(excluded))
            best = best_of(parts[-1])
            valued = Valued(best, self.values(demand, parts, best))
        top = float(valued.values.max(initial=_NO_CANDIDATE))
        ranking = partial(self._ranking, demand)
        if top < 0:
            return Ranks(np.zeros(len(verdicts), np.int8), ranking=ranking)
        scores = _integers(valued.values, top)
        scores[verdicts.codes != FEASIBLE] = 0
        scores[list(excluded)] = 0
        return Ranks(scores, valued.best_gbps, top, ranking)

    def _parts_of_each(self, demand: Demand, verdicts: NodeVerdicts, excluded: Collection[int]) -> NDArray[np.float64]:
        """Return the parts of the candidates, shape (`PARTS`, nodes); `NO_PARTS` for other nodes."""
        candidates = [position for position in np.flatnonzero(verdicts.feasible).tolist() if position not in excluded]
        parts = np.repeat(NO_PARTS[:, np.newaxis], len(verdicts), axis=1)
        if candidates:
            parts[:, candidates] = np.array([self.parts(demand, verdicts[position]) for position in candidates]).T
        return parts

    def parts(self, demand: Demand, verdict: Verdict) -> Parts:
        """Return the numbers that a feasible verdict's value is computed from, once the best candidate is known.

        Each scorer's value; the bandwidth in GB/s where the value of `link` is the share of the best candidate's, else NaN; the effective
        bandwidth in GB/s, -1 where unknown.
        """
        known = self._cached(demand)
        parts = known.get(verdict)
        if parts is None:
            scores = list(self._scores(demand, verdict, None).values())
            relative, effective = scores[_RELATIVE].relative_gbps, verdict.evidence.effective_gbps
            parts = (*(score.value for score in scores), nan if relative is None else relative, -1.0 if effective is None else effective)
            known[verdict] = parts
        return parts

    def _cached(self, demand: Demand) -> dict[Verdict, Parts]:
        """Return the cached parts. A full dictionary is replaced, not emptied, because other threads may still read it."""
        with self._lock:
            known = self._cache.get(demand)
            if known is None or len(known) > _MOST_VERDICTS:
                while len(self._cache) >= _MOST_CACHED_DEMANDS:
                    self._cache.popitem(last=False)
                known = self._cache[demand] = {}
            self._cache.move_to_end(demand)
            return known

    def values(self, demand: Demand, parts: NDArray[np.float64], best_gbps: float | None) -> NDArray[np.float64]:
        """Return the value of each node from its `parts`, shape (`PARTS`, nodes); below 0 for nodes with `NO_PARTS`."""
        weights = weights_of(demand.workload, self._weights)
        total = np.zeros(parts.shape[1])
        for number, (name, _) in enumerate(SCORERS):
            share = parts[number]
            if number == _RELATIVE and best_gbps is not None:
                relative = parts[len(SCORERS)]
                of_best = np.minimum(1.0, relative / best_gbps) if best_gbps else np.zeros_like(relative)
                share = np.where(np.isnan(relative), share, of_best)
            total += weights[name] * share
        values: NDArray[np.float64] = np.round(total / (sum(weights.values()) or 1.0), 9)
        return values

    def _scores(self, demand: Demand, verdict: Verdict, best: float | None) -> dict[str, Score]:
        candidates = Candidates(best, *self._unknown)
        return {name: _scored(scorer, demand, verdict.evidence, candidates) for name, scorer in SCORERS}

    def _ranking(self, demand: Demand, verdict: Verdict, best: float | None, top: float) -> Ranking:
        """Return how a feasible verdict ranks, given the best candidate's bandwidth and value."""
        values = self.values(demand, np.array([self.parts(demand, verdict)]).T, best)
        weights = weights_of(demand.workload, self._weights)
        return Ranking(int(_integers(values, top)[0]), float(values[0]), self._scores(demand, verdict, best), weights)


def _scored(scorer: Scorer, demand: Demand, evidence: Evidence, candidates: Candidates) -> Score:
    """Return one scorer's value; 0 if the scorer raises, so that an error about one node does not affect other nodes."""
    try:
        return scorer(demand, evidence, candidates)
    except Exception as error:
        return Score(0.0, "could not be scored: " + described(error).replace("{", "(").replace("}", ")"))


NO_PARTS: NDArray[np.float64] = np.array([-1.0] * len(SCORERS) + [nan, _NO_CANDIDATE])
"""The parts of a node that is no candidate."""


def best_of(effective_gbps: NDArray[np.float64]) -> float | None:
    """Return the highest effective bandwidth in GB/s; None where none is known. `effective_gbps`: the last of each node's parts."""
    best = float(effective_gbps.max(initial=_NO_CANDIDATE))
    return best if best >= 0 else None


def _integers(values: NDArray[np.float64], top: float) -> NDArray[np.int8]:
    """Return the scores 0..`TOP_SCORE` of values, where `top` is the best candidate's value."""
    below = np.clip((TOP_SCORE * values / top).astype(np.int64), 0, TOP_SCORE - 1) if top > 0 else np.zeros(len(values), np.int64)
    return np.where(values == top, TOP_SCORE, below).astype(np.int8)
