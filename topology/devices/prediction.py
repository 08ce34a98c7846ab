"""Which GPUs a pod will get: the distribution over the sets that its containers can get, one container after another.

The extender chooses a node; kubelet and device plugin choose the devices, see `container_draws`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, groupby, islice
from math import comb

from topology.devices.container_draws import MOST_OUTCOMES, MOST_REMEMBERED, MOST_REMEMBERED_LARGE, ContainerDraws
from topology.devices.device_plugin import best_effort, pair_scores, partition_count
from topology.devices.kubelet import USUAL, DevicePlugin, Kubelet
from topology.devices.steering import SetValues
from topology.machine.hardware import Machine, mask_of, positions_of

__all__ = [
    "MOST_OUTCOMES",
    "MOST_REMEMBERED",
    "MOST_REMEMBERED_LARGE",
    "USUAL",
    "DevicePlugin",
    "Kubelet",
    "Outcome",
    "Prediction",
    "Predictor",
    "SetPrediction",
    "Steps",
    "best_effort",
    "numa_nodes",
    "pair_scores",
    "partition_count",
]

Steps = tuple[tuple[int, bool], ...]
"""Containers in the order in which the kubelet serves them: (GPUs, whether it is an init container that ends)."""

Links = tuple[int, ...]
"""One mask per container with two or more GPUs, ascending: a set that is equivalent to that container's, see `Predictor`."""

