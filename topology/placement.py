"""Best, expected and worst set of a machine; what remains after one is taken. One table per machine shape.

Two machines have one shape when nothing that decides bandwidth differs but the numbering of their GPUs; names, uuids and
memory do not count. All of them share one `SetTable`, through their renumbering. What the device plugin will hand out
depends on the numbering too, so a `PlacementTable` adds a predictor to that: identical nodes share both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import prod

from topology.bandwidth.all_reduce import AllReduce, all_reduce, mix_of
from topology.bandwidth.fabric import Fabric, build_fabric
from topology.devices.prediction import Predictor, numa_nodes, pair_scores
from topology.machine.hardware import Gpu, Machine, Nic, mask_of, positions_of
from topology.symmetry import PairSignatures, Square, canonical_order, fingerprint, interchangeable_gpus, pair_signatures_of, renumber

REFERENCE_GBPS = 360.0
"""Quality 1.0 of a set: what a ring gives on HGX H100. Source: NCCL 2.30.7 search on that machine."""

SIZES = (1, 2, 4, 8)
"""Set sizes that fragmentation is measured by."""

DEFAULT_SIZE_MIX: Mapping[int, float] = dict.fromkeys(SIZES, 0.25)
"""How often later pods ask for 1, 2, 4, 8 GPUs, until told otherwise."""

MOST_ANSWERS = 8_192
"""Answers of one kind that a table keeps, the latest. All of a machine of eight GPUs are some thousand; sixteen would have a million."""

_MOST_KINDS = 2_000
"""Kinds of sets that a table computes beforehand. Machines of eight GPUs have at most 255."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A set of GPUs (mask of positions) and its all-reduce bus bandwidth; None for a single GPU."""

    mask: int
    busbw_gbps: float | None


