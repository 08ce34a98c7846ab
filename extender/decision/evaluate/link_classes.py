"""Link classes between the GPUs of a set: a set has the class of its worst pair. Pure."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import networkx as nx

from topology.machine.hardware import positions_of
from topology.placement.placement_table import PlacementTable


def rank(table: PlacementTable, a: int, b: int) -> int:
    """Return a pair's index in `annotations.LINKS`: 0 for NVLink, direct or through a switch; else its PCIe path, 1 (PIX) to 5 (SYS)."""
    low, high = min(a, b), max(a, b)
    link = table.fabric.links[low, high]
    return 0 if link.is_nvlink else link.pcie_path.distance


def worst(table: PlacementTable, mask: int) -> int | None:
    """Return the worst rank of any pair in the set `mask`; None for fewer than two GPUs."""
    return max((rank(table, a, b) for a, b in combinations(positions_of(mask), 2)), default=None)


@lru_cache(maxsize=4096)
def largest(table: PlacementTable, most: int, among: int) -> int:
    """Return the size of the largest set of GPUs in the mask `among` whose pairs all have a rank of at most `most` (a maximum clique)."""
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(positions_of(among))
    graph.add_edges_from((a, b) for a, b in combinations(positions_of(among), 2) if rank(table, a, b) <= most)
    return max((len(clique) for clique in nx.find_cliques(graph)), default=0)
