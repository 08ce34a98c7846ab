"""Trees through a set of GPUs, which NCCL uses where a ring would cross a slow cut twice.

Inside one node NCCL's tree is a chain, and its all-reduce sends up and down it. Two channels, one in each direction, cross
a slow cut once each where a ring crosses it twice, and so carry twice as much. But NCCL gives trees no more channels than
rings, and it searches for a second ring channel only where NVLink is split by a slower link ("two sockets with
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
"""Tree channels of a set that NCCL sees as split. It runs at least so many, and no more where a slow cut limits them."""


def split_chance(fabric: Fabric, members: tuple[int, ...]) -> float:
    """Return the probability that NCCL sees NVLink in the set as split by PCIe, and so searches for a second channel.

    It is 1 for two groups joined by NVLink. For one group that contains two pairs it depends on the order in which the GPUs are listed
    (TREE_CHANCE). For three groups and more it is 0.
    """
    linked: nx.Graph[int] = nx.Graph()
    linked.add_edges_from((a, b) for a, b in combinations(members, 2) if over_nvlink(fabric, a, b))
    groups = nx.number_connected_components(linked)
    if groups > 2 or len(nx.max_weight_matching(linked, maxcardinality=True)) < 2:
        return 0.0
    return 1.0 if groups == 2 else TREE_CHANCE


def pairs_in_two_zones(fabric: Fabric, members: tuple[int, ...]) -> bool:
    """Whether at least two host zones each contain an NVLink pair of the set."""
    zones = {fabric.zone[a] for a, b in combinations(members, 2) if fabric.zone[a] == fabric.zone[b] and over_nvlink(fabric, a, b)}
    return len(zones) >= 2


def second_channel(fabric: Fabric, members: tuple[int, ...], path: Path) -> float:
    """Return the probability that NCCL searches for a second channel over a class of path."""
    if len(members) < 3:
        return 0.0
    if path is Path.HOST:
        return split_chance(fabric, members)
    return TREE_CHANCE if pairs_in_two_zones(fabric, members) else 0.0


def tree_gbps(fabric: Fabric, members: tuple[int, ...], speeds_gbps: tuple[float, ...]) -> float | None:
    """Return the GB/s that two tree channels over NVLink carry together: one chain, in both directions. None where no chain exists."""
    chains = _chains(fabric, members)
    if chains is None:
        return None
    both_ways = _widest(chains, chains.uses)
    one_way = _widest(chains, np.maximum(chains.uses / 2, np.minimum(chains.uses, 1.0)))  # half of its edges each way
    return round(TREE_CHANNELS * min(both_ways, channelled_gbps(one_way, speeds_gbps)), 6)


def _chains(fabric: Fabric, members: tuple[int, ...]) -> Rings | None:
    """Every chain over NVLink, with its loads on the wires, once in each direction; None where there is none."""
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
    chains = np.concatenate(loads)
    if not len(chains):
        return None
    return Rings(np.unique(chains, axis=0), wires, np.array([fabric.capacity_gbps[wire] for wire in wires]))


def _cut_at(edges: NDArray[np.float64], passable: NDArray[np.bool_], place: int) -> NDArray[np.float64]:
    """The loads of rings without their edge number `place`, of those rings whose other edges are all passable."""
    kept = [edge for edge in range(edges.shape[1]) if edge != place]
    whole = passable[:, kept].all(axis=1)
    loads: NDArray[np.float64] = edges[whole][:, kept].sum(axis=1)
    return loads


def _widest(chains: Rings, loads: NDArray[np.float64]) -> float:
    """The most GB/s that any one chain carries, given its loads on the wires."""
    share = np.divide(chains.capacity_gbps, loads, out=np.full_like(loads, np.inf), where=loads > 0)
    return float(share.min(axis=1).max())
