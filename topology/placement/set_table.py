"""Best and worst set of a machine shape, and the capability that remains after a set is allocated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import prod

from topology.bandwidth.all_reduce import AllReduce, all_reduce, mix_of
from topology.bandwidth.fabric import Fabric
from topology.devices.size_mix import EVEN_MIX, SIZES
from topology.machine.hardware import mask_of, positions_of
from topology.symmetry import PairSignatures, fingerprint, interchangeable_gpus

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
