"""The rings through a set, as rows of places in it. A row names each place once; its last place is joined to its first."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from topology.bandwidth.fabric import Fabric
from topology.machine.links import LinkKind

_ALL_RINGS_UP_TO = 8
"""Largest set for which every ring is listed: 2,520 for eight GPUs. Nine would have 20,160."""

Orders = NDArray[np.intp]
"""(rings x places)."""


def rings_through(fabric: Fabric, members: tuple[int, ...]) -> Orders:
    """Return every ring of up to eight positions; the constructed ones where those include the best, and for larger sets."""
    return constructed_rings(fabric, members) if _constructed_suffice(fabric, members) else every_ring(len(members))


def keeping_to(order: Orders, pairs: Iterable[tuple[int, int]]) -> NDArray[np.bool_]:
    """Return, per ring, whether all its edges are among the given pairs of places."""
    size = order.shape[1]
    linked = np.zeros((size, size), dtype=bool)
    for i, j in pairs:
        linked[i, j] = linked[j, i] = True
    edge_is_linked: NDArray[np.bool_] = linked[order, np.roll(order, -1, axis=1)]
    keeps: NDArray[np.bool_] = np.logical_and.reduce(edge_is_linked, axis=1)
    return keeps


def over_nvlink(fabric: Fabric, a: int, b: int) -> bool:
    """Whether NVLink joins two positions, directly or through NVSwitches."""
    return fabric.links[min(a, b), max(a, b)].is_nvlink


@cache
def every_ring(size: int) -> Orders:
    """Return all (size-1)!/2 undirected rings over 0..size-1 as rows. The ring of a pair goes out and back."""
    rows = [(0, *rest) for rest in permutations(range(1, size)) if size < 4 or rest[0] < rest[-1]]
    return np.array(rows, dtype=np.intp)


def _constructed_suffice(fabric: Fabric, members: tuple[int, ...]) -> bool:
    """Whether the constructed rings include the best, as on one switched board, or the set is too large for every ring."""
    if len(members) > _ALL_RINGS_UP_TO:
        return True
    return all(fabric.links[pair].kind is LinkKind.NVSWITCH for pair in combinations(members, 2))


def constructed_rings(fabric: Fabric, members: tuple[int, ...]) -> Orders:
    """Return one ring per member that follows the hierarchy, so that it enters and leaves each switch and socket once.

    On a tree of PCIe switches such a ring is optimal: a ring must cross every cut at least twice, and it does so
    exactly twice. Each ring starts at another member and goes on to the nearest GPU, NVLink first, so that
    several NVLink routes are among them.
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
