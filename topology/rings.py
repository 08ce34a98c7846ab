"""Rings through a set of GPUs, and the most they can carry side by side.

A ring loads every wire it crosses, in both directions; rings may run side by side until some wire is full:

    maximise   busbw = 2 sum(rate[r])         over rings r, rate[r] >= 0
    subject to sum(uses[r, w] rate[r]) <= capacity[w]     for every wire w, per direction

a linear programme, solved exactly (HiGHS). `uses` counts ring edges, each of which loads a wire once per
direction; hence the 2, and hence a pair, whose ring runs out and back over one link, gets that link's
GB/s. A wire shared by several edges is counted once as capacity and as often as it is used as load, which is
what makes eight GPUs behind one uplink slow.

There are up to three ways to ring a set, packed apart because NCCL too runs all its rings over one class of path:

    NVLink   over the pairs' own NVLinks, or their NVSwitch ports
    detour   NVLink all the way, pairs also crossing the links of one other GPU of the set
    host     each pair over its NVLinks where it has some, else over PCIe

Limit: the rings of nine GPUs and more are drawn from the machine's hierarchy instead of from all (n-1)!/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from topology.channels import channelled_gbps
from topology.fabric import Fabric, Route

_ALL_RINGS_UP_TO = 8
"""Sets up to here see every ring: 2,520 for eight GPUs. Nine would be 20,160."""

_MOST_BOUND = 4_000
"""Rings of own NVLinks, times edges, that are also tried with one edge over another road. Only boards on which every GPU
is joined to every other have more, and they never gain by it."""


class Path(StrEnum):
    """The class of path that all edges of a way keep to."""

    NVLINK = "NVLink"
    DETOUR = "NVLink through a third GPU"
    HOST = "PCIe and host"


@dataclass(frozen=True, slots=True)
class FullWire:
    """A wire that the best rings fill."""

    name: str
    capacity_gbps: float
    crossings: float
    """How often a ring crosses it, in either direction; 1.2 for each time that the host bridge takes its price."""


@dataclass(frozen=True, slots=True)
class Packing:
    """The best mix of rings through a set, keeping to one class of path."""

    path: Path
    ring_gbps: float
    """What NCCL's channels make of the packing."""
    wire_gbps: float
    """What the wires could carry: never less than `ring_gbps`."""
    full: tuple[FullWire, ...]


def pack_rings(fabric: Fabric, members: tuple[int, ...], speeds_gbps: tuple[float, ...]) -> tuple[Packing, ...]:
    """The best packing of each way there is, for two or more positions; `speeds_gbps` are NCCL's channel speeds.

    Detours that gain nothing over the pairs' own links are left out, and so is the host where NVSwitches join all.
    """
    places = list(combinations(range(len(members)), 2))
    linked = {(i, j): fabric.routes[members[i], members[j]] for i, j in places if over_nvlink(fabric, members[i], members[j])}
    pcie = {(i, j): fabric.pcie_routes[members[i], members[j]] for i, j in places}
    order = drawn_rings(fabric, members) if drawn_suffice(fabric, members) else every_ring(len(members))
    found: list[Packing] = []
    direct = order[_all_edges(order, linked)] if linked else order[:0]
    own = 0.0
    if len(direct):
        found.append(_packing(Path.NVLINK, offer(fabric, direct, linked), speeds_gbps))
        own = found[0].wire_gbps
    if linked and not all(fabric.switch_links[member] for member in members):
        if own < _most_nvlink_gbps(fabric, members) - 1e-6:
            found += _detours(fabric, members, order, own)
        host = {(i, j): fabric.host_route(members[i], members[j]) for i, j in places}
        others = order[~_all_edges(order, {pair: route for pair, route in linked.items() if host[pair] == route})]
        if len(others):
            found.append(_packing(Path.HOST, offer(fabric, others, host), speeds_gbps))
    elif not linked:
        found.append(_packing(Path.HOST, offer(fabric, order, pcie), speeds_gbps))
    return tuple(found)


def _packing(path: Path, rings: Rings, speeds_gbps: tuple[float, ...]) -> Packing:
    rate, full = pack(rings)
    wire = round(2 * rate, 6)
    return Packing(path, round(_channelled(path, rings, wire, speeds_gbps), 6), wire, full)


def _spread(path: Path, rate: float, full: tuple[FullWire, ...], speeds_gbps: tuple[float, ...] | None = None) -> Packing:
    wire = round(2 * rate, 6)
    return Packing(path, round(channelled_gbps(wire, speeds_gbps), 6) if speeds_gbps else wire, wire, full)


def _detours(fabric: Fabric, members: tuple[int, ...], order: NDArray[np.intp], own_gbps: float) -> list[Packing]:
    """Rings that keep to NVLink by way of third GPUs, where they gain something over `own_gbps`."""
    roads = {pair: there for pair in combinations(range(len(members)), 2) if (there := _nvlink_roads(fabric, members, *pair))}
    packed = pack_spread(fabric, order[_all_edges(order, {pair: there[0][0] for pair, there in roads.items()})], roads)
    if packed is None or 2 * packed[0] <= own_gbps + 1e-6:
        return []
    return [_spread(Path.DETOUR, *packed)]


