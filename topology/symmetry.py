"""What is alike in a machine: pairs, GPUs, sets, and whole machines whose GPUs are merely numbered otherwise.

A *look* is all that tells one pair of GPUs from another: link class, PCIe distance, whether both are in one host zone, capacities
of the wires between. Which wires two pairs share follows from the looks, because PCIe trees are read off distances and zones, and
NVLinks belong to one pair.
Two GPUs are *twins* if swapping them changes no look. Eight GPUs on one switched board are all twins; so are the GPUs
under one PCIe switch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topology.bandwidth.fabric import Fabric, Route
from topology.bandwidth.wires import pcie_lanes

_ROUNDS = 3
_MOST_LEAVES = 500
"""Numberings compared for a canonical one. Beyond, the best so far serves: two alike machines might then not share a table."""

Square = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class PairSignatures:
    """Looks as numbers. Machines that differ in numbering alone have the same `vocabulary`, and so comparable numbers."""

    vocabulary: tuple[str, ...]
    matrix: Square
    """Number of each pair's look; on the diagonal the GPU's own."""


def pair_signatures_of(fabric: Fabric) -> PairSignatures:
    """The looks of all pairs and GPUs."""
    size = fabric.size
    words = [[_gpu_look(fabric, a) if a == b else _pair_look(fabric, min(a, b), max(a, b)) for b in range(size)] for a in range(size)]
    vocabulary = tuple(sorted({word for row in words for word in row}))
    number = {word: place for place, word in enumerate(vocabulary)}
    return PairSignatures(vocabulary, tuple(tuple(number[word] for word in row) for row in words))


def _gpu_look(fabric: Fabric, a: int) -> str:
    lanes = fabric.capacity_gbps.get(pcie_lanes(a).name)
    return f"gpu {fabric.generation[a]} {fabric.architecture[a]} {fabric.switch_links[a]} {lanes} {fabric.ordered_channels}"


def _pair_look(fabric: Fabric, a: int, b: int) -> str:
    crossed = [_crossed(fabric, route) for route in (fabric.routes[a, b], fabric.pcie_routes[a, b])]
    return f"pair {fabric.links[a, b]} {fabric.distance[a][b]} {fabric.zone[a] == fabric.zone[b]} {crossed}"


def _crossed(fabric: Fabric, route: Route) -> list[tuple[float, float]]:
    return sorted((round(fabric.capacity_gbps[wire], 6), times) for wire, times in route)


def interchangeable_gpus(matrix: Square) -> tuple[tuple[int, ...], ...]:
    """Positions in classes of mutual twins, each ascending, by their first."""
    classes: list[list[int]] = []
    for a in range(len(matrix)):
        for members in classes:
            if _are_interchangeable(matrix, members[0], a):
                members.append(a)
                break
        else:
            classes.append([a])
    return tuple(map(tuple, classes))


def _are_interchangeable(matrix: Square, a: int, b: int) -> bool:
    return matrix[a][a] == matrix[b][b] and all(matrix[a][c] == matrix[b][c] for c in range(len(matrix)) if c not in (a, b))


def fingerprint(matrix: Square, members: tuple[int, ...]) -> int:
    """A number that sets of one look have in common, whatever their numbering: three rounds of two-dimensional
    Weisfeiler-Leman refinement, hashed to 64 bits. It tells all sets apart that have fewer than sixteen GPUs, hash
    collisions aside (the smallest graphs it confuses have sixteen vertices: Cai, Fuerer, Immerman 1992)."""
    colour = _scramble(np.array([[matrix[a][b] for b in members] for a in members], dtype=np.uint64))
    for _ in range(_ROUNDS):
        paths = _scramble(colour[:, :, None] + _scramble(colour)[None, :, :]).sum(axis=1, dtype=np.uint64)
        colour = _scramble(colour ^ (paths + paths.T))
    return int(_scramble(colour).sum(dtype=np.uint64))


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A 64-bit mixing step (the finaliser of splitmix64, Steele et al., OOPSLA 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def canonical_order(matrix: Square) -> tuple[int, ...]:
    """A numbering that machines of one shape agree on: order[new] = old, such that the renumbered matrix is the least.

    Colours are refined until they are stable; where a colour is shared, each of its GPUs is tried as the first of it,
    twins only once (the scheme of McKay's nauty).
    """
    best: tuple[Square, tuple[int, ...]] | None = None
    for leaf, order in enumerate(_leaves(matrix, _refined(matrix, tuple(matrix[i][i] for i in range(len(matrix)))))):
        renumbered = renumber(matrix, order)
        if best is None or renumbered < best[0]:
            best = (renumbered, order)
        if leaf >= _MOST_LEAVES:
            break
    return best[1] if best else ()


def renumber(matrix: Square, order: tuple[int, ...]) -> Square:
    """The matrix with order[new] = old."""
    return tuple(tuple(matrix[a][b] for b in order) for a in order)


def _refined(matrix: Square, colours: tuple[int, ...]) -> tuple[int, ...]:
    size = len(matrix)
    while True:
        seen = [(colours[a], tuple(sorted((matrix[a][b], colours[b]) for b in range(size) if b != a))) for a in range(size)]
        rank = {look: place for place, look in enumerate(sorted(set(seen)))}
        finer = tuple(rank[look] for look in seen)
        if len(rank) == len(set(colours)):
            return finer
        colours = finer


def _leaves(matrix: Square, colours: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    size = len(matrix)
    shared = [colour for colour in sorted(set(colours)) if colours.count(colour) > 1]
    if not shared:
        yield tuple(sorted(range(size), key=lambda a: colours[a]))
        return
    tried: list[int] = []
    for a in (a for a in range(size) if colours[a] == shared[0]):
        if any(_are_interchangeable(matrix, a, other) for other in tried):
            continue
        tried.append(a)
        singled = tuple(2 * colour - (1 if b == a else 0) for b, colour in enumerate(colours))
        yield from _leaves(matrix, _refined(matrix, singled))
