"""Channels over the host: how many equal, directed rings and chains NCCL runs where its traffic crosses PCIe.

A ring that NCCL runs is directed. It loads a wire in one direction where it crosses it once, in both where it goes out and comes
back. NCCL looks for channels of one speed, fastest first. All of them keep one order of GPUs; every second one may run it
backwards, but not where an AMD CPU's zones are crossed. So c channels of speed s fit along one order if

    s (f[w] ceil(c/2) + b[w] floor(c/2)) <= capacity[w]      for every wire w, and with f and b exchanged

with f and b what the order puts on the wire forwards and backwards; on AMD across zones: s c max(f[w], b[w]) <= capacity[w].
Trees are chains inside a node, and NCCL gives them as many channels as it found rings: c chains fit by the same rule, at a speed of
their own. Source: NCCL 2.30.7 `src/graph/search.cc`, ncclTopoCompute (sameChannels, speeds) and followPath (directions).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from topology.constants import SLOWEST_CHANNEL_SHARE
from topology.fabric import Fabric
from topology.ring_orders import Orders

MOST_CHANNELS = 16
"""More channels than any PCIe wire of today divides into. NCCL itself stops at 32."""

_Loads = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HostChannels:
    """What NCCL runs over the host: `count` rings of one speed, and as many chains of another."""

    count: int
    ring_gbps: float
    """Bus bandwidth of all rings together."""
    tree_gbps: float
    """What all chains together carry; 0 where they do not fit at any speed."""


def host_channels(
    fabric: Fabric, members: tuple[int, ...], order: Orders, speeds_gbps: tuple[float, ...], least_channels: int = 1
) -> HostChannels | None:
    """The channels that NCCL finds along the best of some orders; None where not even one fits. `speeds_gbps` fastest first."""
    one_way = fabric.ordered_channels and len({fabric.zone[member] for member in members}) > 1
    forwards, backwards, capacity = _edge_loads(fabric, members, order)
    rings = _shares(forwards.sum(axis=1), backwards.sum(axis=1), capacity, one_way)
    count, speed = max((_settled(row, speeds_gbps, least_channels) for row in rings), key=lambda found: found[0] * found[1])
    if not count:
        return None
    chains = set().union(*(_chain_shares(forwards, backwards, capacity, one_way, edge) for edge in range(len(members))))
    fullest = min(row[count - 1] for row in chains)
    tree_speed = max((speed for speed in speeds_gbps if fullest * speed <= 1 + _ROUNDING), default=0.0)
    return HostChannels(count, count * speed, count * tree_speed)


_ROUNDING = 1e-6


def _edge_loads(fabric: Fabric, members: tuple[int, ...], order: Orders) -> tuple[_Loads, _Loads, _Loads]:
    """What each edge of each order puts on the wires forwards and backwards, (orders x edges x wires) each; capacities in GB/s."""
    size = len(members)
    sent = {(i, j): fabric.host_sent(members[i], members[j]) for i, j in combinations(range(size), 2)}
    wires = sorted({wire for uses in sent.values() for wire, _, _ in uses})
    place = {wire: column for column, wire in enumerate(wires)}
    forwards, backwards = np.zeros((size, size, len(wires))), np.zeros((size, size, len(wires)))
    for (i, j), uses in sent.items():
        for wire, there, back in uses:
            forwards[i, j, place[wire]] = backwards[j, i, place[wire]] = there
            backwards[i, j, place[wire]] = forwards[j, i, place[wire]] = back
    ends = np.roll(order, -1, axis=1)
    return forwards[order, ends], backwards[order, ends], np.array([fabric.capacity_gbps[wire] for wire in wires])


def _chain_shares(forwards: _Loads, backwards: _Loads, capacity: _Loads, one_way: bool, edge: int) -> set[tuple[float, ...]]:
    """The same for chains: rings without their edge number `edge`."""
    kept = [place for place in range(forwards.shape[1]) if place != edge]
    return _shares(forwards[:, kept].sum(axis=1), backwards[:, kept].sum(axis=1), capacity, one_way)


def _shares(forwards: _Loads, backwards: _Loads, capacity: _Loads, one_way: bool) -> set[tuple[float, ...]]:
    """Per order: the share of its fullest wire that 1, 2, 3 ... channels of 1 GB/s fill. Orders that are alike come once."""
    shares = []
    for count in range(1, MOST_CHANNELS + 1):
        half, rest = (count, 0) if one_way else (count - count // 2, count // 2)
        load = np.maximum(half * forwards + rest * backwards, half * backwards + rest * forwards)
        shares.append((load / capacity).max(axis=1))
    return set(map(tuple, np.unique(np.round(np.array(shares).T, 9), axis=0).tolist()))


@lru_cache(maxsize=4096)
def _settled(shares: tuple[float, ...], speeds_gbps: tuple[float, ...], least_channels: int) -> tuple[int, float]:
    """How many channels of which speed NCCL settles for along one order; (0, 0) for none."""
    best, best_speed = 0, 0.0
    for speed in speeds_gbps:
        if best and speed / best_speed <= SLOWEST_CHANNEL_SHARE:
            break
        count = sum(1 for share in shares if share * speed <= 1 + _ROUNDING)
        if count >= least_channels and count * speed > best * best_speed + 1e-9:
            best, best_speed = count, speed
    return best, best_speed
