"""Ours against the figures: errors, rank correlations, regrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from statistics import median

from scipy.stats import spearmanr

from tests.accuracy.figures import MAPA_DGX1V, MESSAGES, Measured, Searched
from topology.bandwidth.all_reduce import AllReduce
from topology.devices.device_plugin import pair_scores
from topology.machine.constants import LAUNCH_SECONDS
from topology.machine.hardware import mask_of, positions_of
from topology.placement.placement_table import PlacementTable
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of

DECIMALS = 2
"""NCCL's figures have two decimals; ours are compared, and printed by `topo show --all-sets`, to as many."""


@dataclass(frozen=True)
class Against:
    """One machine at one message size."""

    machine: str
    message: str
    sets: int
    rank_correlation: float
    """Spearman's, over all sets; not a number where all are equal."""
    median_error: float
    largest_error: float
    regret: float
    """Of the sets called best for a size, how far the first falls behind NCCL's best; the largest over all sizes."""
    regret_of_ties: float
    """The same for the worst of those called best."""


def performances(machine: Searched) -> dict[int, AllReduce]:
    """Ours, for every set that NCCL's search has."""
    table = table_for(machine.machine)
    return {mask: found for mask in machine.busbw_gbps if (found := table.all_reduce(mask))}


def against_nccl(machine: Searched) -> list[Against]:
    """Our bandwidths against NCCL's, per message size."""
    ours = performances(machine)
    rows = []
    for column, (message, size) in enumerate(MESSAGES.items()):
        guess = {mask: round(found.busbw(size), DECIMALS) for mask, found in ours.items()}
        rows.append(compare(machine.name, message, guess, {mask: gbps[column] for mask, gbps in machine.busbw_gbps.items()}))
    return rows


def by_counting_links(machine: Searched) -> list[Against]:
    """What the device plugin would rank by: the sum of pair scores of a set, a hundred per NVLink."""
    scores = pair_scores(machine.machine, table_for(machine.machine).fabric)
    counted = {mask: float(_score(scores, positions_of(mask))) for mask in machine.busbw_gbps}
    truths = [(message, column) for column, message in enumerate(MESSAGES) if message in ("1 MiB", "256 MiB")]
    return [compare(machine.name, m, counted, {mask: g[c] for mask, g in machine.busbw_gbps.items()}) for m, c in truths]


def _score(scores: Sequence[Sequence[int]], members: tuple[int, ...]) -> int:
    return sum(scores[a][b] for a in members for b in members if a < b)


def compare(machine: str, message: str, guess: Mapping[int, float], truth: Mapping[int, float]) -> Against:
    """A guess per set against the truth; errors mean something only where both are GB/s."""
    masks = sorted(truth)
    errors = [abs(guess[mask] - truth[mask]) / truth[mask] for mask in masks]
    first = tied = 0.0
    for size in {mask.bit_count() for mask in masks}:
        sets = [mask for mask in masks if mask.bit_count() == size]
        best, best_truth = max(guess[mask] for mask in sets), max(truth[mask] for mask in sets)
        called = sorted((mask for mask in sets if guess[mask] >= best * (1 - 1e-9)), key=positions_of)
        first = max(first, 1 - truth[called[0]] / best_truth)
        tied = max(tied, 1 - min(truth[mask] for mask in called) / best_truth)
    differ = len({guess[mask] for mask in masks}) > 1 and len({truth[mask] for mask in masks}) > 1
    rho = float(spearmanr([guess[mask] for mask in masks], [truth[mask] for mask in masks]).statistic) if differ else nan
    return Against(machine, message, len(masks), rho, median(errors), max(errors), first, tied)


def measured_gbps(what: Measured) -> float:
    """Ours for a measurement, kernel launch included."""
    found = table_for(machine_of(what.platform)).all_reduce(mask_of(range(what.gpus)))
    assert found is not None
    return found.busbw(what.message_bytes, LAUNCH_SECONDS.get(found.architecture, 0.0))


@dataclass(frozen=True)
class Thirds:
    """Best, median and worst set of a size on DGX-1V, large messages."""

    gpus: int
    nccl: tuple[float, float, float]
    ours: tuple[float, float, float]
    mapa: tuple[float, float, float]


def against_mapa(dgx1v: Searched) -> list[Thirds]:
    """MAPA's model beside ours and NCCL's search."""
    table = table_for(dgx1v.machine)
    rows = []
    for size, mapa in MAPA_DGX1V.items():
        sets = [mask for mask in dgx1v.busbw_gbps if mask.bit_count() == size]
        nccl = [dgx1v.busbw_gbps[mask][-1] for mask in sets]
        rows.append(Thirds(size, _thirds(nccl), _thirds([_large(table, mask) for mask in sets]), mapa))
    return rows


def _large(table: PlacementTable, mask: int) -> float:
    found = table.all_reduce(mask)
    assert found is not None
    return found.busbw(MESSAGES["256 MiB"])


def _thirds(gbps: Sequence[float]) -> tuple[float, float, float]:
    return max(gbps), median(gbps), min(gbps)


def rank_correlation(rows: Sequence[Thirds], whose: str) -> float:
    """Spearman's of one model's figures with NCCL's, over all sizes and thirds."""
    guess = [gbps for row in rows for gbps in getattr(row, whose)]
    return float(spearmanr(guess, [gbps for row in rows for gbps in row.nccl]).statistic)
