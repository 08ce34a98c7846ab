"""Rings that keep to NVLink by way of third GPUs: what NCCL does for a pair of a set that has no NVLinks of its own."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from topology.bandwidth.fabric import Fabric, Route
from topology.bandwidth.linear_programme import maximise
from topology.bandwidth.ring_orders import Orders, keeping_to, over_nvlink
from topology.bandwidth.rings import FullWire, Packing, Path, Rings, full_wires

_MOST_BOUND = 4_000
"""Rings of own NVLinks, times edges, that are also tried with one edge over another road. Only boards on which every GPU
is joined to every other have more, and they never gain by it."""

Roads = dict[tuple[int, int], list[tuple[Route, bool]]]
"""Per pair of places in a set: the ways its traffic can take, and whether that is over its own NVLinks."""


def pack_detours(fabric: Fabric, members: tuple[int, ...], order: Orders, own_gbps: float) -> Packing | None:
    """Rings that keep to NVLink by way of third GPUs; None where they gain nothing over `own_gbps`, or are none."""
    if own_gbps >= _most_nvlink_gbps(fabric, members) - 1e-6:
        return None
    roads = {pair: there for pair in combinations(range(len(members)), 2) if (there := _nvlink_roads(fabric, members, *pair))}
    packed = _pack_spread(fabric, order[keeping_to(order, roads)], roads)
    if packed is None or 2 * packed[0] <= own_gbps + 1e-6:
        return None
    rate, full = packed
    return Packing(Path.DETOUR, round(2 * rate, 6), round(2 * rate, 6), full)


def _nvlink_roads(fabric: Fabric, members: tuple[int, ...], i: int, j: int) -> list[tuple[Route, bool]]:
    """A pair's own NVLinks, and the ways over those of one other GPU of the set."""
    a, b = members[i], members[j]
    found = [(fabric.routes[a, b], True)] if over_nvlink(fabric, a, b) else []
    for middle in members:
        legs = [(min(end, middle), max(end, middle)) for end in (a, b) if end != middle]
        if len(legs) == 2 and all(fabric.links[leg].is_nvlink for leg in legs):
            found.append((tuple(use for leg in legs for use in fabric.routes[leg]), False))
    return found


def _most_nvlink_gbps(fabric: Fabric, members: tuple[int, ...]) -> float:
    """No packing exceeds what enters any one GPU over the NVLinks of the set."""

    def entering(a: int) -> float:
        wires = {wire for b in members if b != a and over_nvlink(fabric, a, b) for wire, _ in fabric.routes[min(a, b), max(a, b)]}
        return sum(fabric.capacity_gbps[wire] for wire in wires)

    return min(map(entering, members))


def _pack_spread(fabric: Fabric, order: Orders, roads: Roads) -> tuple[float, tuple[FullWire, ...]] | None:
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
    found = maximise(np.concatenate([np.ones(len(rings)), np.zeros(len(flows))]), load, capacity, sent)
    carried = load @ found.solution / (found.value or 1.0)
    return found.value, full_wires(Rings(load.T, tuple(wires), capacity), found.binding, carried)


def _leaving(order: Orders, roads: Roads) -> Orders:
    """Rings, and in a last column the edge that has to leave the pair's own NVLinks; -1 where some edge does anyway."""
    size = order.shape[1]
    own = keeping_to(order, [pair for pair, found in roads.items() if found[0][1]])
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
