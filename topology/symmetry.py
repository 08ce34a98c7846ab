"""Symmetry of machines: interchangeable GPUs, equivalent sets, and machines that differ only in the numbering of their GPUs.

The *signature* of a pair of GPUs is all that affects its bandwidth: link, PCIe distance, whether both are in one host zone, and the
capacities of the wires between them. Which wires two pairs share follows from the signatures, because PCIe trees follow from
distances and zones, and an NVLink belongs to one pair.
Two GPUs are *interchangeable* if swapping them changes no signature: all GPUs of one switched board are, and so are the GPUs under
one PCIe switch.
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
"""Most numberings that are compared for the canonical one. A machine with more uses the best of these; two equivalent machines may then
not share a table."""

Square = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class PairSignatures:
    """Signatures of all pairs, as numbers. Machines that differ only in numbering have the same `vocabulary`, so that numbers compare."""

    vocabulary: tuple[str, ...]
    matrix: Square
    """The number of each pair's signature; on the diagonal that of the GPU."""


def pair_signatures_of(fabric: Fabric) -> PairSignatures:
    """Return the signatures of all pairs and GPUs."""
    size = fabric.size
    signatures = [[_signature(fabric, min(a, b), max(a, b)) for b in range(size)] for a in range(size)]
    vocabulary = tuple(sorted({signature for row in signatures for signature in row}))
    number = {signature: place for place, signature in enumerate(vocabulary)}
    return PairSignatures(vocabulary, tuple(tuple(number[signature] for signature in row) for row in signatures))


def _signature(fabric: Fabric, a: int, b: int) -> str:
    return _gpu_signature(fabric, a) if a == b else _pair_signature(fabric, a, b)


def _gpu_signature(fabric: Fabric, a: int) -> str:
    lanes = fabric.capacity_gbps.get(pcie_lanes(a).name)
    return f"gpu {fabric.generation[a]} {fabric.architecture[a]} {fabric.switch_links[a]} {lanes} {fabric.ordered_channels}"


def _pair_signature(fabric: Fabric, a: int, b: int) -> str:
    crossed = [_crossed(fabric, route) for route in (fabric.routes[a, b], fabric.pcie_routes[a, b])]
    return f"pair {fabric.links[a, b]} {fabric.distance[a][b]} {fabric.zone[a] == fabric.zone[b]} {crossed}"


def _crossed(fabric: Fabric, route: Route) -> list[tuple[float, float]]:
    return sorted((round(fabric.capacity_gbps[wire], 6), times) for wire, times in route)


def interchangeable_gpus(matrix: Square) -> tuple[tuple[int, ...], ...]:
    """Return the positions in classes of interchangeable GPUs, each ascending, by their first."""
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
    """Return a number that equivalent sets have in common, for any numbering.

    Three rounds of two-dimensional Weisfeiler-Leman refinement, hashed to 64 bits. Apart from hash collisions it distinguishes all
    sets of fewer than sixteen GPUs (the smallest graphs that it confuses have sixteen vertices: Cai, Fuerer, Immerman 1992).
    """
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
    """Return the numbering that all machines of one shape have in common: order[new] = old, such that the renumbered matrix is smallest.

    Colours are refined until they are stable. Where GPUs share a colour, each of them is tried as the first, interchangeable GPUs only
    once (the scheme of McKay's nauty).
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
    """Return the matrix with order[new] = old."""
    return tuple(tuple(matrix[a][b] for b in order) for a in order)


def _refined(matrix: Square, colours: tuple[int, ...]) -> tuple[int, ...]:
    """Colours such that GPUs of one colour have the same signatures to each other colour."""
    size = len(matrix)
    while True:
        signatures = [(colours[a], tuple(sorted((matrix[a][b], colours[b]) for b in range(size) if b != a))) for a in range(size)]
        rank = {signature: place for place, signature in enumerate(sorted(set(signatures)))}
        finer = tuple(rank[signature] for signature in signatures)
        if len(rank) == len(set(colours)):
            return finer
        colours = finer


def _leaves(matrix: Square, colours: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Numberings in which every GPU has a colour of its own."""
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
