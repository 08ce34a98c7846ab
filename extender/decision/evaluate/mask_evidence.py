"""What a demand gets from one set of free GPUs of one machine: the part of the evidence that no node state adds to.

A machine of eight GPUs has at most 256 sets of free GPUs, so many node states share these parts; a state weighs its own together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np

from extender.decision.request.pod_request import Demand
from topology.devices.prediction import Asks, Kubelet, Links
from topology.devices.size_mix import SizeMix
from topology.machine.hardware import positions_of
from topology.placement.placement_table import PlacementTable
from topology.placement.set_table import MOST_LISTED_GPUS

MOST_REMEMBERED = 4_096
"""Parts that are kept for machines of up to eight GPUs: some 3 KB each."""

MOST_REMEMBERED_LARGE = 256
"""The same for larger machines, whose parts can have 512 sets and take 60 KB."""

_FEW_SETS = 24
"""Up to that many sets, a loop is faster than numpy."""

Gbps = float | None
"""Bus bandwidth in GB/s; None where no container has two or more GPUs."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a part depends on beside the machine, its kubelet and its free GPUs."""

    asks: Asks
    groups: tuple[int, ...]
    """`Demand.groups`."""
    messages: str
    """A name of `topology.bandwidth.all_reduce.MESSAGE_MIXES`."""
    mix: SizeMix


def question_of(demand: Demand, messages: str, mix: SizeMix) -> Question:
    """Return what is asked about each set of free GPUs."""
    return Question(demand.asks, demand.groups, messages, mix)


@dataclass(frozen=True, slots=True)
class MaskEvidence:
    """An expectation over the sets of GPUs that the pod may get."""

    chances: tuple[tuple[int, float], ...]
    """(mask of GPUs, probability), the most probable first; they sum to 1. Empty where the pod does not fit or is not admitted."""
    speeds: dict[int, tuple[float, float]]
    """Mask of GPUs -> (lowest, highest GB/s of its slowest container, over the ways to divide the mask between the containers)."""
    expected_gbps: Gbps
    """Expected GB/s of the slowest container for large messages."""
    effective_gbps: float
    """The same over the mix of message sizes; 0 without links."""
    highest_gbps: Gbps
    """Of any set of the pod's size that is free, for one container; of any set it may get, for several."""
    lowest_gbps: Gbps
    loss: float
    """Expected loss of capability, 0..1; 0 where `chances` is empty."""
    least_loss: float
    marginals: tuple[float, ...]
    """Per position, the probability that the pod gets it."""
    approximate: bool
    hazard: bool


def mask_evidence(table: PlacementTable, kubelet: Kubelet, question: Question, free: int) -> MaskEvidence:
    """Return the evidence for one set of free GPUs, from a bounded cache if it is there. `free`: mask of positions."""
    return (_of_small_machine if table.size <= MOST_LISTED_GPUS else _of_large_machine)(table, kubelet, question, free)


def _computed(table: PlacementTable, kubelet: Kubelet, question: Question, free: int) -> MaskEvidence:
    prediction = table.predictor.predict_sets(free, question.asks, kubelet)
    sets, performances = prediction.sets, dict[Links, tuple[Gbps, float]]()
    expected = effective = 0.0
    for links, chance in _by_links(sets).items():
        slowest, least_effective = performances[links] = _slowest(table, links), _least_effective(table, links, question.messages)
        expected += chance * (slowest or 0.0)
        effective += chance * least_effective
    chances = _by_mask(sets)
    speeds = _speeds(sets, {links: slowest for links, (slowest, _) in performances.items()})
    capability = table.capabilities(question.mix)
    before = capability[free]
    losses = [before - capability[free & ~taken] for taken in chances]
    highest, lowest = table.extreme_gbps(free, question.groups[0]) if len(question.groups) == 1 else extremes(speeds)
    return MaskEvidence(
        ranked(chances),
        speeds,
        expected if speeds else None,
        effective,
        highest,
        lowest,
        sum(map(float.__mul__, losses, chances.values())),
        min(losses, default=0.0),
        _marginals(chances, table.size),
        prediction.approximate,
        prediction.hazard,
    )


_of_small_machine = lru_cache(maxsize=MOST_REMEMBERED)(_computed)
_of_large_machine = lru_cache(maxsize=MOST_REMEMBERED_LARGE)(_computed)


def ranked(chances: dict[int, float]) -> tuple[tuple[int, float], ...]:
    """Return (mask, probability), the most probable first, equally probable ones by mask."""
    return tuple((mask, -negative) for negative, mask in sorted((-chance, mask) for mask, chance in chances.items()))