def _most_nvlink_gbps(fabric: Fabric, members: tuple[int, ...]) -> float:
    """No packing exceeds what enters any one GPU over the NVLinks of the set."""

    def entering(a: int) -> float:
        wires = {wire for b in members if b != a and over_nvlink(fabric, a, b) for wire, _ in fabric.routes[min(a, b), max(a, b)]}
        return sum(fabric.capacity_gbps[wire] for wire in wires)

    return min(map(entering, members))


@dataclass(frozen=True, slots=True)
class Rings:
    """Rings on offer: `uses` is (distinct rings x wires), rings that load the same wires alike being one."""

    uses: NDArray[np.float64]
    wires: tuple[str, ...]
    capacity_gbps: NDArray[np.float64]


def pack(rings: Rings) -> tuple[float, tuple[FullWire, ...]]:
    """Most total ring rate in GB/s, and the wires that are then full. One distinct ring needs no solver."""
    if len(rings.uses) == 1:
        load = rings.uses[0]
        share = np.divide(rings.capacity_gbps, load, out=np.full_like(load, np.inf), where=load > 0)
        best = float(share.min())
        return best, _full(rings, share <= best * (1 + 1e-9), load)
    solved = linprog(-np.ones(len(rings.uses)), A_ub=rings.uses.T, b_ub=rings.capacity_gbps, method="highs")
    if solved.status != 0 or solved.fun is None or solved.x is None:
        raise ArithmeticError(f"ring packing found no optimum: {solved.message}")
    total = float(-solved.fun)
    return total, _full(rings, np.asarray(solved.ineqlin.marginals) < -1e-9, rings.uses.T @ solved.x / total)


def _full(rings: Rings, which: NDArray[np.bool_], crossings: NDArray[np.float64]) -> tuple[FullWire, ...]:
    return tuple(
        FullWire(rings.wires[place], float(rings.capacity_gbps[place]), round(float(crossings[place]), 6))
        for place in np.flatnonzero(which)
    )


def _channelled(path: Path, rings: Rings, wire_gbps: float, speeds_gbps: tuple[float, ...]) -> float:
    """What channels of equal speed make of a packing.

    Over the host some wire is common to all rings, and channels are cut out of that one. So they are where all rings load
    the wires alike; a ring that crosses its wire just once leaves it free in the other direction, for as many channels
    again. In meshes of several kinds of ring the channels are whole NVLinks already.
    """
    if path is not Path.HOST and len(rings.uses) > 1:
        return wire_gbps
    once = path is not Path.HOST and float(rings.uses[0].max()) <= 1.0
    return 2 * channelled_gbps(wire_gbps / 2, speeds_gbps) if once else channelled_gbps(wire_gbps, speeds_gbps)


def pack_spread(fabric: Fabric, order: NDArray[np.intp], roads: Roads) -> tuple[float, tuple[FullWire, ...]] | None:
    """Most total rate of rings that leave the pairs' own NVLinks on at least one edge, each edge spread over its roads; None
    where there is no such ring. With `flow[p, d]` for what pair p sends along road d,

        maximise sum(rate[r])   subject to   sum over rings r with edge p of rate[r] = sum over d of flow[p, d]
                                             sum(uses[p, d, w] flow[p, d]) <= capacity[w]

    A ring that could keep to own links counts once for each of its edges, which then has to take another road.
    """
    rings = _leaving(order, roads)
    if not len(rings):
        return None
    flows = [(pair, leaves, road) for pair, found in roads.items() for leaves in (0, 1) for road, own in found if not (own and leaves)]
    demands = sorted({(pair, leaves) for pair, leaves, _ in flows})
    wires = sorted({wire for _, _, road in flows for wire, _ in road})
    row, place = {demand: number for number, demand in enumerate(demands)}, {wire: number for number, wire in enumerate(wires)}
    size = order.shape[1]
    number = np.zeros((size, size, 2), dtype=np.intp)
    for ((a, b), leaves), which in row.items():
        number[a, b, leaves] = number[b, a, leaves] = which
    sent, load = np.zeros((len(demands), len(rings) + len(flows))), np.zeros((len(wires), len(rings) + len(flows)))
    ends = np.roll(rings[:, :size], -1, axis=1)
    leaves_here = np.arange(size) == rings[:, size:]
    np.add.at(sent, (number[rings[:, :size], ends, leaves_here.astype(np.intp)].ravel(), np.repeat(np.arange(len(rings)), size)), 1.0)
    for column, (pair, leaves, road) in enumerate(flows, start=len(rings)):
        sent[row[pair, leaves], column] = -1.0
        for wire, times in road:
            load[place[wire], column] += times
    capacity = np.array([fabric.capacity_gbps[wire] for wire in wires])
    aim = np.concatenate([-np.ones(len(rings)), np.zeros(len(flows))])
    solved = linprog(aim, A_ub=load, b_ub=capacity, A_eq=sent, b_eq=np.zeros(len(demands)), method="highs")
    if solved.status != 0 or solved.fun is None or solved.x is None:
        raise ArithmeticError(f"ring packing found no optimum: {solved.message}")
    total = float(-solved.fun)
    carried = load @ solved.x / (total or 1.0)
    return total, _full(Rings(load.T, tuple(wires), capacity), np.asarray(solved.ineqlin.marginals) < -1e-9, carried)


