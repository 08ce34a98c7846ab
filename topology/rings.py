"""Rings through a set of GPUs, and the most they can carry side by side.

A ring loads every wire it crosses, in both directions; rings may run side by side until some wire is full:

    maximise   busbw = 2 sum(rate[r])         over rings r, rate[r] >= 0
    subject to sum(uses[r, w] rate[r]) <= capacity[w]     for every wire w, per direction

a linear programme, solved exactly (HiGHS). `uses` counts ring edges, each of which loads a wire once per
direction; hence the 2, and hence a pair, whose ring runs out and back over one link, gets that link's
GB/s. A wire shared by several edges is counted once as capacity and as often as it is used as load, which is
what makes eight GPUs behind one uplink slow.

A pair without a link of its own may also be joined through the NVLinks of a third GPU of the set, as NCCL does: a set
is tried with each pair on its own best wires, and with NVLink all the way, detours included; the better counts.

Limit: the rings of nine GPUs and more are drawn from the machine's hierarchy instead of from all (n-1)!/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from topology.fabric import Fabric

_ALL_RINGS_UP_TO = 8
"""Sets up to here see every ring: 2,520 for eight GPUs. Nine would be 20,160."""


@dataclass(frozen=True, slots=True)
class Packing:
    """The best mix of rings through a set."""

    busbw_gbps: float
    full: tuple[str, ...]
    """The wires that are full, by name."""
    over_nvlink: bool
    """Whether every edge of every ring runs over NVLink."""


def pack_rings(fabric: Fabric, members: tuple[int, ...]) -> Packing:
    """The best packing for two or more positions; of equals, the one over NVLink."""
    packed = [(*_pack(rings), rings.over_nvlink) for rings in _offers(fabric, members)]
    rate, full, over_nvlink = max(packed, key=lambda found: (round(found[0], 9), found[2]))
    return Packing(round(2 * rate, 6), full, over_nvlink)


@dataclass(frozen=True, slots=True)
class _Rings:
    """Rings on offer: `uses` is (distinct rings x wires), rings that load the same wires alike being one."""

    uses: NDArray[np.float64]
    wires: tuple[str, ...]
    capacity_gbps: NDArray[np.float64]
    over_nvlink: bool


def _pack(rings: _Rings) -> tuple[float, tuple[str, ...]]:
    """Most total ring rate, and the wires that are then full. One distinct ring needs no solver."""
    if len(rings.uses) == 1:
        load = rings.uses[0]
        share = np.divide(rings.capacity_gbps, load, out=np.full_like(load, np.inf), where=load > 0)
        best = float(share.min())
        return best, tuple(w for w, s in zip(rings.wires, share, strict=True) if s <= best * (1 + 1e-9))
    solved = linprog(-np.ones(len(rings.uses)), A_ub=rings.uses.T, b_ub=rings.capacity_gbps, method="highs")
    if solved.status != 0 or solved.fun is None:
        raise ArithmeticError(f"ring packing found no optimum: {solved.message}")
    prices = solved.ineqlin.marginals
    return float(-solved.fun), tuple(w for w, p in zip(rings.wires, prices, strict=True) if p < -1e-9)


Route = tuple[tuple[str, float], ...]


def _offers(fabric: Fabric, members: tuple[int, ...]) -> list[_Rings]:
    """The ways to ring a set: each pair by its own best wires; and NVLink all the way, detours included.

    Two offers, not one mix: NCCL too runs all its rings over one class of link.
    """
    size = len(members)
    plain = {(i, j): fabric.routes[members[i], members[j]] for i, j in combinations(range(size), 2)}
    nvlink = {(i, j): _nvlink_route(fabric, members, i, j) for i, j in plain}
    order = _drawn_rings(fabric, members) if _drawn_suffice(fabric, members) else _every_ring(size)
    linked, own = np.zeros((size, size), dtype=bool), np.zeros((size, size), dtype=bool)
    for (i, j), route in nvlink.items():
        linked[i, j] = linked[j, i] = route is not None
        own[i, j] = own[j, i] = route is not None and route == plain[i, j]
    following = np.roll(order, -1, axis=1)
    nvlink_rings = order[linked[order, following].all(axis=1)]
    pcie_rings = order[~own[order, following].all(axis=1)]
    offers = []
    if len(nvlink_rings):
        offers.append(_offer(fabric, nvlink_rings, {pair: route for pair, route in nvlink.items() if route}, True))
    if len(pcie_rings):
        offers.append(_offer(fabric, pcie_rings, plain, False))
    return offers


def _offer(fabric: Fabric, order: NDArray[np.intp], routes: dict[tuple[int, int], Route], over_nvlink: bool) -> _Rings:
    size = order.shape[1]
    wires = tuple(sorted({wire for route in routes.values() for wire, _ in route}))
    place = {wire: column for column, wire in enumerate(wires)}
    table = np.zeros((size, size, len(wires)))  # what one ring edge i-j puts on each wire
    for (i, j), route in routes.items():
        for wire, times in route:
            table[i, j, place[wire]] += times
            table[j, i, place[wire]] += times
    loads = table[order, np.roll(order, -1, axis=1)].sum(axis=1)
    return _Rings(np.unique(loads, axis=0), wires, np.array([fabric.capacity_gbps[wire] for wire in wires]), over_nvlink)


def _nvlink_route(fabric: Fabric, members: tuple[int, ...], i: int, j: int) -> Route | None:
    """A pair's own NVLinks, else the widest way over those of one other GPU of the set, else None."""
    a, b = members[i], members[j]
    if not _over_pcie(fabric, a, b):
        return fabric.routes[a, b]
    ways: list[Route] = []
    for middle in members:
        legs = [(min(end, middle), max(end, middle)) for end in (a, b) if end != middle]
        if len(legs) == 2 and all(fabric.link_class[leg].startswith("NV") for leg in legs):
            ways.append(tuple(use for leg in legs for use in fabric.routes[leg]))
    return max(ways, key=lambda way: min(fabric.capacity_gbps[wire] for wire, _ in way), default=None)


def _over_pcie(fabric: Fabric, a: int, b: int) -> bool:
    return not fabric.link_class[min(a, b), max(a, b)].startswith("NV")


@cache
def _every_ring(size: int) -> NDArray[np.intp]:
    """All (size-1)!/2 undirected rings over 0..size-1 as rows; a pair's ring goes out and back."""
    rows = [(0, *rest) for rest in permutations(range(1, size)) if size < 4 or rest[0] < rest[-1]]
    return np.array(rows, dtype=np.intp)


def _drawn_suffice(fabric: Fabric, members: tuple[int, ...]) -> bool:
    """Whether drawn rings are the best there are: on a PCIe tree of at most two sockets; or all that is affordable."""
    if len(members) > _ALL_RINGS_UP_TO:
        return True
    routes = [fabric.routes[pair] for pair in combinations(members, 2)]
    sockets = {wire for route in routes for wire, _ in route if wire.startswith("socket")}
    return len(sockets) <= 1 and all(_over_pcie(fabric, a, b) for a, b in combinations(members, 2))


def _drawn_rings(fabric: Fabric, members: tuple[int, ...]) -> NDArray[np.intp]:
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


def _nearness(fabric: Fabric, a: int, b: int) -> tuple[int, float, int]:
    pair = (min(a, b), max(a, b))
    slow = min(fabric.capacity_gbps[wire] for wire, _ in fabric.routes[pair])
    return (int(_over_pcie(fabric, a, b)), -slow if not _over_pcie(fabric, a, b) else 0.0, fabric.distance[a][b])