def extremes(speeds: dict[int, tuple[float, float]]) -> tuple[Gbps, Gbps]:
    """Return the highest and the lowest GB/s of `MaskEvidence.speeds`."""
    return max((high for _, high in speeds.values()), default=None), min((low for low, _ in speeds.values()), default=None)


def weighed(parts: Sequence[tuple[float, MaskEvidence]]) -> MaskEvidence:
    """Return the evidence over several sets of free GPUs: `parts` has (probability, evidence) of each, in any order.

    A set in which the pod finds no place counts for what may be free, but not for what the pod gets. `least_loss` is the expectation of
    the least loss of each.
    """
    if len(parts) == 1 and parts[0][0] == 1.0:
        return parts[0][1]
    chances: dict[int, float] = {}
    speeds: dict[int, tuple[float, float]] = {}
    placed = [(weight, part) for weight, part in parts if part.chances]
    total = sum(weight for weight, _ in placed) or 1.0
    for weight, part in placed:
        for mask, chance in part.chances:
            chances[mask] = chances.get(mask, 0.0) + weight * chance
        for mask, (low, high) in part.speeds.items():
            known = speeds.get(mask)
            speeds[mask] = (low, high) if known is None else (min(known[0], low), max(known[1], high))
    found = list(chain.from_iterable((part.highest_gbps, part.lowest_gbps) for _, part in parts))
    gbps = [speed for speed in found if speed is not None]
    size = len(parts[0][1].marginals) if parts else 0
    return MaskEvidence(
        tuple((mask, chance / total) for mask, chance in ranked(chances)),
        speeds,
        sum(weight * (part.expected_gbps or 0.0) for weight, part in placed) / total if speeds else None,
        sum(weight * part.effective_gbps for weight, part in placed) / total,
        max(gbps, default=None),
        min(gbps, default=None),
        sum(weight * part.loss for weight, part in placed) / total,
        sum(weight * part.least_loss for weight, part in parts),
        tuple(sum(weight * part.marginals[position] for weight, part in placed) / total for position in range(size)),
        any(part.approximate for _, part in parts),
        any(part.hazard for _, part in parts),
    )


def _by_links(sets: Mapping[tuple[int, Links], float]) -> dict[Links, float]:
    """Return the probability of each way in which the containers are linked."""
    chances: dict[Links, float] = {}
    for (_, links), chance in sets.items():
        chances[links] = chances.get(links, 0.0) + chance
    return chances


def _by_mask(sets: Mapping[tuple[int, Links], float]) -> dict[int, float]:
    """Return the probability of each mask of GPUs."""
    chances: dict[int, float] = {}
    for (mask, _), chance in sets.items():
        chances[mask] = chances.get(mask, 0.0) + chance
    return chances


def _speeds(sets: Mapping[tuple[int, Links], float], slowest_of: Mapping[Links, Gbps]) -> dict[int, tuple[float, float]]:
    """Return `MaskEvidence.speeds`. `slowest_of`: links -> GB/s of the slowest container."""
    distinct = set(slowest_of.values())
    if len(distinct) == 1:
        (only,) = distinct
        return {} if only is None else dict.fromkeys((mask for mask, _ in sets), (only, only))
    speeds: dict[int, tuple[float, float]] = {}
    for mask, links in sets:
        slowest = slowest_of[links]
        if slowest is not None:
            low, high = speeds.get(mask, (slowest, slowest))
            speeds[mask] = (min(low, slowest), max(high, slowest))
    return speeds


def _slowest(table: PlacementTable, links: Links) -> Gbps:
    """Return the bus bandwidth in GB/s of the slowest container; None if there are no links."""
    return min((speed for mask in links if (speed := table.busbw_gbps(mask)) is not None), default=None)


def _least_effective(table: PlacementTable, links: Links, messages: str) -> float:
    """Return the lowest bandwidth in GB/s of a container over the mix of message sizes named `messages`; 0 if there are no links."""
    return min((speed for mask in links if (speed := table.effective_gbps(mask, messages)) is not None), default=0.0)


def _marginals(chances: dict[int, float], size: int) -> tuple[float, ...]:
    """Return for each of `size` positions the probability that the pod gets it."""
    if len(chances) > _FEW_SETS:
        bits = np.fromiter(chances, np.int64, len(chances))[:, None] >> np.arange(size) & 1
        return tuple((np.fromiter(chances.values(), np.float64, len(chances)) @ bits).tolist())
    marginals = [0.0] * size
    for mask, chance in chances.items():
        for position in positions_of(mask):
            marginals[position] += chance
    return tuple(marginals)
