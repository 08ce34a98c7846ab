"""What a pod would find: on the devices it may get, and on the neighbours that share their way to the host. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from extender.decision.standing import Standing
from topology.placement import PlacementTable

SHARED_BY_DISTANCE = {1: 1.0, 2: 0.8, 3: 0.6, 4: 0.4, 5: 0.2}
"""How much two GPUs share of the way to the host, by what their path crosses (PIX .. SYS): a design choice, in even steps from
one PCIe switch uplink, all of which is shared, to two sockets, which share memory bandwidth at most."""

NEIGHBOUR_WEIGHT = 0.5
"""A neighbour at its fullest takes half of what is left."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """Over the devices a pod may get, weighted by their chance."""

    own: float
    """0..1; unknown devices count with the neutral value."""
    neighbours: float
    unknown_share: float
    """Share of those devices of which nothing is known, 0..1."""

    @property
    def whole(self) -> float:
        """0 (all calm) .. 1."""
        return self.own + (1.0 - self.own) * NEIGHBOUR_WEIGHT * self.neighbours


def pressure(
    table: PlacementTable, marginals: Sequence[float], held: Sequence[float], standings: Sequence[Standing | None], neutral: float
) -> Pressure | None:
    """`marginals[p]`: chance that the pod gets position p; `held[p]`: chance that somebody else has it. None: gets none.

    `neutral` is the pressure of a device of which nothing is known: its calm would be a guess, and so would its strain.
    """
    total = sum(marginals)
    if total <= 0.0:
        return None
    own = neighbours = unknown = 0.0
    for position, chance in enumerate(marginals):
        if chance <= 0.0:
            continue
        standing = standings[position] if position < len(standings) else None
        known = own_pressure(standing)
        unknown += chance if known is None else 0.0
        own += chance * (neutral if known is None else known)
        neighbours += chance * _beside(table, position, held, standings)
    return Pressure(round(own / total, 6), round(neighbours / total, 6), round(unknown / total, 6))


def own_pressure(standing: Standing | None) -> float | None:
    """Strain and memory already in use; None where both are unknown."""
    if standing is None:
        return None
    parts = [part for part in (standing.strain, standing.used_share) if part is not None]
    return max(parts) if parts else None


def _beside(table: PlacementTable, position: int, held: Sequence[float], standings: Sequence[Standing | None]) -> float:
    worst = 0.0
    for other, standing in enumerate(standings):
        if other != position and standing is not None and standing.traffic:
            shared = SHARED_BY_DISTANCE.get(table.pcie_distances[position][other], 0.0)
            worst = max(worst, shared * held[other] * standing.traffic)
    return worst