def _leaving(order: NDArray[np.intp], roads: Roads) -> NDArray[np.intp]:
    """Rings, and in a last column the edge that has to leave the pair's own NVLinks; -1 where some edge does anyway."""
    size = order.shape[1]
    own = _all_edges(order, {pair: found[0][0] for pair, found in roads.items() if found[0][1]})
    other = np.zeros((size, size), dtype=bool)
    for a, b in (pair for pair, found in roads.items() if not all(is_own for _, is_own in found)):
        other[a, b] = other[b, a] = True
    free = np.column_stack([order[~own], np.full(int((~own).sum()), -1)])
    bound = order[own][: _MOST_BOUND // size]
    variants = [
        np.column_stack([bound, np.full(len(bound), edge)])[other[bound[:, edge], np.roll(bound, -1, axis=1)[:, edge]]]
        for edge in range(size)
    ]
    return np.concatenate([free, *variants])


Roads = dict[tuple[int, int], list[tuple[Route, bool]]]
"""Per pair of places in a set: the ways its traffic can take, and whether that is over its own NVLinks."""


def _all_edges(order: NDArray[np.intp], routes: dict[tuple[int, int], Route]) -> NDArray[np.bool_]:
    """Which rings keep to the pairs that have a route."""
    size = order.shape[1]
    linked = np.zeros((size, size), dtype=bool)
    for i, j in routes:
        linked[i, j] = linked[j, i] = True
    passed: NDArray[np.bool_] = linked[order, np.roll(order, -1, axis=1)]
    kept: NDArray[np.bool_] = np.logical_and.reduce(passed, axis=1)
    return kept


def edge_loads(routes: dict[tuple[int, int], Route], size: int) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """What one edge i-j puts on each wire, (size x size x wires); and the wires' names."""
    wires = tuple(sorted({wire for route in routes.values() for wire, _ in route}))
    place = {wire: column for column, wire in enumerate(wires)}
    table = np.zeros((size, size, len(wires)))
    for (i, j), route in routes.items():
        for wire, times in route:
            table[i, j, place[wire]] += times
            table[j, i, place[wire]] += times
    return table, wires


def offer(fabric: Fabric, order: NDArray[np.intp], routes: dict[tuple[int, int], Route]) -> Rings:
    """Rings as rows of positions, over given routes, as loads."""
    table, wires = edge_loads(routes, order.shape[1])
    loads = table[order, np.roll(order, -1, axis=1)].sum(axis=1)
    return Rings(np.unique(loads, axis=0), wires, np.array([fabric.capacity_gbps[wire] for wire in wires]))


def _nvlink_roads(fabric: Fabric, members: tuple[int, ...], i: int, j: int) -> list[tuple[Route, bool]]:
    """A pair's own NVLinks, and the ways over those of one other GPU of the set."""
    a, b = members[i], members[j]
    found = [(fabric.routes[a, b], True)] if over_nvlink(fabric, a, b) else []
    for middle in members:
        legs = [(min(end, middle), max(end, middle)) for end in (a, b) if end != middle]
        if len(legs) == 2 and all(fabric.link_class[leg].startswith("NV") for leg in legs):
            found.append((tuple(use for leg in legs for use in fabric.routes[leg]), False))
    return found


def over_nvlink(fabric: Fabric, a: int, b: int) -> bool:
    """Whether two positions are joined by NVLink, directly or through NVSwitches."""
    return fabric.link_class[min(a, b), max(a, b)].startswith("NV")


@cache
def every_ring(size: int) -> NDArray[np.intp]:
    """All (size-1)!/2 undirected rings over 0..size-1 as rows; a pair's ring goes out and back."""
    rows = [(0, *rest) for rest in permutations(range(1, size)) if size < 4 or rest[0] < rest[-1]]
    return np.array(rows, dtype=np.intp)


def drawn_suffice(fabric: Fabric, members: tuple[int, ...]) -> bool:
    """Whether drawn rings are the best there are, as on one switched board; or all that is affordable."""
    if len(members) > _ALL_RINGS_UP_TO:
        return True
    return all(fabric.link_class[pair] == "NVSwitch" for pair in combinations(members, 2))


def drawn_rings(fabric: Fabric, members: tuple[int, ...]) -> NDArray[np.intp]:
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


def _nearness(fabric: Fabric, a: int, b: int) -> tuple[bool, float, int]:
    pair = (min(a, b), max(a, b))
    linked = over_nvlink(fabric, a, b)
    slow = min(fabric.capacity_gbps[wire] for wire, _ in fabric.routes[pair])
    return (not linked, -slow if linked else 0.0, fabric.distance[a][b])
