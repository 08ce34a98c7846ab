"""NVIDIA's best-effort policy: which of the GPUs that the kubelet offers the device plugin prefers.

Source: NVIDIA/go-gpuallocator v0.6.0 `gpuallocator/besteffort_policy.go`, `device.go` (pair scores).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import combinations
from math import comb, prod

from topology.bandwidth.fabric import Fabric
from topology.machine.hardware import Machine

PCIE_SCORES = {5: 10, 4: 20, 3: 30, 2: 40, 1: 50}
"""By PCIe distance: SYS, NODE, PHB, PXB, PIX."""
NVLINK_SCORE = 100
"""Per direct NVLink between two GPUs; links into an NVSwitch do not count."""

Device = int | None


def pair_scores(machine: Machine, fabric: Fabric) -> tuple[tuple[int, ...], ...]:
    """Return the plugin's score of every pair of positions; symmetric, 0 on the diagonal."""

    def score(a: int, b: int) -> int:
        return 0 if a == b else PCIE_SCORES[fabric.distance[a][b]] + NVLINK_SCORE * machine.nvlinks[a][b]

    return tuple(tuple(score(a, b) for b in range(fabric.size)) for a in range(fabric.size))


def best_effort(score: Sequence[Sequence[int]], available: Sequence[int], required: Sequence[int], size: int) -> list[Device]:
    """Return the devices that NVIDIA's policy prefers, with its nil devices as None; empty where the policy refuses.

    `score` is a square matrix, `available` are ordered indices into it, `required` is a subset of them. The result has
    `size` indices.
    """
    if size <= 0 or len(available) < size or len(required) > size or not set(required) <= set(available):
        return []
    if size == 1:  # the policy's special case: the required device, else the first
        return [required[0]] if required else [available[0]]
    if len(available) == size:
        return list(available)
    count, padding, must = len(available), -len(available) % size, set(required)
    scores: dict[_Part, int] = {}

    def total(part: _Part) -> int:
        if part not in scores:
            real = [available[place] for place in part if place < count]
            scores[part] = sum(score[a][b] for a, b in combinations(real, 2))
        return scores[part]

    def fits(part: _Part) -> bool:
        return must <= {available[place] for place in part if place < count}

    best_partition: tuple[_Part, ...] | None = None
    best_total = 0
    for partition in _partitions(count, padding, size):
        if must and not any(part[-1] < count and fits(part) for part in partition):
            continue
        reached = sum(map(total, partition))
        if best_partition is None or reached > best_total:
            best_partition, best_total = partition, reached
    if best_partition is None:
        return []
    chosen = max((part for part in best_partition if fits(part)), key=total)  # max keeps the first of equals
    return [available[place] if place < count else None for place in chosen]


_Part = tuple[int, ...]
"""Places in the ordered list of devices, ascending. Places after its end are nil devices."""

_KEPT_PARTITIONS = 1_000
"""Most partitions that are kept in a cache; more are enumerated each time."""


def _partitions(count: int, padding: int, size: int) -> Iterable[tuple[_Part, ...]]:
    if partition_count(count, size) <= _KEPT_PARTITIONS:
        return listed_partitions(count, padding, size)
    return _enumerated(tuple(range(count + padding)), count, padding, size)


@cache
def listed_partitions(count: int, padding: int, size: int) -> tuple[tuple[_Part, ...], ...]:
    """Return the partitions of `count` devices and `padding` nil devices into sets of `size`, in the order of the policy.

    They are kept, so this is for numbers with few partitions only, see `partition_count`.
    """
    return tuple(_enumerated(tuple(range(count + padding)), count, padding, size))


def _enumerated(places: _Part, count: int, padding: int, size: int) -> Iterator[tuple[_Part, ...]]:
    """All partitions into sets of `size`, in lexicographic order; a set contains all of the padding or none of it."""
    if not places:
        yield ()
        return
    first, rest = places[0], places[1:]
    for others in combinations(rest, size - 1):
        part = (first, *others)
        if sum(place >= count for place in part) not in (0, padding):
            continue
        left = tuple(place for place in rest if place not in others)
        for following in _enumerated(left, count, padding, size):
            yield (part, *following)


def partition_count(available: int, size: int) -> int:
    """Return the number of partitions that the policy enumerates."""
    sets = -(-available // size)
    padded = sets * size
    return prod(comb(padded - done * size - 1, size - 1) for done in range(sets))
