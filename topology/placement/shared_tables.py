"""Machine -> its table. Machines of one shape share their results, and identical machines share the table.

Two machines have one shape when they differ only in the numbering of their GPUs and in facts that do not affect bandwidth, such as
names, uuids and memory. They share one `SetTable`, through their renumbering. The sets that the device plugin allocates depend on the
numbering too, so a `PlacementTable` adds a predictor; identical nodes share both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from topology.bandwidth.fabric import build_fabric
from topology.machine.hardware import Gpu, Machine, Nic
from topology.placement.placement_table import PlacementTable
from topology.placement.set_table import SetTable
from topology.symmetry import Square, canonical_order, pair_signatures_of, renumber


def shape(machine: Machine) -> Machine:
    """Return the machine without the facts that affect neither bandwidth nor predictions."""
    gpus = tuple(
        Gpu(
            index=position,
            product=gpu.product,
            numa_node=gpu.numa_node,
            cpu_affinity=gpu.cpu_affinity,
            numa_affinity=gpu.numa_affinity,
            mig_enabled=gpu.mig_enabled or None,
            pcie_generation=gpu.pcie_generation,
            pcie_width=gpu.pcie_width,
            nvlink_generation=gpu.nvlink_generation,
            switch_links=gpu.switch_links,
            compute_capability=gpu.compute_capability,
        )
        for position, gpu in enumerate(machine.gpus)
    )
    nics = tuple(Nic(str(place), numa_node=nic.numa_node) for place, nic in enumerate(machine.nics))
    return Machine(gpus, nics, machine.pcie_paths, machine.nvlinks, machine.cpu_model, machine.peer_to_peer)


_Shape = tuple[tuple[str, ...], Square]
_SHAPES: dict[_Shape, tuple[SetTable, tuple[int, ...]]] = {}
"""Shape -> its table and the canonical order of the first machine of that shape. A cache: dropping it costs only time."""
_MOST_SHAPES = 512
_MOST_ALIKE = 4_096


@lru_cache(maxsize=_MOST_SHAPES)
def _table_of(key: Machine) -> PlacementTable:
    fabric = build_fabric(key)
    signatures = pair_signatures_of(fabric)
    order = canonical_order(signatures.matrix)
    if len(_SHAPES) >= _MOST_SHAPES:
        _SHAPES.clear()
    sets, first = _SHAPES.setdefault((signatures.vocabulary, renumber(signatures.matrix, order)), (SetTable(fabric, signatures), order))
    places = dict(zip(order, first, strict=True))
    return PlacementTable(key, fabric, sets, tuple(places[position] for position in range(fabric.size)))


def fresh_table(machine: Machine) -> PlacementTable:
    """Return a new table that shares no cache, for benchmarks and tests."""
    key = shape(machine)
    fabric = build_fabric(key)
    return PlacementTable(key, fabric, SetTable(fabric, pair_signatures_of(fabric)), tuple(range(fabric.size)))


def table_for(machine: Machine) -> PlacementTable:
    """Return the table of a machine, which shares the results of its shape."""
    return _table_of(shape(machine)) if machine.like is None else _table_of_alike(_Identity(machine.like))


@dataclass(frozen=True, slots=True, eq=False)
class _Identity:
    """A machine as a cache key that compares by identity: a comparison by content costs more than most look-ups save."""

    machine: Machine

    def __hash__(self) -> int:
        return id(self.machine)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.machine is other.machine


@lru_cache(maxsize=_MOST_ALIKE)
def _table_of_alike(key: _Identity) -> PlacementTable:
    return _table_of(shape(key.machine))
