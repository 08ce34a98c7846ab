"""NVIDIA's best-effort policy: which GPUs the device plugin prefers out of those the kubelet offers.

Source: NVIDIA/go-gpuallocator v0.6.0 `gpuallocator/besteffort_policy.go`, `device.go` (pair scores).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from math import comb, prod

from topology.fabric import Fabric
from topology.hardware import Machine

PCIE_SCORES = {5: 10, 4: 20, 3: 30, 2: 40, 1: 50}
"""SYS, NODE, PHB, PXB, PIX, by PCIe distance."""
NVLINK_SCORE = 100
"""For each direct NVLink between two GPUs; links into an NVSwitch do not count."""

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
