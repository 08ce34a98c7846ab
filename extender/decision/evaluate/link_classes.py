"""Classes of link between the GPUs of a set: the worst pair governs. Pure."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import networkx as nx

from topology.machine.hardware import positions_of
from topology.placement import PlacementTable


def rank(table: PlacementTable, a: int, b: int) -> int:
    """Place in `annotations.LINKS` of a pair: 0 for NVLink, direct or through a switch; else its PCIe path, 1 (PIX) .. 5 (SYS)."""
    low, high = min(a, b), max(a, b)
    link = table.fabric.links[low, high]
    return 0 if link.is_nvlink else link.pcie_path.distance


def worst(table: PlacementTable, mask: int) -> int | None:
    """The worst rank of any pair of a set; None for fewer than two GPUs."""
    return max((rank(table, a, b) for a, b in combinations(positions_of(mask), 2)), default=None)


@lru_cache(maxsize=4096)
def largest(table: PlacementTable, most: int, among: int) -> int:
    """How many of a machine's GPUs are joined, each to each, by links of at most that rank; `among` is a mask of those that count."""
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(positions_of(among))
    graph.add_edges_from((a, b) for a, b in combinations(positions_of(among), 2) if rank(table, a, b) <= most)
    return max((len(clique) for clique in nx.find_cliques(graph)), default=0)
