"""What a pod would find: on the devices it may get, and on the neighbours that share their way to the host. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extender.decision.node.device_load import DeviceLoad
from topology.placement import PlacementTable

SHARED_BY_DISTANCE = {1: 1.0, 2: 0.8, 3: 0.6, 4: 0.4, 5: 0.2}
"""How much two GPUs share of the way to the host, by what their path crosses (PIX .. SYS): a design choice, in even steps from
one PCIe switch uplink, all of which is shared, to two sockets, which share memory bandwidth at most."""

NEIGHBOUR_WEIGHT = 0.5
"""A neighbour at its fullest takes half of what is left."""


class Pressure(msgspec.Struct, frozen=True, gc=False):
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


class LoadByGpu(msgspec.Struct, frozen=True, gc=False):
    """Per position, whoever asks: what it has to bear itself (None = unknown), and what its neighbours make it wait."""

    own: tuple[float | None, ...] = ()
    beside: tuple[float, ...] = ()


NO_LOAD = LoadByGpu()


def load_by_gpu(table: PlacementTable, held: Sequence[float], device_loads: Sequence[DeviceLoad | None]) -> LoadByGpu:
    """`held[p]`: chance that somebody has position p. Neighbours count by what they share of the way to the host."""
    loud = [(p, held[p] * one.traffic) for p, one in enumerate(device_loads) if one is not None and one.traffic and held[p]]
    distances = table.fabric.distance
    beside = tuple(
        max((SHARED_BY_DISTANCE.get(distances[p][other], 0.0) * traffic for other, traffic in loud if other != p), default=0.0)
        for p in range(len(device_loads))
    )
    return LoadByGpu(tuple(own_pressure(one) for one in device_loads), beside)


def pressure(found: LoadByGpu, marginals: Sequence[float], neutral: float) -> Pressure | None:
    """`marginals[p]`: chance that the pod gets position p. None: it gets none.

    `neutral` is the pressure of a device of which nothing is known: its calm would be a guess, and so would its strain.
    """
    total = own = neighbours = unknown = 0.0
    for chance, mine, beside in zip(marginals, found.own, found.beside, strict=False):
        if chance:
            total += chance
            neighbours += chance * beside
            if mine is None:
                unknown += chance
            else:
                own += chance * mine
    if not total:
        return None
    return Pressure(round((own + unknown * neutral) / total, 6), round(neighbours / total, 6), round(unknown / total, 6))


def own_pressure(standing: DeviceLoad | None) -> float | None:
    """Strain and memory already in use; None where both are unknown."""
    if standing is None:
        return None
    used = standing.used_share
    if standing.strain is None:
        return used
    return standing.strain if used is None else max(standing.strain, used)
