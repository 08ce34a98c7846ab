"""The load on the devices that a pod may get, and on the neighbours that share their path to the host."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extender.decision.node.devices.device_load import DeviceLoad
from topology.placement.placement_table import PlacementTable

SHARED_BY_DISTANCE = {1: 1.0, 2: 0.8, 3: 0.6, 4: 0.4, 5: 0.2}
"""Distance of two GPUs (PIX .. SYS) -> share of the path to the host that they have in common. A design choice: even steps from one PCIe
switch uplink, which is shared entirely, to two sockets, which share at most memory bandwidth."""

NEIGHBOUR_WEIGHT = 0.5
"""A fully loaded neighbour takes half of the remaining capacity: a design choice."""


class Pressure(msgspec.Struct, frozen=True, gc=False):
    """The mean over the devices that a pod may get, weighted by their probability. All values are 0 .. 1."""

    own: float
    """Load of the devices; unknown devices count with the neutral value."""
    neighbours: float
    """Load of neighbours, by the share of the path to the host that they have in common with the devices."""
    unknown_share: float
    """Share of the devices whose load is unknown."""

    @property
    def whole(self) -> float:
        """Both loads in one number: 0 (idle) .. 1."""
        return self.own + (1.0 - self.own) * NEIGHBOUR_WEIGHT * self.neighbours


class LoadByGpu(msgspec.Struct, frozen=True, gc=False):
    """The load per position, independent of the pod, 0 .. 1."""

    own: tuple[float | None, ...] = ()
    """Load of the device; None = unknown."""
    beside: tuple[float, ...] = ()
    """The largest load of a neighbour, by the share of the path to the host in common."""


NO_LOAD = LoadByGpu()


def load_by_gpu(table: PlacementTable, held: Sequence[float], device_loads: Sequence[DeviceLoad | None]) -> LoadByGpu:
    """Return the load per position. `held[p]`: probability that a pod holds position p; an idle neighbour adds no load."""
    loud = [(p, held[p] * load.traffic) for p, load in enumerate(device_loads) if load is not None and load.traffic and held[p]]
    distances = table.fabric.distance
    beside = tuple(
        max((SHARED_BY_DISTANCE.get(distances[p][other], 0.0) * traffic for other, traffic in loud if other != p), default=0.0)
        for p in range(len(device_loads))
    )
    return LoadByGpu(tuple(own_pressure(load) for load in device_loads), beside)


def pressure(load: LoadByGpu, marginals: Sequence[float], neutral: float) -> Pressure | None:
    """Return the pressure on a pod; None where it gets no device. `marginals[p]`: probability that it gets position p.

    `neutral` is the load that is assumed for a device whose load is unknown.
    """
    total = known_load = neighbours = unknown = 0.0
    for chance, own, beside in zip(marginals, load.own, load.beside, strict=False):
        if chance:
            total += chance
            neighbours += chance * beside
            if own is None:
                unknown += chance
            else:
                known_load += chance * own
    if not total:
        return None
    return Pressure(round((known_load + unknown * neutral) / total, 6), round(neighbours / total, 6), round(unknown / total, 6))


def own_pressure(load: DeviceLoad | None) -> float | None:
    """Return the larger of strain and memory share in use, 0 .. 1; None where both are unknown."""
    if load is None:
        return None
    used = load.used_share
    if load.strain is None:
        return used
    return load.strain if used is None else max(load.strain, used)
