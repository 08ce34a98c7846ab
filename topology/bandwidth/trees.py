"""Trees through a set of GPUs: NCCL's answer to a slow cut that a ring would cross twice.

Inside one node NCCL's tree is a chain, and its all-reduce sends up and down it. Two channels, one in each direction, cross
a slow cut once each where a ring crosses it twice, and so carry twice as much. But NCCL gives trees no more channels than it
found rings, and it looks for a second ring channel only where NVLink is split by a slower link ("two sockets with
NVLink and a slower link in between"). Source: NCCL 2.30.7 `src/graph/search.cc` (ncclTopoCompute, ncclTopoSplitNvLink).
"""

from __future__ import annotations

from itertools import combinations

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from topology.bandwidth.channels import channelled_gbps
from topology.bandwidth.fabric import Fabric
from topology.bandwidth.ring_orders import over_nvlink, rings_through
from topology.bandwidth.rings import Path, Rings, edge_loads
from topology.machine.constants import TREE_CHANCE

TREE_CHANNELS = 2
"""Channels of a set that NCCL sees as split: at least so many, and where a slow cut binds no more."""


def split_chance(fabric: Fabric, members: tuple[int, ...]) -> float:
    """How likely NCCL is to see NVLink in the set as split by PCIe, and so to look for a second channel there.

    Certain for two groups joined by NVLink; for one group that could fall into two pairs it depends on the order in which
    the GPUs are listed (TREE_CHANCE); from three groups on NCCL no longer sees a split.
    """
    linked: nx.Graph[int] = nx.Graph()
    linked.add_edges_from((a, b) for a, b in combinations(members, 2) if over_nvlink(fabric, a, b))
    groups = nx.number_connected_components(linked)
    if groups > 2 or len(nx.max_weight_matching(linked, maxcardinality=True)) < 2:
        return 0.0
    return 1.0 if groups == 2 else TREE_CHANCE


def pairs_in_two_zones(fabric: Fabric, members: tuple[int, ...]) -> bool:
    """Whether each of two NUMA zones holds an NVLink pair of the set."""
    zones = {fabric.zone[a] for a, b in combinations(members, 2) if fabric.zone[a] == fabric.zone[b] and over_nvlink(fabric, a, b)}
    return len(zones) >= 2


def second_channel(fabric: Fabric, members: tuple[int, ...], path: Path) -> float:
    """The probability that NCCL looks for a second channel over a class of path."""
    if len(members) < 3:
        return 0.0
    if path is Path.HOST:
        return split_chance(fabric, members)
    return TREE_CHANCE if pairs_in_two_zones(fabric, members) else 0.0


def tree_gbps(fabric: Fabric, members: tuple[int, ...], speeds_gbps: tuple[float, ...]) -> float | None:
    """What two tree channels over NVLink carry together: one chain, there and back. None where there is no such chain."""
    chains = _chains(fabric, members)
    if chains is None:
        return None
    both_ways = _widest(chains, chains.uses)
    one_way = _widest(chains, np.maximum(chains.uses / 2, np.minimum(chains.uses, 1.0)))  # half of its edges each way
    return round(TREE_CHANNELS * min(both_ways, channelled_gbps(one_way, speeds_gbps)), 6)


def _chains(fabric: Fabric, members: tuple[int, ...]) -> Rings | None:
    """Every chain over NVLink: what edges of a chain put on the wires, once in each direction."""
    size = len(members)
    linked_pairs = [(i, j) for i, j in combinations(range(size), 2) if over_nvlink(fabric, members[i], members[j])]
    routes = {(i, j): fabric.routes[members[i], members[j]] for i, j in linked_pairs}
    order = rings_through(fabric, members)
    table, wires = edge_loads(routes, size)
    linked = np.zeros((size, size), dtype=bool)
    for i, j in routes:
        linked[i, j] = linked[j, i] = True
    edges, passable = table[order, np.roll(order, -1, axis=1)], linked[order, np.roll(order, -1, axis=1)]
    loads = [_cut_at(edges, passable, place) for place in range(size)]
    found = np.concatenate(loads)
    if not len(found):
        return None
    return Rings(np.unique(found, axis=0), wires, np.array([fabric.capacity_gbps[wire] for wire in wires]))


def _cut_at(edges: NDArray[np.float64], passable: NDArray[np.bool_], place: int) -> NDArray[np.float64]:
    """Rings without their edge number `place`, as far as all their other edges can be passed."""
    kept = [edge for edge in range(edges.shape[1]) if edge != place]
    whole = passable[:, kept].all(axis=1)
    loads: NDArray[np.float64] = edges[whole][:, kept].sum(axis=1)
    return loads


def _widest(chains: Rings, loads: NDArray[np.float64]) -> float:
    """The most that any one chain carries, given what it puts on the wires."""
    share = np.divide(chains.capacity_gbps, loads, out=np.full_like(loads, np.inf), where=loads > 0)
    return float(share.min(axis=1).max())
