"""Best, expected and worst set of a machine; what remains after one is taken. One table per machine shape.

Two machines have one shape when nothing that decides bandwidth or prediction differs; names, uuids and memory do not.
Ten thousand identical nodes then share one `PlacementTable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from topology.bandwidth import AllReduce, all_reduce
from topology.fabric import Fabric, build_fabric
from topology.hardware import Gpu, Machine, Nic, mask_of, positions_of
from topology.prediction import Predictor, pair_scores

REFERENCE_GBPS = 360.0
"""Quality 1.0 of a set: what a ring gives on HGX H100. Source: NCCL 2.30.7 search on that machine."""

DEFAULT_SIZE_MIX: Mapping[int, float] = {1: 0.25, 2: 0.25, 4: 0.25, 8: 0.25}
"""How often later pods ask for 1, 2, 4, 8 GPUs, until told otherwise."""

_SYMMETRY_FROM = 9
"""From this many GPUs on, sets that look alike share a bandwidth; below, each set is computed."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A set of GPUs (mask of positions) and its all-reduce bus bandwidth; None for a single GPU."""

    mask: int
    busbw_gbps: float | None


class PlacementTable:
    """Every answer about one machine shape, computed once and kept. Safe to share: answers never change."""

    def __init__(self, machine: Machine) -> None:
        self.size = len(machine.gpus)
        self.fabric: Fabric = build_fabric(machine)
        self.predictor = Predictor(pair_scores(machine, self.fabric))
        self._sets: dict[int, AllReduce | None] = {}
        self._alike: dict[object, AllReduce | None] = {}
        self._extremes: dict[tuple[int, int], tuple[Placement, Placement] | None] = {}
        self._capability_of_size: dict[tuple[int, int], float] = {}
        self._capability: dict[tuple[int, tuple[tuple[int, float], ...]], float] = {}

    def all_reduce(self, mask: int) -> AllReduce | None:
        """Bandwidth and latency of a set; None for fewer than two GPUs."""
        if mask not in self._sets:
            members = positions_of(mask)
            if self.size < _SYMMETRY_FROM:
                self._sets[mask] = all_reduce(self.fabric, members)
            else:
                look = self._look(members)
                if look not in self._alike:
                    self._alike[look] = all_reduce(self.fabric, members)
                self._sets[mask] = self._alike[look]
        return self._sets[mask]

    def busbw_gbps(self, mask: int) -> float | None:
        """All-reduce bus bandwidth of a set in GB/s; None for fewer than two GPUs."""
        found = self.all_reduce(mask)
        return found.busbw_gbps if found else None

    def _look(self, members: tuple[int, ...]) -> int:
        return int(self._looks(np.array([members], dtype=np.intp))[0])

    def _looks(self, sets: NDArray[np.intp]) -> NDArray[np.uint64]:
        """(sets x members) -> one fingerprint per set, which renumbering the GPUs does not change.

        Two rounds of colour refinement over the pairs' links, hashed to 64 bits: on the PCIe trees and
        switched boards that machines of more than eight GPUs are, equal fingerprints mean equal sets.
        """
        pairs = self._pair_looks[sets[:, :, None], sets[:, None, :]]
        colour = _scramble(pairs).sum(axis=2, dtype=np.uint64)
        for _ in range(2):
            colour = _scramble(pairs ^ _scramble(colour)[:, None, :]).sum(axis=2, dtype=np.uint64) ^ colour
        fingerprints: NDArray[np.uint64] = _scramble(colour).sum(axis=1, dtype=np.uint64)
        return fingerprints

    @cached_property
    def _uniform(self) -> bool:
        """Whether any set is as good as any other of its size: one switched board, every GPU with the same port."""
        ports = {self.fabric.capacity_gbps.get(f"nvswitch port of GPU {i}") for i in range(self.size)}
        return len(ports) == 1 and None not in ports

    @cached_property
    def _pair_looks(self) -> NDArray[np.uint64]:
        """A number per pair that says all its route does: link class, capacities, uses."""
        looks: dict[object, int] = {}
        table = np.zeros((self.size, self.size), dtype=np.uint64)
        for (a, b), route in self.fabric.routes.items():
            crossed = tuple(sorted((round(self.fabric.capacity_gbps[wire], 3), times) for wire, times in route))
            look = (self.fabric.link_class[a, b], crossed)
            table[a, b] = table[b, a] = looks.setdefault(look, len(looks) + 1)
        return table

    def extremes(self, free: int, size: int) -> tuple[Placement, Placement] | None:
        """Best and worst set of `size` GPUs out of `free`; None where it does not fit. Exact."""
        key = (free, size)
        if key not in self._extremes:
            self._extremes[key] = self._search(free, size)
        return self._extremes[key]

    def _search(self, free: int, size: int) -> tuple[Placement, Placement] | None:
        members = positions_of(free)
        if size < 1 or size > len(members):
            return None
        best = worst = Placement(mask_of(members[:size]), self.busbw_gbps(mask_of(members[:size])))
        if best.busbw_gbps is None or self._uniform:
            return best, worst
        for mask in self._candidates(members, size):
            found = self.busbw_gbps(mask) or 0.0
            if found > (best.busbw_gbps or 0.0):
                best = Placement(mask, found)
            if found < (worst.busbw_gbps or 0.0):
                worst = Placement(mask, found)
        return best, worst

    def _candidates(self, members: tuple[int, ...], size: int) -> Iterator[int]:
        """Every set, or on large machines the first of every kind of set that looks alike."""
        sets = list(combinations(members, size))
        if self.size < _SYMMETRY_FROM:
            return (mask_of(part) for part in sets)
        _, first = np.unique(self._looks(np.array(sets, dtype=np.intp)), return_index=True)
        return (mask_of(sets[place]) for place in sorted(first))

    def capability(self, free: int, mix: Mapping[int, float]) -> float:
        """What `free` GPUs are still good for, 0 (nothing) to 1 (a whole HGX H100, untouched).

        For each size k of the mix: disjoint k-sets are taken greedily, best first; each counts k/n of the
        machine, times its quality min(1, busbw / REFERENCE_GBPS) (a single GPU has quality 1/2: it serves, but has no
        links). The mix weights the sizes. Losing capability is what fragmentation means here.
        """
        key = (free, tuple(sorted(mix.items())))
        if key not in self._capability:
            total = sum(mix.values()) or 1.0
            self._capability[key] = sum(weight * self._capability_for(free, k) for k, weight in mix.items()) / total
        return self._capability[key]

    def _capability_for(self, free: int, size: int) -> float:
        """One size's part: the best set there is, and what is then left."""
        key = (free, size)
        if key not in self._capability_of_size:
            extremes = self.extremes(free, size)
            if extremes is None:
                self._capability_of_size[key] = 0.0
            elif size == 1:
                self._capability_of_size[key] = 0.5 * free.bit_count() / self.size
            else:
                best = extremes[0]
                quality = min(1.0, (best.busbw_gbps or 0.0) / REFERENCE_GBPS)
                self._capability_of_size[key] = size / self.size * quality + self._capability_for(free & ~best.mask, size)
        return self._capability_of_size[key]

    def warm(self) -> None:
        """Fill the table for every set of a machine of up to eight GPUs: off the request path, half a second."""
        if self.size < _SYMMETRY_FROM:
            for mask in range(1 << self.size):
                self.all_reduce(mask)
                for size in range(1, mask.bit_count() + 1):
                    self.predictor.predict(mask, ((size, False),))
                    self.extremes(mask, size)
                    self._capability_for(mask, size)


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A 64-bit mixing step (the finaliser of splitmix64, Steele et al., OOPSLA 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def shape(machine: Machine) -> Machine:
    """The machine with all taken out that decides neither bandwidth nor prediction: the key of its table."""
    gpus = tuple(
        Gpu(
            index=position,
            product=gpu.product,
            numa_node=gpu.numa_node,
            cpu_affinity=gpu.cpu_affinity,
            pcie_generation=gpu.pcie_generation,
            pcie_width=gpu.pcie_width,
            nvlink_generation=gpu.nvlink_generation,
            switch_links=gpu.switch_links,
        )
        for position, gpu in enumerate(machine.gpus)
    )
    nics = tuple(Nic(str(place)) for place in range(len(machine.nics)))
    return Machine(gpus, nics, machine.pcie_paths, machine.nvlinks, machine.cpu_model, machine.peer_to_peer)


@lru_cache(maxsize=1024)
def _table_of_shape(key: Machine) -> PlacementTable:
    return PlacementTable(key)


def table_for(machine: Machine) -> PlacementTable:
    """The shared table of the machine's shape."""
    return _table_of_shape(shape(machine))