_MOST_SETS_KEPT = 128
"""Results of `predict_sets` that are kept: more than the free sets of one node, so that its filters and its evidence share them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One possible allocation: `taken` is the mask of all allocated GPUs, `group_masks` has one mask per container."""

    taken: int
    group_masks: tuple[int, ...]
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Outcomes, the most likely first; their probabilities sum to 1. Empty where the pod does not fit or is never admitted."""

    outcomes: tuple[Outcome, ...]
    approximate: bool = False
    hazard: bool = False
    """Whether the plugin may return a nil device, which crashes it (go-gpuallocator PR 80)."""
    rejected: float = 0.0
    """Probability that the Topology Manager refuses the pod on the node. The pod then fails instead of waiting."""


@dataclass(frozen=True, slots=True)
class SetPrediction:
    """The same distribution as `Prediction` without which container gets which set: what bandwidth and later pods depend on."""

    sets: Mapping[tuple[int, Links], float]
    """(mask of all allocated GPUs, links) -> probability; they sum to 1. Empty where the pod does not fit or is never admitted."""
    approximate: bool = False
    hazard: bool = False
    rejected: float = 0.0

    @property
    def likeliest_links(self) -> list[Links]:
        """The links of each set, those of the most likely set first."""
        return [links for (_, links), _ in sorted(self.sets.items(), key=lambda item: (-item[1], item[0]))]


def numa_nodes(machine: Machine) -> tuple[int | None, ...]:
    """Return the NUMA node per position, None where unknown."""
    return tuple(gpu.numa_node for gpu in machine.gpus)


_Masks = tuple[int, ...]
_States = dict[tuple[int, int, _Masks], float]
"""(mask of the allocated GPUs, mask of those that a later container uses first, masks of containers) -> probability."""

_Seen = Callable[[_Masks, int, int], _Masks]
"""(masks so far, GPUs of the next container, its mask) -> masks."""


@dataclass(slots=True)
class _Findings:
    """What is found on the way to a prediction."""

    approximate: bool = False
    hazard: bool = False
    rejected: float = 0.0


def _itself(mask: int) -> int:
    return mask


class Predictor:
    """Predictions for one score matrix. All nodes with identical machines share one predictor.

    `lru_cache` bounds what is kept, and is safe in several threads: at worst two of them compute the same prediction.
    """

    def __init__(
        self,
        scores: tuple[tuple[int, ...], ...],
        numa: tuple[int | None, ...] = (),
        mig: bool = False,
        representative: Callable[[int], int] = _itself,
    ) -> None:
        """`scores` per pair and `numa` node per position; `mig`: some GPU is in MIG mode, which switches best-effort off.

        `representative`: mask of a set -> that of one set with the same links, the same for all sets that are equivalent.
        """
        self.draws = ContainerDraws(scores, numa or (None,) * len(scores), mig)
        self._representative = representative
        self._remembered = lru_cache(maxsize=self.draws.most_remembered)(self._predict)
        self._remembered_sets = lru_cache(maxsize=_MOST_SETS_KEPT)(self._predict_sets)

    @property
    def values(self) -> SetValues | None:
        """What sets are worth, where that is known: a steerer chooses by it."""
        return self.draws.values

    @values.setter
    def values(self, values: SetValues) -> None:
        self.draws.values = values

    def predict(self, free: int, steps: Steps, kubelet: Kubelet = USUAL) -> Prediction:
        """Return the distribution for a pod whose containers are served in the order of `steps`; `free` is a mask.

        The next container reuses the devices of an init container first, in no particular order, and the plugin must
        include them in its preference.
        """
        return self._remembered(free, steps, kubelet)

    def predict_sets(self, free: int, steps: Steps, kubelet: Kubelet = USUAL) -> SetPrediction:
        """Return what `predict` returns, with outcomes merged that have the same GPUs and the same links.

        Far fewer of them exist where a pod has many containers: eight with one GPU each divide eight GPUs in 40,320 ways, but
        take one set. So this is exact in cases in which `predict` has to drop outcomes.
        """
        return self._remembered_sets(free, steps, kubelet)

    def _predict(self, free: int, steps: Steps, kubelet: Kubelet) -> Prediction:
        found, states = _Findings(), _first_states()
        for step in steps:
            states = self._after(states, free, step, kubelet, found, _each_container)
        total = sum(states.values()) or 1.0
        outcomes = [Outcome(taken, seen, chance / total) for (taken, _, seen), chance in states.items()]
        ranked = sorted(outcomes, key=lambda o: (-o.probability, o.taken, o.group_masks))
        return Prediction(tuple(ranked), found.approximate, found.hazard, min(1.0, found.rejected))

    def _predict_sets(self, free: int, steps: Steps, kubelet: Kubelet) -> SetPrediction:
        found, states = _Findings(), _first_states()
        takes_any_single, reuses = self.draws.takes_any_single(kubelet), False
        for step, equal_steps in groupby(steps):
            count = len(list(equal_steps))
            reuses = reuses or step[1]
            if step == (1, False) and takes_any_single and not reuses:
                states = _after_any_singles(states, free, count, found)
                continue
            for _ in range(count):
                states = self._after(states, free, step, kubelet, found, self._links)
        total = sum(states.values()) or 1.0
        sets: dict[tuple[int, Links], float] = {}
        for (taken, _, links), chance in states.items():
            sets[taken, links] = sets.get((taken, links), 0.0) + chance / total
        return SetPrediction(sets, found.approximate, found.hazard, min(1.0, found.rejected))

    def _links(self, links: _Masks, size: int, mask: int) -> _Masks:
        return links if size < 2 else tuple(sorted((*links, self._representative(mask))))

    def _after(self, states: _States, free: int, step: tuple[int, bool], kubelet: Kubelet, found: _Findings, seen_with: _Seen) -> _States:
        """Return the states after one more container; what it finds is added to `found`."""
        (size, init), serve = step, self.draws.serve
        following: _States = {}
        for (taken, reusable, seen), chance in states.items():
            draw = serve(free & ~taken, reusable, size, kubelet)
            if draw is None:
                found.rejected += chance
                continue
            found.approximate, found.hazard = found.approximate or draw.approximate, found.hazard or draw.hazard
            for mask, part in draw.masks.items():
                state = (taken | mask, reusable | mask, seen) if init else (taken | mask, reusable & ~mask, seen_with(seen, size, mask))
                following[state] = following.get(state, 0.0) + chance * part
        found.approximate = found.approximate or len(following) > MOST_OUTCOMES
        return _likeliest(following)


def _first_states() -> _States:
    return {(0, 0, ()): 1.0}


def _each_container(seen: _Masks, _size: int, mask: int) -> _Masks:
    return (*seen, mask)


def _after_any_singles(states: _States, free: int, count: int, found: _Findings) -> _States:
    """Return the states after `count` containers with one GPU each, which get any free GPUs with equal probability.

    Where these are too many, each state keeps its probability and a share of the sets, taken evenly from all of them.
    """
    choices = sum(comb((free & ~taken).bit_count(), count) for taken, _, _ in states)
    is_cut = choices > MOST_OUTCOMES
    found.approximate = found.approximate or is_cut
    total = sum(states.values())
    following: _States = {}
    for (taken, reusable, links), chance in states.items():
        most = max(1, int(MOST_OUTCOMES * chance / total)) if is_cut else MOST_OUTCOMES
        subsets = _subsets(free & ~taken, count, most)
        for mask in subsets:
            state = (taken | mask, reusable, links)
            following[state] = following.get(state, 0.0) + chance / len(subsets)
    return _likeliest(following)


@lru_cache(maxsize=1_024)
def _subsets(mask: int, size: int, most: int) -> tuple[int, ...]:
    """Return the subsets of a mask with `size` positions in lexicographic order; of more than `most`, every second, third, ... one."""
    every = -(-comb(mask.bit_count(), size) // most) or 1
    return tuple(mask_of(part) for part in islice(combinations(positions_of(mask), size), 0, None, every))


def _likeliest(states: _States) -> _States:
    """The most likely outcomes, with probabilities scaled up by those of the dropped ones."""
    if len(states) <= MOST_OUTCOMES:
        return states
    kept = sorted(states.items(), key=lambda item: (-item[1], item[0]))[:MOST_OUTCOMES]
    scale = sum(states.values()) / sum(chance for _, chance in kept)
    return {state: chance * scale for state, chance in kept}
