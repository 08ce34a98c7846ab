"""Rings that keep to NVLink by detours over third GPUs, as NCCL runs them for a pair of a set without NVLinks of its own."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from topology.bandwidth.fabric import Fabric, Route
from topology.bandwidth.linear_programme import maximise
from topology.bandwidth.ring_orders import Orders, keeping_to, over_nvlink
from topology.bandwidth.rings import FullWire, Packing, Path, Rings, full_wires

_MOST_BOUND = 4_000
"""Most (rings over own NVLinks x edges) that are also tried with one edge over a detour. Only boards on which every GPU is joined to
every other have more, and detours never improve those."""

RouteChoices = dict[tuple[int, int], list[tuple[Route, bool]]]
"""Per pair of places in a set: the routes that its traffic can take, and whether each is over the pair's own NVLinks."""


def pack_detours(fabric: Fabric, members: tuple[int, ...], order: Orders, own_gbps: float) -> Packing | None:
    """Return the best packing of rings with detours; None where it is no faster than `own_gbps`, or no such ring exists.

    `order` are the rings to try, one per row; `own_gbps` is the bandwidth of the rings over the pairs' own NVLinks.
    """
    if own_gbps >= _nvlink_bound_gbps(fabric, members) - 1e-6:
        return None
    pairs = combinations(range(len(members)), 2)
    choices = {pair: routes for pair in pairs if (routes := _nvlink_routes(fabric, members, *pair))}
    packed = _pack_spread(fabric, order[keeping_to(order, choices)], choices)
    if packed is None or 2 * packed[0] <= own_gbps + 1e-6:
        return None
    rate, full = packed
    return Packing(Path.DETOUR, round(2 * rate, 6), round(2 * rate, 6), full)


def _nvlink_routes(fabric: Fabric, members: tuple[int, ...], i: int, j: int) -> list[tuple[Route, bool]]:
    """The pair's own NVLinks, and the routes over the NVLinks of one other GPU of the set."""
    a, b = members[i], members[j]
    routes = [(fabric.routes[a, b], True)] if over_nvlink(fabric, a, b) else []
    for middle in members:
        legs = [(min(end, middle), max(end, middle)) for end in (a, b) if end != middle]
        if len(legs) == 2 and all(fabric.links[leg].is_nvlink for leg in legs):
            routes.append((tuple(use for leg in legs for use in fabric.routes[leg]), False))
    return routes


def _nvlink_bound_gbps(fabric: Fabric, members: tuple[int, ...]) -> float:
    """An upper bound of every packing: what enters the GPU with the least NVLink bandwidth within the set."""

    def entering(a: int) -> float:
        wires = {wire for b in members if b != a and over_nvlink(fabric, a, b) for wire, _ in fabric.routes[min(a, b), max(a, b)]}
        return sum(fabric.capacity_gbps[wire] for wire in wires)

    return min(map(entering, members))


def _pack_spread(fabric: Fabric, order: Orders, choices: RouteChoices) -> tuple[float, tuple[FullWire, ...]] | None:
    """The most total rate in GB/s of rings that use a detour on at least one edge, each edge spread over its routes, and the wires that
    are then full. None where there is no such ring. With `flow[p, d]` for what pair p sends along route d,

        maximise sum(rate[r])   subject to   sum over rings r with edge p of rate[r] = sum over d of flow[p, d]
                                             sum(uses[p, d, w] flow[p, d]) <= capacity[w]

    A ring that can keep to the pairs' own links is tried once for each of its edges, which then has to take a detour.
    """
    rings = _with_a_detour(order, choices)
    if not len(rings):
        return None
    flows = [
        (pair, leaves, route)
        for pair, routes in choices.items()
        for leaves in (0, 1)
        for route, is_own in routes
        if not (is_own and leaves)
    ]
    demands = sorted({(pair, leaves) for pair, leaves, _ in flows})
    wires = sorted({wire for _, _, route in flows for wire, _ in route})
    row, place = {demand: number for number, demand in enumerate(demands)}, {wire: number for number, wire in enumerate(wires)}
    size = order.shape[1]
    number = np.zeros((size, size, 2), dtype=np.intp)
    for ((a, b), leaves), which in row.items():
        number[a, b, leaves] = number[b, a, leaves] = which
    sent, load = np.zeros((len(demands), len(rings) + len(flows))), np.zeros((len(wires), len(rings) + len(flows)))
    ends = np.roll(rings[:, :size], -1, axis=1)
    leaves_here = np.arange(size) == rings[:, size:]
    np.add.at(sent, (number[rings[:, :size], ends, leaves_here.astype(np.intp)].ravel(), np.repeat(np.arange(len(rings)), size)), 1.0)
    for column, (pair, leaves, route) in enumerate(flows, start=len(rings)):
        sent[row[pair, leaves], column] = -1.0
        for wire, uses in route:
            load[place[wire], column] += uses
    capacity = np.array([fabric.capacity_gbps[wire] for wire in wires])
    optimum = maximise(np.concatenate([np.ones(len(rings)), np.zeros(len(flows))]), load, capacity, sent)
    crossings = load @ optimum.solution / (optimum.value or 1.0)
    return optimum.value, full_wires(Rings(load.T, tuple(wires), capacity), optimum.binding, crossings)


def _with_a_detour(order: Orders, choices: RouteChoices) -> Orders:
    """Rings, with a last column: the edge that has to take a detour, or -1 where some edge has no own NVLinks."""
    size = order.shape[1]
    own = keeping_to(order, [pair for pair, routes in choices.items() if routes[0][1]])
    has_detour = np.zeros((size, size), dtype=bool)
    for a, b in (pair for pair, routes in choices.items() if not all(is_own for _, is_own in routes)):
        has_detour[a, b] = has_detour[b, a] = True
    free = np.column_stack([order[~own], np.full(int((~own).sum()), -1)])
    bound = order[own][: _MOST_BOUND // size]
    variants = [
        np.column_stack([bound, np.full(len(bound), edge)])[has_detour[bound[:, edge], np.roll(bound, -1, axis=1)[:, edge]]]
        for edge in range(size)
    ]
    return np.concatenate([free, *variants])
