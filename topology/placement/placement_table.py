"""The table of one machine: the results of its shape in its own numbering, and a predictor of its device plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from topology.bandwidth.all_reduce import AllReduce
from topology.bandwidth.fabric import Fabric
from topology.devices.prediction import Predictor, numa_nodes, pair_scores
from topology.devices.size_mix import SizeMix
from topology.machine.hardware import Machine
from topology.placement.set_table import MOST_ANSWERS, MOST_LISTED_GPUS, Placement, SetTable

_MOST_MIXES = 4
"""Mixes of sizes whose capabilities a table keeps: a cluster has one, and a steered node can have its own."""


class PlacementTable:
    """The sets of one machine: its shape's results in its own numbering, and a predictor of its device plugin."""

    def __init__(self, machine: Machine, fabric: Fabric, sets: SetTable, renumbered: tuple[int, ...]) -> None:
        """`renumbered[position]` is the position in the shared table."""
        self.size, self.fabric, self.sets = len(machine.gpus), fabric, sets
        is_mig = any(gpu.mig_enabled for gpu in machine.gpus)
        self.predictor = Predictor(pair_scores(machine, fabric), numa_nodes(machine), is_mig, self.representative)
        self._capabilities = lru_cache(maxsize=_MOST_MIXES)(self._capabilities_of)
        is_identity = renumbered == tuple(range(self.size))
        self._to_shared = None if is_identity else _translation(renumbered)
        self._from_shared = None if is_identity else _translation(tuple(renumbered.index(place) for place in range(self.size)))
        self.predictor.values = self

    @property
    def interchangeable(self) -> tuple[int, ...]:
        """Masks of interchangeable GPUs: exchanging two GPUs of one mask changes no result."""
        classes = self.sets.interchangeable
        return classes if self._from_shared is None else tuple(_translated(self._from_shared, members) for members in classes)

    def all_reduce(self, mask: int) -> AllReduce | None:
        """Return the performance of a set; None for fewer than two GPUs."""
        return self.sets.all_reduce(mask if self._to_shared is None else _translated(self._to_shared, mask))

    def busbw_gbps(self, mask: int) -> float | None:
        """Return the all-reduce bus bandwidth of a set in GB/s for large messages; None for fewer than two GPUs."""
        performance = self.all_reduce(mask)
        return performance.busbw_gbps if performance else None

    def effective_gbps(self, mask: int, messages: str) -> float | None:
        """Return the bus bandwidth over a mix of message sizes; see `SetTable.effective_gbps`."""
        return self.sets.effective_gbps(mask if self._to_shared is None else _translated(self._to_shared, mask), messages)

    def representative(self, mask: int) -> int:
        """Return the mask of one set that has the same links as this one, the same for all sets that are equivalent to it."""
        if self._to_shared is None or self._from_shared is None:
            return self.sets.representative(mask)
        return _translated(self._from_shared, self.sets.representative(_translated(self._to_shared, mask)))

    def extreme_gbps(self, free: int, size: int) -> tuple[float | None, float | None]:
        """Return the bandwidth in GB/s of the best and of the worst set of `size` GPUs of `free`; see `SetTable.extreme_gbps`."""
        return self.sets.extreme_gbps(free if self._to_shared is None else _translated(self._to_shared, free), size)

    def extremes(self, free: int, size: int) -> tuple[Placement, Placement] | None:
        """Return the best and the worst set of `size` GPUs of `free`; see `SetTable.extremes`."""
        if self._to_shared is None or self._from_shared is None:
            return self.sets.extremes(free, size)
        found = self.sets.extremes(_translated(self._to_shared, free), size)
        if found is None:
            return None
        best, worst = (Placement(_translated(self._from_shared, place.mask), place.busbw_gbps) for place in found)
        return best, worst

    def capability(self, free: int, mix: Mapping[int, float]) -> float:
        """Return the capability of the free GPUs, 0..1; see `SetTable.capability_of`. Fragmentation is the loss of capability."""
        return self.sets.capability(free if self._to_shared is None else _translated(self._to_shared, free), mix)

    def capabilities(self, mix: SizeMix) -> Mapping[int, float]:
        """Return (mask of free GPUs -> capability) for one mix of sizes; each value is computed at its first use."""
        return self._capabilities(mix)

    def _capabilities_of(self, mix: SizeMix) -> Mapping[int, float]:
        weights = dict(mix)
        values = _Values(lambda free: self.capability(free, weights))
        return _Values(lambda free: values[self.representative(free)]) if self.sets.shares_kinds else values

    def warm(self) -> None:
        """Compute results in advance, outside of requests: see `SetTable.warm`; and the predictions for up to eight GPUs."""
        self.sets.warm()
        if self.size <= MOST_LISTED_GPUS:
            for mask in range(1 << self.size):
                for size in range(1, mask.bit_count() + 1):
                    self.predictor.predict_sets(mask, ((size, False),))


class _Values(dict[int, float]):
    """Mask -> value, computed at its first use. It keeps at most `MOST_ANSWERS` values; threads may compute one twice."""

    def __init__(self, value_of: Callable[[int], float]) -> None:
        super().__init__()
        self._value_of = value_of

    def __missing__(self, mask: int) -> float:
        if len(self) >= MOST_ANSWERS:
            self.clear()
        value = self[mask] = self._value_of(mask)
        return value


_Translation = tuple[tuple[int, ...], tuple[int, ...]]


def _translation(places: tuple[int, ...]) -> _Translation:
    """Mask -> mask as two lookup tables, one per eight positions."""

    def half(first: int) -> tuple[int, ...]:
        eight = places[first : first + 8]
        return tuple(sum(1 << place for bit, place in enumerate(eight) if mask >> bit & 1) for mask in range(256))

    return half(0), half(8)


def _translated(table: _Translation, mask: int) -> int:
    return table[0][mask & 255] | table[1][mask >> 8]