class SetTable:
    """How good every set of a machine shape is, and what remains without it. Immutable to the caller: an answer that was not
    computed beforehand is computed when asked for, and is always the same. Sets are masks of the positions of one such machine.

    `lru_cache` bounds what is kept, and is safe in several threads."""

    def __init__(self, fabric: Fabric, looks: PairSignatures) -> None:
        self.size, self._fabric, self._matrix = fabric.size, fabric, looks.matrix
        self._are_interchangeable = interchangeable_gpus(looks.matrix)
        self._class_masks = tuple(mask_of(members) for members in self._are_interchangeable)
        self._by_look: dict[int, AllReduce | None] = {}
        remembered = lru_cache(maxsize=MOST_ANSWERS)
        self._of_kind = remembered(self._kind_performance)
        self._by_mask = remembered(lambda mask: self._of_kind(self._kind(mask)))
        self._effective = remembered(self._effective_performance)
        self._extremes = remembered(self._search)
        self._capability = remembered(self._share)

    def all_reduce(self, mask: int) -> AllReduce | None:
        """Performance of a set; None for fewer than two GPUs."""
        return self._by_mask(mask)

    @property
    def interchangeable(self) -> tuple[int, ...]:
        """Masks of GPUs that are alike: exchanging two of one mask changes no answer."""
        return self._class_masks

    @property
    def distinct(self) -> tuple[AllReduce | None, ...]:
        """The performances computed so far: one per kind of set that looks different."""
        return tuple(self._by_look.values())

    def effective_gbps(self, mask: int, messages: str) -> float | None:
        """Bus bandwidth over a mix of message sizes, as `bandwidth.mix_of` names it; None for fewer than two GPUs."""
        return self._effective(mask, messages)

    def _effective_performance(self, mask: int, messages: str) -> float | None:
        found = self.all_reduce(mask)
        return found.effective_gbps(mix_of(messages)) if found else None

    def _kind(self, mask: int) -> tuple[int, ...]:
        """How many GPUs of each class of twins: sets of one kind are alike."""
        return tuple((mask & members).bit_count() for members in self._class_masks)

    def _kind_performance(self, kind: tuple[int, ...]) -> AllReduce | None:
        """Sets of different kinds can still be alike, for instance the two halves of a board; they are computed once too."""
        if sum(kind) < 2:
            return None
        members = positions_of(self._first_of(kind, (1 << self.size) - 1))
        look, known = fingerprint(self._matrix, members), self._by_look
        if look not in known:
            if len(known) >= MOST_ANSWERS:
                known = self._by_look = {}  # begun anew, never emptied: another thread may be reading it
            known[look] = all_reduce(self._fabric, members)
        return known[look]

    def _first_of(self, kind: tuple[int, ...], free: int) -> int:
        """The set of a kind with the lowest positions out of `free`."""
        mask = 0
        for count, members in zip(kind, self._class_masks, strict=True):
            mask |= mask_of(positions_of(members & free)[:count])
        return mask

    def extremes(self, free: int, size: int) -> tuple[Placement, Placement] | None:
        """Best and worst set of `size` GPUs out of `free`; None where it does not fit. Exact, but for machines of more than
        eight GPUs with hardly two alike: there, of every set that grows from one GPU by the nearest or the farthest."""
        return self._extremes(free, size)

    def _search(self, free: int, size: int) -> tuple[Placement, Placement] | None:
        if not 1 <= size <= free.bit_count():
            return None
        best = worst = None
        for mask in self._candidates(free, size):
            found = self.all_reduce(mask)
            place = Placement(mask, found.busbw_gbps if found else None)
            if best is None or worst is None:
                best = worst = place
            elif (place.busbw_gbps or 0.0) > (best.busbw_gbps or 0.0):
                best = place
            elif (place.busbw_gbps or 0.0) < (worst.busbw_gbps or 0.0):
                worst = place
        assert best is not None
        assert worst is not None
        return best, worst

    def _candidates(self, free: int, size: int) -> Iterator[int]:
        """One set of every kind there is, lowest positions first."""
        held = self._kind(free)
        if prod(count + 1 for count in held) > _MOST_KINDS:
            yield from self._grown(positions_of(free), size)
            return
        if max(held) == 1:  # no twins: every set is a kind of its own
            yield from map(mask_of, combinations(positions_of(free), size))
            return
        ranges = [range(min(count, size), -1, -1) for count in held]
        for kind in product(*ranges):
            if sum(kind) == size:
                yield self._first_of(kind, free)

    def _grown(self, free: tuple[int, ...], size: int) -> Iterator[int]:
        for start in free:
            for sign in (1, -1):
                chosen = [start]
                while len(chosen) < size:
                    left = [p for p in free if p not in chosen]
                    chosen.append(max(left, key=lambda p: sign * sum(self._pair_gbps(p, c) for c in chosen)))
                yield mask_of(chosen)

    def _pair_gbps(self, a: int, b: int) -> float:
        found = self.all_reduce(1 << a | 1 << b)
        return found.busbw_gbps if found else 0.0

    def capability(self, free: int, mix: Mapping[int, float]) -> float:
        """What `free` GPUs are still good for, 0 (nothing) to 1 (a whole HGX H100, untouched); `mix` weights the sizes."""
        total = sum(mix.values()) or 1.0
        return sum(weight * self.capability_of(free, size) for size, weight in mix.items()) / total

    def capability_of(self, free: int, size: int) -> float:
        """What `free` GPUs are still good for to pods of `size` GPUs, 0..1.

        Disjoint sets of that size are taken one after another, best first; each counts for its share `size`/n of the machine's n
        GPUs, times its quality min(1, busbw / REFERENCE_GBPS). A single GPU has no links to judge: its quality is 1/2,
        so that a half-broken board is the cheaper place for it.
        """
        return self._capability(free, size)

    def _share(self, free: int, size: int) -> float:
        found = self.extremes(free, size)
        if found is None:
            return 0.0
        if size == 1:
            return 0.5 * free.bit_count() / self.size
        quality = min(1.0, (found[0].busbw_gbps or 0.0) / REFERENCE_GBPS)
        return size / self.size * quality + self.capability_of(free & ~found[0].mask, size)

    def warm(self) -> None:
        """Compute beforehand: all of a machine of up to eight GPUs; every kind of set of a larger one."""
        if self.size <= 8:
            for mask in range(1 << self.size):
                for size in range(1, mask.bit_count() + 1):
                    self.extremes(mask, size)
                for size in SIZES:
                    self.capability_of(mask, size)
        elif prod(len(members) + 1 for members in self._are_interchangeable) <= _MOST_KINDS:
            for kind in product(*(range(len(members) + 1) for members in self._are_interchangeable)):
                self._of_kind(kind)


