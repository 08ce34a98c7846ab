"""SCORERS: how good is a feasible node for the pod? Each gives a value in [0, 1]; their weighted mean is the node's value.

kube-scheduler expects integer scores 0..10: ten times the value over the best candidate's value, rounded down. Only the best candidate and
its exact equals get 10, so that rounding never makes the second best equal to the best.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from zlib import crc32

from extender.decision.evaluate.verdict import Evidence, Verdict
from extender.decision.request.pod_request import Demand
from extender.decision.request.workload_classes import weights_of
from extender.decision.state.isolation import described

TOP_SCORE = 10

_GOLDEN = 0x9E3779B1
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
    return Score(min(1.0, effective / best) if best else 0.0, words, (large, effective, best))


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


_Valued = dict[Verdict, tuple[float, dict[str, Score]]]
_MOST_CACHED_KEYS = 16
_MOST_VERDICTS = 10_000


@dataclass(frozen=True, slots=True)
class Ranks:
    """Score per distinct feasible verdict. A full `Ranking` is built only on request, see `get`."""

    scores: Mapping[Verdict, int]
    valued: _Valued
    weights: Mapping[str, float]

    def get(self, verdict: Verdict, wins: bool = True) -> Ranking | None:
        """Return the verdict's ranking; None if it is infeasible. `wins`: whether the node is the one that `decided` returns."""
        if verdict not in self.scores:
            return None
        score = self.scores[verdict]
        return Ranking(score if wins else min(score, TOP_SCORE - 1), *self.valued[verdict], self.weights)

    @property
    def scores_but_one(self) -> Mapping[Verdict, int]:
        """The scores of all nodes except the decided one, which gets `TOP_SCORE`."""
        return {verdict: min(score, TOP_SCORE - 1) for verdict, score in self.scores.items()}

    def decided(self, names: Sequence[str], verdicts: Sequence[Verdict], key: str) -> str | None:
        """Return the one node that gets the top score; None if no node is feasible.

        Among equal nodes a hash of the pod's key and the node's name decides, so that the order of `names` has no effect, all replicas
        agree, and pods spread over equal nodes.
        """
        seed = crc32(key.encode())
        top = {verdict for verdict, score in self.scores.items() if score == TOP_SCORE}
        equals = [name for name, verdict in zip(names, verdicts, strict=True) if verdict in top]
        return min(equals, key=lambda name: ((crc32(name.encode()) ^ seed) * _GOLDEN & 0xFFFFFFFF, name), default=None)


NO_RANKS = Ranks({}, {}, {})


class Ranker:
    """Ranks candidates by weights. Values are cached: a verdict's value depends on the demand and the best candidate's bandwidth only."""

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
        self._cache: OrderedDict[tuple[Demand, float | None], _Valued] = OrderedDict()

    def rank(self, demand: Demand, verdicts: Sequence[Verdict]) -> Ranks:
        """Return the ranks of the feasible verdicts relative to each other. Nodes in equal states share a verdict, and so a rank."""
        distinct = [verdict for verdict in dict.fromkeys(verdicts) if verdict.feasible]
        best = max((v.evidence.effective_gbps for v in distinct if v.evidence.effective_gbps is not None), default=None)
        known = self._cached(demand, best)
        for verdict in distinct:
            if verdict not in known:
                known[verdict] = self._value(demand, verdict, best)
        weights = weights_of(demand.workload, self._weights)
        top = max((known[verdict][0] for verdict in distinct), default=0.0)
        return Ranks({verdict: _integer(known[verdict][0], top) for verdict in distinct}, known, weights)

    def _cached(self, demand: Demand, best: float | None) -> _Valued:
        """Return the cached values. A full dictionary is replaced, not emptied, because other threads may still read it."""
        key = (demand, best)
        with self._lock:
            known = self._cache.get(key)
            if known is None or len(known) > _MOST_VERDICTS:
                while len(self._cache) >= _MOST_CACHED_KEYS:
                    self._cache.popitem(last=False)
                known = self._cache[key] = {}
            self._cache.move_to_end(key)
            return known

    def _value(self, demand: Demand, verdict: Verdict, best: float | None) -> tuple[float, dict[str, Score]]:
        candidates = Candidates(best, *self._unknown)
        scores = {name: _scored(scorer, demand, verdict.evidence, candidates) for name, scorer in SCORERS}
        weights = weights_of(demand.workload, self._weights)
        total = sum(weights.values()) or 1.0
        value = sum(weights[name] * score.value for name, score in scores.items()) / total
        return round(value, 9), scores


def _scored(scorer: Scorer, demand: Demand, evidence: Evidence, candidates: Candidates) -> Score:
    """Return one scorer's value; 0 if the scorer raises, so that an error about one node does not affect other nodes."""
    try:
        return scorer(demand, evidence, candidates)
    except Exception as error:
        return Score(0.0, "could not be scored: " + described(error).replace("{", "(").replace("}", ")"))


def _integer(value: float, top: float) -> int:
    """Return the score 0..`TOP_SCORE` of a value, where `top` is the best candidate's value."""
    if value == top:
        return TOP_SCORE
    return max(0, min(TOP_SCORE - 1, int(TOP_SCORE * value / top))) if top > 0 else 0
