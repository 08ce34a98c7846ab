"""Best, expected and worst set of a machine, and the capability that remains after a set is allocated. One table per machine shape.

Two machines have one shape when they differ only in the numbering of their GPUs and in facts that do not affect bandwidth, such as
names, uuids and memory. They share one `SetTable`, through their renumbering. The sets that the device plugin allocates depend on the
numbering too, so a `PlacementTable` adds a predictor; identical nodes share both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import prod

from topology.bandwidth.all_reduce import AllReduce, all_reduce, mix_of
from topology.bandwidth.fabric import Fabric, build_fabric
from topology.devices.prediction import Predictor, numa_nodes, pair_scores
from topology.devices.size_mix import EVEN_MIX, SIZES, SizeMix
from topology.machine.hardware import Gpu, Machine, Nic, mask_of, positions_of
from topology.symmetry import PairSignatures, Square, canonical_order, fingerprint, interchangeable_gpus, pair_signatures_of, renumber

REFERENCE_GBPS = 360.0
"""Bandwidth of a set of quality 1.0: that of a ring on HGX H100. Source: NCCL 2.30.7 search on that machine."""

DEFAULT_SIZE_MIX: Mapping[int, float] = dict(EVEN_MIX)
"""Assumed shares of later pods that request 1, 2, 4 and 8 GPUs, unless settings give others."""

MOST_ANSWERS = 8_192
"""Results of one kind that a table keeps, the latest. A machine of eight GPUs has some thousand; sixteen would have a million."""

_MOST_KINDS = 2_000
"""Kinds of sets that a table enumerates. Machines of eight GPUs have at most 255."""

_FEW_KINDS = 256
"""Kinds up to which the capability of each is computed in advance: it compares each with the kinds that are part of it."""

MOST_LISTED_GPUS = 8
"""GPUs of the largest machine of which all sets are computed in advance."""

_MOST_MIXES = 4
"""Mixes of sizes whose capabilities a table keeps: a cluster has one, and a steered node can have its own."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A set of GPUs (mask of positions) and its all-reduce bus bandwidth; None for a single GPU."""

    mask: int
    busbw_gbps: float | None


