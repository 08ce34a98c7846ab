"""The values of a machine's sets as a small table, for a process that answers by them and computes none.

A set's value depends only on how many devices of each class of interchangeable ones it has, so a table has one entry per such count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod

from topology.devices.size_mix import SIZES
from topology.devices.steering import MOST_CANDIDATES, SetValues, Steering, has_table
from topology.machine.hardware import positions_of

Entry = tuple[float | None, float, float, float, float]


@dataclass(frozen=True, slots=True)
class ValueTable:
    """Values of every kind of set for one mix of messages; itself a `SetValues`.

    `entries`: (effective GB/s or None, capability for pods of each of `SIZES`) in the order of `itertools.product` over the counts 0..n of
    each class.
    """

    interchangeable: tuple[int, ...]
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        """Raises ValueError where classes overlap, or there is not one entry per kind of set."""
        whole = 0
        for members in self.interchangeable:
            if members <= 0 or members & whole:
                raise ValueError("the classes of interchangeable devices are empty or overlap")
            whole |= members
        kinds = prod(members.bit_count() + 1 for members in self.interchangeable)
        if kinds > MOST_CANDIDATES or kinds != len(self.entries):
            raise ValueError(f"{len(self.entries)} entries for {kinds} kinds of sets, of at most {MOST_CANDIDATES}")

    def effective_gbps(self, mask: int, messages: str) -> float | None:
        """As computed for the one mix of messages that the table is of."""
        return self._entry(mask)[0]

    def capability(self, free: int, mix: Mapping[int, float]) -> float:
        """As `topology.placement.set_table.SetTable.capability`. Raises KeyError where the mix has other sizes than `SIZES`."""
        each = dict(zip(SIZES, self._entry(free)[1:], strict=True))
        total = sum(mix.values()) or 1.0
        return sum(weight * each[size] for size, weight in mix.items()) / total

    def _entry(self, mask: int) -> Entry:
        place = 0
        for members in self.interchangeable:
            place = place * (members.bit_count() + 1) + (mask & members).bit_count()
        return self.entries[place]


def table_of(values: SetValues, steering: Steering) -> ValueTable | None:
    """Every value of a machine's sets; None where it has too many kinds of sets for a steerer to choose among."""
    if not has_table(values):
        return None
    classes = values.interchangeable
    entries: list[Entry] = []
    for counts in product(*(range(members.bit_count() + 1) for members in classes)):
        mask = sum(1 << position for count, members in zip(counts, classes, strict=True) for position in positions_of(members)[:count])
        one, two, four, eight = (values.capability(mask, {size: 1.0}) for size in SIZES)
        entries.append((values.effective_gbps(mask, steering.messages), one, two, four, eight))
    return ValueTable(classes, tuple(entries))
