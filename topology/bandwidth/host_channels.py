"""Channels over the host: the number and speed of the directed rings and chains that NCCL runs where its traffic crosses PCIe.

A ring is directed. It loads a wire in one direction where it crosses it once, in both where it goes out and comes back. NCCL tries
channels of one speed, fastest first. All of them keep one order of GPUs; every second one may run backwards, but not where they
cross zones of an AMD CPU. So c channels of speed s fit along one order if

    s (f[w] ceil(c/2) + b[w] floor(c/2)) <= capacity[w]      for every wire w, and with f and b exchanged

where f and b are the order's load on the wire forwards and backwards; on AMD across zones: s c max(f[w], b[w]) <= capacity[w].
Inside a node trees are chains, and NCCL gives them as many channels as rings: c chains fit by the same rule, at a speed of their
own. Source: NCCL 2.30.7 `src/graph/search.cc`, ncclTopoCompute (sameChannels, speeds) and followPath (directions).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from topology.bandwidth.fabric import Fabric
from topology.bandwidth.ring_orders import Orders, over_nvlink
from topology.machine.constants import SLOWEST_CHANNEL_SHARE

MOST_CHANNELS = 32
"""NCCL runs at most so many, rings and their backward copies together."""

DOUBLED_FROM_GBPS = 25.0
"""NCCL halves the speed of faster channels and doubles their number. Source: search.cc, ncclTopoDupChannels."""

_Loads = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HostChannels:
    """`count` rings of one speed over the host, and as many chains of another."""

    count: int
    ring_gbps: float
    """Bus bandwidth of all rings together."""
    tree_gbps: float
    """GB/s of all chains together; 0 where they fit at no speed."""


def host_channels(
    fabric: Fabric, members: tuple[int, ...], order: Orders, speeds_gbps: tuple[float, ...], least_channels: int = 1
) -> HostChannels | None:
    """Return the channels that NCCL finds along the rings `order`, one per row; None where none fits. `speeds_gbps` fastest first."""
    zones = len({fabric.zone[member] for member in members})
    one_way = fabric.ordered_channels and zones > 1
    forwards, backwards, capacity = _edge_loads(fabric, members, order)
    whole = forwards.sum(axis=1), backwards.sum(axis=1)
    rows = np.unique(_shares(*whole, capacity, one_way).round(9), axis=0)
    candidates = [_settled(_counts_of(row, speeds_gbps), speeds_gbps, least_channels) for row in rows]
    if zones > 2 and not one_way and not any(over_nvlink(fabric, a, b) for a, b in combinations(members, 2)):
        mixed = np.unique(np.stack(whole, axis=1), axis=0)
        counts = tuple(_mixed_count(mixed, capacity / speed) for speed in speeds_gbps)
        candidates.append(_settled(counts, speeds_gbps, least_channels))
    count, speed = max(candidates, key=lambda channels: channels[0] * channels[1])
    if not count:
        return None
    ring_gbps = count * speed
    if speed >= DOUBLED_FROM_GBPS:
        count = 2 * count  # at half the speed each: the same for rings, but trees get as many channels
    chains = np.concatenate([_chain_shares(forwards, backwards, capacity, one_way, edge) for edge in range(len(members))])
    fullest = float(chains[:, count - 1].min())
    tree_speed = max((speed for speed in speeds_gbps if fullest * speed <= 1 + _ROUNDING), default=0.0)
    return HostChannels(count, ring_gbps, count * tree_speed)


_ROUNDING = 1e-6


def _edge_loads(fabric: Fabric, members: tuple[int, ...], order: Orders) -> tuple[_Loads, _Loads, _Loads]:
    """The load of each edge of each order on the wires, forwards and backwards, (orders x edges x wires) each; capacities in GB/s."""
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


def _chain_shares(forwards: _Loads, backwards: _Loads, capacity: _Loads, one_way: bool, edge: int) -> _Loads:
    """`_shares` of chains: rings without their edge number `edge`."""
    kept = [place for place in range(forwards.shape[1]) if place != edge]
    return _shares(forwards[:, kept].sum(axis=1), backwards[:, kept].sum(axis=1), capacity, one_way)


def _shares(forwards: _Loads, backwards: _Loads, capacity: _Loads, one_way: bool) -> _Loads:
    """The share of its fullest wire that 1, 2, 3 ... channels of 1 GB/s fill, (orders x MOST_CHANNELS)."""
    shares = []
    for count in range(1, MOST_CHANNELS + 1):
        half, rest = (count, 0) if one_way else (count - count // 2, count // 2)
        load = np.maximum(half * forwards + rest * backwards, half * backwards + rest * forwards)
        shares.append((load / capacity).max(axis=1))
    return np.array(shares).T


def _counts_of(shares: _Loads, speeds_gbps: tuple[float, ...]) -> tuple[int, ...]:
    """How many channels of each speed fit along one order."""
    return tuple(int((shares * speed <= 1 + _ROUNDING).sum()) for speed in speeds_gbps)


@lru_cache(maxsize=4096)
def _settled(counts: tuple[int, ...], speeds_gbps: tuple[float, ...], least_channels: int) -> tuple[int, float]:
    """Number and speed of the channels that NCCL uses, given how many of each speed fit; (0, 0) for none."""
    best, best_speed = 0, 0.0
    for count, speed in zip(counts, speeds_gbps, strict=True):
        if best and speed / best_speed <= SLOWEST_CHANNEL_SHARE:
            break
        if count >= least_channels and count * speed > best * best_speed + 1e-9:
            best, best_speed = count, speed
    return best, best_speed


def _mixed_count(loads: _Loads, capacity: _Loads) -> int:
    """How many channels of 1 GB/s fit where each has an order of its own.

    Greedy: the next order is the one after which the fullest wire is least full; of those, the one that leaves all wires least full.
    NCCL searches more and hardly finds more.
    """
    either_way = np.concatenate([loads, loads[:, ::-1]]) / capacity
    used = np.zeros(either_way.shape[1:])
    for count in range(MOST_CHANNELS):
        after = used + either_way
        fullest = after.max(axis=(1, 2))
        if fullest.min() > 1 + _ROUNDING:
            return count
        used = after[np.lexsort(((after**2).sum(axis=(1, 2)), fullest.round(9)))[0]]
    return MOST_CHANNELS
