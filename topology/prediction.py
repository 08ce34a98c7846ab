"""Which GPUs a pod will really get: NVIDIA's best-effort policy and what the kubelet does around it.

The extender chooses a node; the device plugin chooses the devices. Its policy is deterministic, but the order in
which the kubelet lists the free devices is not, so a prediction is a distribution over sets.

Sources: NVIDIA/go-gpuallocator v0.6.0 `gpuallocator/besteffort_policy.go`, `device.go` (pair scores);
kubernetes 1.36 `pkg/kubelet/cm/devicemanager/manager.go` (reuse, order).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, prod

from topology.fabric import Fabric
from topology.hardware import Machine, mask_of, positions_of

PCIE_SCORES = {5: 10, 4: 20, 3: 30, 2: 40, 1: 50}
"""SYS, NODE, PHB, PXB, PIX, by PCIe distance."""
NVLINK_SCORE = 100
"""For each direct NVLink between two GPUs; links into an NVSwitch do not count."""

MOST_PARTITIONS = 300
"""All that eight GPUs need. Beyond, an enumeration soon takes too long (16 GPUs by threes: 22 million, 17.8 s in Go)."""

Device = int | None


def pair_scores(machine: Machine, fabric: Fabric) -> tuple[tuple[int, ...], ...]:
    """The plugin's score of every pair of positions; symmetric, 0 on the diagonal."""

    def score(a: int, b: int) -> int:
        return 0 if a == b else PCIE_SCORES[fabric.distance[a][b]] + NVLINK_SCORE * machine.nvlinks[a][b]

    return tuple(tuple(score(a, b) for b in range(fabric.size)) for a in range(fabric.size))


def best_effort(score: Sequence[Sequence[int]], available: Sequence[int], required: Sequence[int], size: int) -> list[Device]:
    """NVIDIA's policy, its nil devices included.

    `score` is a square matrix, `available` ordered indices into it, `required` a subset of them. The result has
    `size` indices, None standing for a nil device, or is empty where the policy refuses.
    """
    if size <= 0 or len(available) < size or len(required) > size or not set(required) <= set(available):
        return []
    if size == 1:  # the policy's short cut; a required device is then the one
        return [required[0]] if required else [available[0]]
    if len(available) == size:
        return list(available)
    padding = -len(available) % size
    devices: list[Device] = [*available, *[None] * padding]
    best_partition: list[tuple[Device, ...]] | None = None
    best_total = 0
    for partition in _partitions(devices, size, padding):
        if not any(None not in part and set(required) <= set(part) for part in partition):
            continue
        total = sum(_set_score(score, part) for part in partition)
        if best_partition is None or total > best_total:
            best_partition, best_total = partition, total
    if best_partition is None:
        return []
    fitting = [part for part in best_partition if set(required) <= set(part)]
    return list(max(fitting, key=lambda part: _set_score(score, part)))  # max keeps the first of equals


def _set_score(score: Sequence[Sequence[int]], part: Iterable[Device]) -> int:
    return sum(score[a][b] for a, b in combinations(part, 2) if a is not None and b is not None)


def _partitions(devices: list[Device], size: int, padding: int) -> Iterator[list[tuple[Device, ...]]]:
    """All partitions into sets of `size`, lexicographic; a set holds all of the padding or none."""
    if not devices:
        yield []
        return
    first, rest = devices[0], devices[1:]
    for places in combinations(range(len(rest)), size - 1):
        part = (first, *(rest[place] for place in places))
        if part.count(None) not in (0, padding):
            continue
        taken = set(places)
        left = [device for place, device in enumerate(rest) if place not in taken]
        for others in _partitions(left, size, padding):
            yield [part, *others]


