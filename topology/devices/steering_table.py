"""The values of a machine's sets as a small table, for a process that answers by them and computes none.

A set's value depends only on how many devices of each class of interchangeable ones it has, so a table has one entry per such count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import prod

from topology.devices.steering import MOST_CANDIDATES, SetValues, Steering
from topology.machine.hardware import positions_of


@dataclass(frozen=True, slots=True)
class ValueTable:
    """Values of every kind of set for one mix of messages and one mix of sizes; itself a `SetValues`.

    `entries`: (effective GB/s or None, capability) in the order of `itertools.product` over the counts 0..n of each class.
    """

    interchangeable: tuple[int, ...]
    entries: tuple[tuple[float | None, float], ...]

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
        """As computed for the one mix of sizes that the table is of."""
        return self._entry(free)[1]

    def _entry(self, mask: int) -> tuple[float | None, float]:
        place = 0
        for members in self.interchangeable:
            place = place * (members.bit_count() + 1) + (mask & members).bit_count()
        return self.entries[place]


def table_of(values: SetValues, steering: Steering) -> ValueTable | None:
    """Every value of a machine's sets; None where it has too many kinds of sets for a steerer to choose among."""
    classes = values.interchangeable
    if prod(members.bit_count() + 1 for members in classes) > MOST_CANDIDATES:
        return None
    mix, entries = dict(steering.size_mix), []
    for counts in product(*(range(members.bit_count() + 1) for members in classes)):
        mask = sum(1 << position for count, members in zip(counts, classes, strict=True) for position in positions_of(members)[:count])
        entries.append((values.effective_gbps(mask, steering.messages), values.capability(mask, mix)))
    return ValueTable(classes, tuple(entries))