class PlacementTable:
    """Every answer about one machine: its shape's sets, in its own numbering, and what its device plugin would do."""

    def __init__(self, machine: Machine, fabric: Fabric, sets: SetTable, renumbered: tuple[int, ...]) -> None:
        """`renumbered[position]` is the position's place in the shared table."""
        self.size, self.fabric, self.sets = len(machine.gpus), fabric, sets
        self.predictor = Predictor(pair_scores(machine, fabric), numa_nodes(machine), any(gpu.mig_enabled for gpu in machine.gpus))
        same = renumbered == tuple(range(self.size))
        self._there = None if same else _translation(renumbered)
        self._back = None if same else _translation(tuple(renumbered.index(place) for place in range(self.size)))
        self.predictor.values = self

    @property
    def interchangeable(self) -> tuple[int, ...]:
        """Masks of GPUs that are alike: exchanging two of one mask changes no answer about sets."""
        classes = self.sets.interchangeable
        return classes if self._back is None else tuple(_translated(self._back, members) for members in classes)

    def all_reduce(self, mask: int) -> AllReduce | None:
        """Performance of a set; None for fewer than two GPUs."""
        return self.sets.all_reduce(mask if self._there is None else _translated(self._there, mask))

    def busbw_gbps(self, mask: int) -> float | None:
        """All-reduce bus bandwidth of a set in GB/s, of large messages; None for fewer than two GPUs."""
        found = self.all_reduce(mask)
        return found.busbw_gbps if found else None

    def effective_gbps(self, mask: int, messages: str) -> float | None:
        """Bus bandwidth over a mix of message sizes; see `SetTable.effective_gbps`."""
        return self.sets.effective_gbps(mask if self._there is None else _translated(self._there, mask), messages)

    def extremes(self, free: int, size: int) -> tuple[Placement, Placement] | None:
        """Best and worst set of `size` GPUs out of `free`; None where it does not fit. See `SetTable.extremes`."""
        if self._there is None or self._back is None:
            return self.sets.extremes(free, size)
        found = self.sets.extremes(_translated(self._there, free), size)
        if found is None:
            return None
        best, worst = (Placement(_translated(self._back, place.mask), place.busbw_gbps) for place in found)
        return best, worst

    def capability(self, free: int, mix: Mapping[int, float]) -> float:
        """What `free` GPUs are still good for, 0..1. See `SetTable.capability_of`; losing it is what fragmentation means here."""
        return self.sets.capability(free if self._there is None else _translated(self._there, free), mix)

    def warm(self) -> None:
        """Compute beforehand, off the request path: see `SetTable.warm`; and what the plugin does on up to eight GPUs."""
        self.sets.warm()
        if self.size <= 8:
            for mask in range(1 << self.size):
                for size in range(1, mask.bit_count() + 1):
                    self.predictor.predict(mask, ((size, False),))


_Translation = tuple[tuple[int, ...], tuple[int, ...]]


def _translation(places: tuple[int, ...]) -> _Translation:
    """Mask -> mask as two look-ups, one for each eight positions."""

    def half(first: int) -> tuple[int, ...]:
        own = places[first : first + 8]
        return tuple(sum(1 << place for bit, place in enumerate(own) if mask >> bit & 1) for mask in range(256))

    return half(0), half(8)


def _translated(table: _Translation, mask: int) -> int:
    return table[0][mask & 255] | table[1][mask >> 8]


def shape(machine: Machine) -> Machine:
    """The machine with all taken out that decides neither bandwidth nor prediction."""
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
"""Shape -> its table and the canonical order of the machine that was first of it. A cache: dropping it costs time only."""
_MOST_SHAPES = 512


@lru_cache(maxsize=_MOST_SHAPES)
def _table_of(key: Machine) -> PlacementTable:
    fabric = build_fabric(key)
    looks = pair_signatures_of(fabric)
    order = canonical_order(looks.matrix)
    if len(_SHAPES) >= _MOST_SHAPES:
        _SHAPES.clear()
    sets, first = _SHAPES.setdefault((looks.vocabulary, renumber(looks.matrix, order)), (SetTable(fabric, looks), order))
    places = dict(zip(order, first, strict=True))
    return PlacementTable(key, fabric, sets, tuple(places[position] for position in range(fabric.size)))


def fresh_table(machine: Machine) -> PlacementTable:
    """A table that shares nothing and remembers nothing yet: for benchmarks and tests."""
    key = shape(machine)
    fabric = build_fabric(key)
    return PlacementTable(key, fabric, SetTable(fabric, pair_signatures_of(fabric)), tuple(range(fabric.size)))


def table_for(machine: Machine) -> PlacementTable:
    """The shared table of the machine's shape."""
    return _table_of(shape(machine))
