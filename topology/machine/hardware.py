"""The facts about one machine. An unknown fact is None, never a default.

A *position* is a place in `Machine.gpus` (0..n-1); all matrices and bit masks use positions. An *index* is the number that nvidia-smi
gives the GPU (`Gpu.index`); indices have gaps when a GPU is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import reduce
from operator import attrgetter, or_

MAX_GPUS = 16
"""Most GPUs in one machine: HGX-2, DGX-2 and p2.16xlarge have sixteen."""

MAX_NICS = 64
"""Most network adapters in one machine; a known machine has at most twelve."""

MAX_LINKS = 36
"""Most NVLinks of one GPU. Source: nvml.h, NVML_NVLINK_MAX_LINKS."""


class TopologyError(ValueError):
    """Text, a record or a machine is malformed or contradicts itself; the message says what and where."""


class PciePath(StrEnum):
    """The farthest component that a PCIe path crosses, as nvidia-smi names it, nearest first."""

    PIX = "PIX"  # one PCIe switch
    PXB = "PXB"  # several PCIe switches, no host bridge
    PHB = "PHB"  # a PCIe host bridge
    NODE = "NODE"  # several host bridges of one NUMA node
    SYS = "SYS"  # the interconnect between NUMA nodes

    @property
    def distance(self) -> int:
        """1 (PIX) .. 5 (SYS)."""
        return _DISTANCES[self]

    @classmethod
    def at_distance(cls, distance: int) -> PciePath:
        """Return the class of a distance, 1 (PIX) .. 5 (SYS)."""
        return list(cls)[distance - 1]


_DISTANCES = {path: rank for rank, path in enumerate(PciePath, start=1)}


@dataclass(frozen=True, slots=True)
class Gpu:
    """One physical GPU."""

    index: int
    uuid: str | None = None
    product: str | None = None
    memory_bytes: int | None = None
    pci_bus_id: str | None = None
    numa_node: int | None = None
    """The host NUMA node that the GPU is attached to."""
    cpu_affinity: str | None = None
    """Linux cpulist, such as `0-31,64-95`."""
    numa_affinity: str | None = None
    """Near NUMA nodes as a Linux list where there are several, such as `0-1`; empty where the kernel names none."""
    mig_enabled: bool | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    nvlink_generation: int | None = None
    switch_links: int | None = None
    """NVLinks that end in an NVSwitch."""
    dead_links: int | None = None
    """NVLinks of the GPU that are not up. They are a fault only where they should be up (see `nvlink_faults`)."""
    compute_capability: str | None = None
    """Such as `9.0`."""
    ecc_enabled: bool | None = None
    persistence_mode: bool | None = None
    one_sided_links: int | None = None
    """NVLinks to another GPU that only the other GPU reports as up."""
    mig_instances: tuple[MigInstance, ...] = ()
    fabric_domain: FabricDomain | None = None


@dataclass(frozen=True, slots=True)
class MigInstance:
    """One MIG device of a GPU."""

    uuid: str
    profile: str | None = None
    """The driver's name of it, such as `1g.10gb`."""
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class FabricDomain:
    """The place of a GPU in a multi-node NVLink fabric (GB200 and later)."""

    cluster_uuid: str
    clique_id: int
    state: str
    """`completed` once the GPU has joined the fabric; before that `not_started` or `in_progress`."""


@dataclass(frozen=True, slots=True)
class Nic:
    """One network adapter, as nvidia-smi lists it next to the GPUs."""

    name: str
    device: str | None = None
    """The RDMA device behind a `NICn` name, from the legend."""
    numa_node: int | None = None