class SetTable:
    """Bandwidth of every set of a machine shape, and the capability that remains without it.

    Sets are masks of the positions of one machine of the shape. Results are computed on first use and always the same. `lru_cache`
    bounds what is kept, and is safe in several threads.
    """

    def __init__(self, fabric: Fabric, signatures: PairSignatures) -> None:
        self.size, self._fabric, self._matrix = fabric.size, fabric, signatures.matrix
        self._classes = interchangeable_gpus(signatures.matrix)
        self._class_masks = tuple(mask_of(members) for members in self._classes)
        self._by_fingerprint: dict[int, AllReduce | None] = {}
        cached = lru_cache(maxsize=MOST_ANSWERS)
        self._of_kind = cached(self._kind_performance)
        self._by_mask = cached(lambda mask: self._of_kind(self._kind(mask)))
        self._effective = cached(self._effective_performance)
        self._extremes = cached(self._search)
        self._capability = cached(self._share)
        self._first_members = tuple(tuple(mask_of(members[:count]) for count in range(len(members) + 1)) for members in self._classes)
        """Per interchangeable class, the mask of its first 0, 1, ... GPUs."""
        kinds = prod(len(members) + 1 for members in self._classes)
        self.shares_kinds = self.size > MOST_LISTED_GPUS and kinds <= _MOST_KINDS
        """Whether capability is computed once per kind of free GPUs: a large machine has too many masks, and few kinds."""

    def all_reduce(self, mask: int) -> AllReduce | None:
        """Return the performance of a set; None for fewer than two GPUs."""
        return self._by_mask(mask)

    @property
    def interchangeable(self) -> tuple[int, ...]:
        """Masks of GPUs that are alike: exchanging two of one mask changes no answer."""
        return self._class_masks

    @property
    def distinct(self) -> tuple[AllReduce | None, ...]:
        """The performances computed so far, one per class of equivalent sets."""
        return tuple(self._by_fingerprint.values())

    def effective_gbps(self, mask: int, messages: str) -> float | None:
        """Return the bus bandwidth in GB/s over a mix of message sizes (see `mix_of`); None for fewer than two GPUs."""
        return self._effective(mask, messages)

    def _effective_performance(self, mask: int, messages: str) -> float | None:
        performance = self.all_reduce(mask)
        return performance.effective_gbps(mix_of(messages)) if performance else None

    def representative(self, mask: int) -> int:
        """Return the mask of the first set that is equivalent to this one by exchanging interchangeable GPUs."""
        first = 0
        for members, firsts in zip(self._class_masks, self._first_members, strict=True):
            first |= firsts[(mask & members).bit_count()]
        return first

    def _kind(self, mask: int) -> tuple[int, ...]:
        """The number of GPUs of each interchangeable class. Sets of one kind are equivalent."""
        return tuple((mask & members).bit_count() for members in self._class_masks)

    def _kind_performance(self, kind: tuple[int, ...]) -> AllReduce | None:
        """Performance of a kind. Sets of different kinds can be equivalent, such as two halves of a board; they are computed once."""
        if sum(kind) < 2:
            return None
        members = positions_of(self._first_of(kind, (1 << self.size) - 1))
        number, known = fingerprint(self._matrix, members), self._by_fingerprint
        if number not in known:
            if len(known) >= MOST_ANSWERS:
                known = self._by_fingerprint = {}  # replaced, not cleared: another thread may be reading it
            known[number] = all_reduce(self._fabric, members)
        return known[number]

    def _first_of(self, kind: tuple[int, ...], free: int) -> int:
        """The set of a kind with the lowest positions of `free`."""
        mask = 0
        for count, members in zip(kind, self._class_masks, strict=True):
            mask |= mask_of(positions_of(members & free)[:count])
        return mask

    def extremes(self, free: int, size: int) -> tuple[Placement, Placement] | None:
        """Return the best and the worst set of `size` GPUs of `free`; None where `free` has fewer.

        Exact, except for machines of more than eight GPUs of which hardly two are interchangeable: there, the best and the worst of the
        sets that grow from one GPU by the nearest or by the farthest GPU.
        """
        return self._extremes(free, size)

    def extreme_gbps(self, free: int, size: int) -> tuple[float | None, float | None]:
        """Return the bandwidth in GB/s of the best and of the worst set of `extremes`; None for each where it has none."""
        found = self.extremes(self.representative(free) if self.shares_kinds else free, size)
        return (None, None) if found is None else (found[0].busbw_gbps, found[1].busbw_gbps)

    def _search(self, free: int, size: int) -> tuple[Placement, Placement] | None:
        if not 1 <= size <= free.bit_count():
            return None
        best = worst = None
        for mask in self._candidates(free, size):
            performance = self.all_reduce(mask)
            candidate = Placement(mask, performance.busbw_gbps if performance else None)
            if best is None or worst is None:
                best = worst = candidate
            elif (candidate.busbw_gbps or 0.0) > (best.busbw_gbps or 0.0):
                best = candidate
            elif (candidate.busbw_gbps or 0.0) < (worst.busbw_gbps or 0.0):
                worst = candidate
        assert best is not None
        assert worst is not None
        return best, worst

    def _candidates(self, free: int, size: int) -> Iterator[int]:
        """One set of every kind, lowest positions first."""
        available = self._kind(free)
        if prod(count + 1 for count in available) > _MOST_KINDS:
            yield from self._grown(positions_of(free), size)
            return
        if max(available) == 1:  # no interchangeable GPUs: every set is a kind of its own
            yield from map(mask_of, combinations(positions_of(free), size))
            return
        ranges = [range(min(count, size), -1, -1) for count in available]
        for kind in product(*ranges):
            if sum(kind) == size:
                yield self._first_of(kind, free)

    def _grown(self, free: tuple[int, ...], size: int) -> Iterator[int]:
        """The sets that grow from each GPU by the nearest, and by the farthest GPU."""
        for start in free:
            for sign in (1, -1):
                chosen = [start]
                while len(chosen) < size:
                    left = [p for p in free if p not in chosen]
                    chosen.append(max(left, key=lambda p: sign * sum(self._pair_gbps(p, c) for c in chosen)))
                yield mask_of(chosen)

    def _pair_gbps(self, a: int, b: int) -> float:
        performance = self.all_reduce(1 << a | 1 << b)
        return performance.busbw_gbps if performance else 0.0

    def capability(self, free: int, mix: Mapping[int, float]) -> float:
        """Return the capability of the free GPUs, 0 (none) to 1 (a whole free HGX H100); `mix` has the weight of each set size."""
        total = sum(mix.values()) or 1.0
        return sum(weight * self.capability_of(free, size) for size, weight in mix.items()) / total

    def capability_of(self, free: int, size: int) -> float:
        """Return the capability of the free GPUs for pods of `size` GPUs, 0..1.

        Disjoint sets of that size are counted one after another, best first; each adds its share `size`/n of the machine's n
        GPUs, times its quality min(1, busbw / REFERENCE_GBPS). A single GPU has no links: its quality is 1/2, so that a
        partly used board is preferred for it.
        """
        return self._capability(self.representative(free) if self.shares_kinds else free, size)

    def _share(self, free: int, size: int) -> float:
        extremes = self.extremes(free, size)
        if extremes is None:
            return 0.0
        best, _ = extremes
        if size == 1:
            return 0.5 * free.bit_count() / self.size
        quality = min(1.0, (best.busbw_gbps or 0.0) / REFERENCE_GBPS)
        return size / self.size * quality + self.capability_of(free & ~best.mask, size)

    def warm(self) -> None:
        """Compute results in advance: all for a machine of up to eight GPUs, every kind of set for a larger one."""
        if self.size <= MOST_LISTED_GPUS:
            for mask in range(1 << self.size):
                for size in range(1, mask.bit_count() + 1):
                    self.extremes(mask, size)
                for size in SIZES:
                    self.capability_of(mask, size)
        elif prod(len(members) + 1 for members in self._classes) <= _MOST_KINDS:
            kinds = list(product(*(range(len(members) + 1) for members in self._classes)))
            for kind in kinds:
                self._of_kind(kind)
            for kind in kinds if len(kinds) <= _FEW_KINDS else ():
                for size in SIZES:
                    self.capability_of(self._first_of(kind, (1 << self.size) - 1), size)


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
