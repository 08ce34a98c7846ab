"""Rings through a set of GPUs, and the most that they carry side by side.

A ring loads every wire that it crosses, in both directions. Rings run side by side until some wire is full:

    maximise   busbw = 2 sum(rate[r])         over rings r, rate[r] >= 0
    subject to sum(uses[r, w] rate[r]) <= capacity[w]     for every wire w, per direction

a linear programme, solved exactly (HiGHS). `uses` counts ring edges, each of which loads a wire once per
direction; hence the factor 2. The ring of a pair runs out and back over one link, so the pair gets that link's
GB/s. A wire that several edges cross has its capacity once and the load of each edge, so eight GPUs behind one uplink are slow.

A set has rings over up to three classes of path. Each class is packed separately, because NCCL runs all its rings over one class:

    NVLink   over the pairs' own NVLinks, or their NVSwitch ports
    detour   NVLink only, where a pair may also use the links of one other GPU of the set
    host     each pair over its NVLinks where it has some, else over PCIe

Limit: for nine GPUs and more the rings follow the machine's hierarchy instead of being all (n-1)!/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from topology.bandwidth.channels import channelled_gbps
from topology.bandwidth.fabric import Fabric, Route
from topology.bandwidth.host_channels import HostChannels, host_channels
from topology.bandwidth.linear_programme import maximise
from topology.bandwidth.ring_orders import Orders, keeping_to, over_nvlink


class Path(StrEnum):
    """The class of path that all edges of a ring use."""

    NVLINK = "NVLink"
    DETOUR = "NVLink through a third GPU"
    HOST = "PCIe and host"


@dataclass(frozen=True, slots=True)
class FullWire:
    """A wire that the best rings fill."""

    name: str
    capacity_gbps: float
    crossings: float
    """How often a ring crosses it, in either direction; a crossing with the host bridge penalty counts 1.2."""


@dataclass(frozen=True, slots=True)
class Packing:
    """The best mix of rings through a set, over one class of path."""

    path: Path
    ring_gbps: float
    """Bus bandwidth that NCCL's channels reach."""
    wire_gbps: float
    """Bus bandwidth that the wires could carry: never less than `ring_gbps`."""
    full: tuple[FullWire, ...]
    channels: HostChannels | None = None
    """Over the host: the channels that NCCL runs."""
    two_channels: HostChannels | None = None
    """Over the host: the channels that NCCL runs where it searches for at least two."""


def pack_own(fabric: Fabric, members: tuple[int, ...], order: Orders, speeds_gbps: tuple[float, ...]) -> Packing | None:
    """Return the best packing of rings over the pairs' own NVLinks or NVSwitch ports; None where no ring keeps to them."""
    linked = _linked(fabric, members)
    direct = order[keeping_to(order, linked)]
    return _packing(Path.NVLINK, ring_loads(fabric, direct, linked), speeds_gbps) if len(direct) else None


def pack_host(fabric: Fabric, members: tuple[int, ...], order: Orders, speeds_gbps: tuple[float, ...]) -> Packing | None:
    """Return the best packing of rings that cross PCIe somewhere; None where NVSwitches join all, which is always faster."""
    linked = _linked(fabric, members)
    if linked and all(fabric.switch_links[member] for member in members):
        return None
    host = {(i, j): fabric.host_route(members[i], members[j]) for i, j in combinations(range(len(members)), 2)}
    others = order[~keeping_to(order, [pair for pair, route in linked.items() if host[pair] == route])]
    if not len(others):
        return None
    rate, full = pack(ring_loads(fabric, others, host))
    wire = round(2 * rate, 6)
    one, two = (host_channels(fabric, members, others, speeds_gbps, least) for least in (1, 2))
    return Packing(Path.HOST, round(one.ring_gbps, 6) if one else wire, wire, full, one, two)


def _linked(fabric: Fabric, members: tuple[int, ...]) -> dict[tuple[int, int], Route]:
    places = combinations(range(len(members)), 2)
    return {(i, j): fabric.routes[members[i], members[j]] for i, j in places if over_nvlink(fabric, members[i], members[j])}


def _packing(path: Path, rings: Rings, speeds_gbps: tuple[float, ...]) -> Packing:
    rate, full = pack(rings)
    wire = round(2 * rate, 6)
    return Packing(path, round(_channelled(rings, wire, speeds_gbps), 6), wire, full)


@dataclass(frozen=True, slots=True)
class Rings:
    """Rings and their loads: `uses` is (distinct rings x wires). Rings with the same load on every wire are one row."""

    uses: NDArray[np.float64]
    wires: tuple[str, ...]
    capacity_gbps: NDArray[np.float64]


def pack(rings: Rings) -> tuple[float, tuple[FullWire, ...]]:
    """Return the most total ring rate in GB/s, and the wires that are then full. One distinct ring needs no solver."""
    if len(rings.uses) == 1:
        load = rings.uses[0]
        share = np.divide(rings.capacity_gbps, load, out=np.full_like(load, np.inf), where=load > 0)
        best = float(share.min())
        return best, full_wires(rings, share <= best * (1 + 1e-9), load)
    optimum = maximise(np.ones(len(rings.uses)), rings.uses.T, rings.capacity_gbps)
    return optimum.value, full_wires(rings, optimum.binding, rings.uses.T @ optimum.solution / optimum.value)


def full_wires(rings: Rings, which: NDArray[np.bool_], crossings: NDArray[np.float64]) -> tuple[FullWire, ...]:
    """Return the wires marked in `which`, with how often a ring crosses each."""
    return tuple(
        FullWire(rings.wires[place], float(rings.capacity_gbps[place]), round(float(crossings[place]), 6))
        for place in np.flatnonzero(which)
    )


def _channelled(rings: Rings, wire_gbps: float, speeds_gbps: tuple[float, ...]) -> float:
    """Bus bandwidth that channels of equal speed reach with a packing.

    Where all rings have the same loads, the full wire is divided into channels. A ring that crosses it only once leaves its other
    direction free, for as many channels again. In meshes with several kinds of ring the channels are whole NVLinks already. For
    channels over the host see `host_channels`.
    """
    if len(rings.uses) > 1:
        return wire_gbps
    crosses_once = float(rings.uses[0].max()) <= 1.0
    return 2 * channelled_gbps(wire_gbps / 2, speeds_gbps) if crosses_once else channelled_gbps(wire_gbps, speeds_gbps)


def edge_loads(routes: dict[tuple[int, int], Route], size: int) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the load of one edge i-j on each wire, (size x size x wires), and the wires' names."""
    wires = tuple(sorted({wire for route in routes.values() for wire, _ in route}))
    place = {wire: column for column, wire in enumerate(wires)}
    table = np.zeros((size, size, len(wires)))
    for (i, j), route in routes.items():
        for wire, times in route:
            table[i, j, place[wire]] += times
            table[j, i, place[wire]] += times
    return table, wires


def ring_loads(fabric: Fabric, order: Orders, routes: dict[tuple[int, int], Route]) -> Rings:
    """Return the loads of the rings `order` where each pair of places takes its route in `routes`."""
    table, wires = edge_loads(routes, order.shape[1])
    loads = table[order, np.roll(order, -1, axis=1)].sum(axis=1)
    return Rings(np.unique(loads, axis=0), wires, np.array([fabric.capacity_gbps[wire] for wire in wires]))