Matrix = tuple[tuple[PciePath | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """GPUs, NICs and the links between them. Matrices are square and symmetric."""

    gpus: tuple[Gpu, ...]
    nics: tuple[Nic, ...] = ()
    pcie_paths: Matrix = ()
    """Over GPUs then NICs, None on the diagonal and where unknown: nvidia-smi prints NV# instead of the PCIe class."""
    nvlinks: tuple[tuple[int, ...], ...] = ()
    """Direct NVLinks per pair of GPUs (0 = none); links through an NVSwitch are `switch_links`."""
    cpu_model: str | None = None
    peer_to_peer: bool | None = None
    """Whether GPUs may read each other's memory over PCIe."""
    driver_version: str | None = None
    cuda_version: str | None = None
    """The newest CUDA version that the driver supports, such as `12.8`."""
    like: Machine | None = field(default=None, init=False, repr=False, compare=False)
    """A machine that differs from this one only in the uuids of its GPUs, and that all such machines share; None where there is none.
    What does not depend on uuids is computed once for it. See `with_uuids`."""

    def __post_init__(self) -> None:
        """Raise TopologyError for wrong shapes, asymmetric matrices and repeated indices or uuids."""
        count, total = len(self.gpus), len(self.gpus) + len(self.nics)
        if not 0 <= count <= MAX_GPUS:
            raise TopologyError(f"a machine has at most {MAX_GPUS} GPUs, this one has {count}")
        _check_square("pciePaths", self.pcie_paths, total)
        _check_square("nvlinks", self.nvlinks, count)
        indices = [gpu.index for gpu in self.gpus]
        if len(set(indices)) != count:
            raise TopologyError(f"GPU indices repeat: {indices}")
        uuids = [gpu.uuid for gpu in self.gpus if gpu.uuid is not None]
        if len(set(uuids)) != len(uuids):
            raise TopologyError(f"GPU uuids repeat: {sorted(uuids)}")

    def nvlink_generation(self, a: int, b: int) -> int | None:
        """Return the generation of the links between two positions: the older of the two ends; None where both are unknown."""
        ends = (self.gpus[a].nvlink_generation, self.gpus[b].nvlink_generation)
        known = [end for end in ends if end is not None]
        return min(known) if known else None

    def positions(self, indices: tuple[int, ...] | list[int]) -> tuple[int, ...]:
        """Return the positions of nvidia-smi indices. Raises TopologyError for an unknown or repeated index."""
        place = {gpu.index: position for position, gpu in enumerate(self.gpus)}
        for at, index in enumerate(indices):
            if index not in place:
                raise TopologyError(f"no GPU {index}: this machine has {sorted(place)}")
            if index in indices[:at]:
                raise TopologyError(f"GPU {index} is named twice")
        return tuple(place[index] for index in indices)

    def indices(self, mask: int) -> tuple[int, ...]:
        """Return the nvidia-smi indices of a mask of positions, ascending."""
        return tuple(sorted(self.gpus[position].index for position in positions_of(mask)))


def with_uuids(machine: Machine, uuids: Sequence[str | None]) -> Machine:
    """Return the machine with these uuids of its GPUs, by position; it shares all else with `machine`.

    Raises TopologyError if uuids repeat.
    """
    gpus = tuple(_with_uuid(gpu, uuid) for gpu, uuid in zip(machine.gpus, uuids, strict=True))
    other = replace(machine, gpus=gpus)
    object.__setattr__(other, "like", machine)
    return other


_OTHER_FACTS = attrgetter(*(each.name for each in fields(Gpu)[2:]))
"""The fields of a GPU after `index` and `uuid`."""


def _with_uuid(gpu: Gpu, uuid: str | None) -> Gpu:
    """`replace(gpu, uuid=uuid)` in half the time: a cluster has a hundred thousand GPUs."""
    return Gpu(gpu.index, uuid, *_OTHER_FACTS(gpu))


_SQUARES: dict[int, tuple[tuple[object, ...], ...]] = {}
"""id -> a matrix that is square and symmetric. An entry keeps its matrix alive, so the id remains its own. A cache."""
_MOST_SQUARES = 4_096


def _check_square(name: str, rows: tuple[tuple[object, ...], ...], size: int) -> None:
    if len(rows) == size and _SQUARES.get(id(rows)) is rows:
        return
    if len(rows) != size or any(len(row) != size for row in rows):
        raise TopologyError(f"{name} must be {size} x {size}")
    for i in range(size):
        for j in range(i):
            if rows[i][j] != rows[j][i]:
                raise TopologyError(f"{name} is not symmetric: [{i}][{j}] is {rows[i][j]}, [{j}][{i}] is {rows[j][i]}")
    if len(_SQUARES) >= _MOST_SQUARES:
        _SQUARES.clear()
    _SQUARES[id(rows)] = rows


def with_gpus(machine: Machine, **facts: object) -> Machine:
    """Return the machine with the given fields set on every GPU, such as product or pcie_generation."""
    return replace(machine, gpus=tuple(replace(gpu, **facts) for gpu in machine.gpus))  # type: ignore[arg-type]


def positions_of(mask: int) -> tuple[int, ...]:
    """Return the set bits of a mask, ascending: 0b1011 -> (0, 1, 3)."""
    if mask < 1 << 2 * _BITS:
        return _LOW_POSITIONS[mask & _LOW] + _HIGH_POSITIONS[mask >> _BITS]
    return tuple(position for position in range(mask.bit_length()) if mask >> position & 1)


_BITS = MAX_GPUS // 2
_LOW = (1 << _BITS) - 1
_LOW_POSITIONS = tuple(tuple(position for position in range(_BITS) if half >> position & 1) for half in range(1 << _BITS))
_HIGH_POSITIONS = tuple(tuple(position + _BITS for position in positions) for positions in _LOW_POSITIONS)
"""Positions of each half of a mask: this is called millions of times."""


def mask_of(positions: tuple[int, ...] | list[int] | range) -> int:
    """Return the mask of positions: (0, 1, 3) -> 0b1011."""
    mask = 0
    for position in positions:
        mask |= 1 << position
    return mask


def union_of(masks: Iterable[int]) -> int:
    """Return the union of masks. Their sum would be wrong where two of them overlap."""
    return reduce(or_, masks, 0)
