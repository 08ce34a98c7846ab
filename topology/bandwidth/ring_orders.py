"""Which rings through a set there are, as rows of places in it. A row names each place once; its end joins its start."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from topology.bandwidth.fabric import Fabric
from topology.machine.links import LinkKind

_ALL_RINGS_UP_TO = 8
"""Sets up to here see every ring: 2,520 for eight GPUs. Nine would be 20,160."""

Orders = NDArray[np.intp]


def rings_through(fabric: Fabric, members: tuple[int, ...]) -> Orders:
    """Every ring of up to eight positions; drawn ones where those are the best there are, or all that is affordable."""
    return drawn_rings(fabric, members) if _drawn_suffice(fabric, members) else every_ring(len(members))


def keeping_to(order: Orders, pairs: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which rings run along the given pairs of places only."""
    size = order.shape[1]
    linked = np.zeros((size, size), dtype=bool)
    for i, j in pairs:
        linked[i, j] = linked[j, i] = True
    passed: NDArray[np.bool_] = linked[order, np.roll(order, -1, axis=1)]
    kept: NDArray[np.bool_] = np.logical_and.reduce(passed, axis=1)
    return kept


def over_nvlink(fabric: Fabric, a: int, b: int) -> bool:
    """Whether two positions are joined by NVLink, directly or through NVSwitches."""
    return fabric.links[min(a, b), max(a, b)].is_nvlink


@cache
def every_ring(size: int) -> Orders:
    """All (size-1)!/2 undirected rings over 0..size-1 as rows; a pair's ring goes out and back."""
    rows = [(0, *rest) for rest in permutations(range(1, size)) if size < 4 or rest[0] < rest[-1]]
    return np.array(rows, dtype=np.intp)


def _drawn_suffice(fabric: Fabric, members: tuple[int, ...]) -> bool:
    """Whether drawn rings are the best there are, as on one switched board; or all that is affordable."""
    if len(members) > _ALL_RINGS_UP_TO:
        return True
    return all(fabric.links[pair].kind is LinkKind.NVSWITCH for pair in combinations(members, 2))


def drawn_rings(fabric: Fabric, members: tuple[int, ...]) -> Orders:
    """Rings for large sets: walk the hierarchy so that each switch and socket is entered and left once.

    On a tree of PCIe switches that walk is optimal: a ring must cross every cut twice, and it does so
    exactly twice. One ring starts at each member, preferring NVLink, then the nearest, so that
    several NVLink routes are on offer too.
    """
    rings = []
    for start in range(len(members)):
        ring, left = [start], set(range(len(members))) - {start}
        while left:
            here = members[ring[-1]]
            following = min(left, key=lambda p: (*_nearness(fabric, here, members[p]), (p - ring[-1]) % len(members)))
            ring.append(following)
            left.remove(following)
        rings.append(ring)
    return np.array(rings, dtype=np.intp)


def _nearness(fabric: Fabric, a: int, b: int) -> tuple[bool, float, bool, int]:
    pair = (min(a, b), max(a, b))
    linked = over_nvlink(fabric, a, b)
    slow = min(fabric.capacity_gbps[wire] for wire, _ in fabric.routes[pair])
    return (not linked, -slow if linked else 0.0, fabric.zone[a] != fabric.zone[b], fabric.distance[a][b])