def partition_count(available: int, size: int) -> int:
    """How many partitions the policy would enumerate."""
    sets = -(-available // size)
    padded = sets * size
    return prod(comb(padded - done * size - 1, size - 1) for done in range(sets))


Steps = tuple[tuple[int, bool], ...]
"""Containers in the order the kubelet serves them: (GPUs, whether it is an init container that ends)."""

MOST_OUTCOMES = 512
"""A pod of many containers can end in thousands of ways; the unlikeliest are dropped beyond this."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that may happen: `taken` GPUs are gone, `group_masks` are what each container sees."""

    taken: int
    group_masks: tuple[int, ...]
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Outcomes, likeliest first, probabilities summing to 1 (empty: it does not fit)."""

    outcomes: tuple[Outcome, ...]
    approximate: bool = False
    hazard: bool = False
    """The plugin may return a nil device here, which crashes it (go-gpuallocator PR 80)."""


_State = tuple[int, int, tuple[int, ...]]


def _likeliest(states: dict[_State, float]) -> dict[_State, float]:
    kept = sorted(states.items(), key=lambda item: (-item[1], item[0]))[:MOST_OUTCOMES]
    total = sum(chance for _, chance in kept)
    return {state: chance / total for state, chance in kept}


@dataclass(slots=True)
class _Draw:
    masks: dict[int, float]
    approximate: bool
    hazard: bool


class Predictor:
    """Predictions over one score matrix, memoised: a machine shape owns one and all its nodes share it."""

    def __init__(self, scores: tuple[tuple[int, ...], ...]) -> None:
        self._scores = scores
        self._draws: dict[tuple[int, int], _Draw] = {}
        self._predictions: dict[tuple[int, Steps], Prediction] = {}

    def predict(self, free: int, steps: Steps) -> Prediction:
        """The distribution for a pod whose containers are served in the order of `steps`.

        What an init container held is reused first, in no particular order, by whoever comes next.
        """
        key = (free, steps)
        if key not in self._predictions:
            self._predictions[key] = self._allocate(free, steps)
        return self._predictions[key]

    def _allocate(self, free: int, steps: Steps) -> Prediction:
        approximate = hazard = False
        states: dict[_State, float] = {(0, 0, ()): 1.0}  # (taken, reusable, groups)
        for size, init in steps:
            following: dict[_State, float] = {}
            for (taken, reusable, seen), chance in states.items():
                drawn = self._serve(free & ~taken, reusable, size)
                approximate, hazard = approximate or drawn.approximate, hazard or drawn.hazard
                for mask, part in drawn.masks.items():
                    state = (taken | mask, reusable | mask, seen) if init else (taken | mask, reusable & ~mask, (*seen, mask))
                    following[state] = following.get(state, 0.0) + chance * part
            if len(following) > MOST_OUTCOMES:
                following, approximate = _likeliest(following), True
            states = following
        outcomes = [Outcome(taken, seen, chance) for (taken, _, seen), chance in states.items()]
        return Prediction(tuple(sorted(outcomes, key=lambda o: (-o.probability, o.taken, o.group_masks))), approximate, hazard)

    def _serve(self, free: int, reusable: int, size: int) -> _Draw:
        reused = reusable.bit_count()
        if not reused:
            return self._draw(free, size)
        if reused >= size:
            sets = list(combinations(positions_of(reusable), size))
            return _Draw({mask_of(part): 1 / len(sets) for part in sets}, False, False)
        more = self._draw(free, size - reused)
        return _Draw({mask | reusable: chance for mask, chance in more.masks.items()}, True, more.hazard)

    def _draw(self, free: int, size: int) -> _Draw:
        """One container's set: the policy over every rotation of the free list, equally likely."""
        key = (free, size)
        if key not in self._draws:
            available = positions_of(free)
            if size > len(available):
                self._draws[key] = _Draw({}, False, False)
            elif size not in (0, 1, len(available)) and partition_count(len(available), size) > MOST_PARTITIONS:
                self._draws[key] = _Draw(self._nearest_sets(available, size), True, False)
            else:
                self._draws[key] = self._rotate(available, size)
        return self._draws[key]

    def _rotate(self, available: tuple[int, ...], size: int) -> _Draw:
        if size == 0:
            return _Draw({0: 1.0}, False, False)
        masks: dict[int, float] = {}
        hazard = False
        for turn in range(len(available)):
            chosen = best_effort(self._scores, available[turn:] + available[:turn], (), size)
            real = [device for device in chosen if device is not None]
            hazard = hazard or len(real) < size
            if len(real) == size:
                masks[mask_of(real)] = masks.get(mask_of(real), 0.0) + 1
        total = sum(masks.values())
        if not total:  # every order ends in the crash: any set may come of the retry
            return _Draw(self._nearest_sets(available, size), True, True)
        return _Draw({mask: count / total for mask, count in masks.items()}, False, hazard)

    def _nearest_sets(self, available: tuple[int, ...], size: int) -> dict[int, float]:
        """Stand-in where enumeration is out of reach: from each GPU, add the best-scoring next one."""
        masks: dict[int, float] = {}
        for start in available:
            chosen = [start]
            while len(chosen) < size:
                left = [device for device in available if device not in chosen]
                chosen.append(max(left, key=lambda d: (sum(self._scores[d][c] for c in chosen), -((d - start) % 64))))
            masks[mask_of(chosen)] = masks.get(mask_of(chosen), 0.0) + 1 / len(available)
        return masks
