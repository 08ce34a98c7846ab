"""Keys in order, kept in order while some of them change: few at the cost of those few, many by one merge in steps."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Sequence
from heapq import merge
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Any)

MERGED_SHARE = 8
"""If more than one in so many keys changes, all are merged anew: that costs less than to move them one by one."""
STEP_KEYS = 500
"""Keys that are sorted or merged between two calls of `give_way`. Python's sort does not release the interpreter: 500 keys take 0.2 ms."""


class SortedKeys(Generic[K]):
    """Distinct keys in order. Not for several threads at a time."""

    def __init__(self, give_way: Callable[[], None]) -> None:
        self._give_way = give_way
        self._keys: list[K] = []

    @property
    def keys(self) -> Sequence[K]:
        """All keys in order."""
        return self._keys

    def change(self, removed: Collection[K], added: Collection[K]) -> None:
        """Remove keys, all of which are there, then add keys, none of which is there."""
        if MERGED_SHARE * (len(removed) + len(added)) > len(self._keys):
            self._merge(frozenset(removed), list(added))
            return
        for number, key in enumerate(removed, 1):
            del self._keys[bisect_left(self._keys, key)]
            self._look(number)
        for number, key in enumerate(added, 1):
            insort(self._keys, key)
            self._look(number)

    def _merge(self, removed: frozenset[K], added: list[K]) -> None:
        runs: list[list[K]] = [[key for key in self._keys if key not in removed]]
        for start in range(0, len(added), STEP_KEYS):
            runs.append(sorted(added[start : start + STEP_KEYS]))
            self._give_way()
        merged: list[K] = []
        for number, key in enumerate(merge(*runs), 1):
            merged.append(key)
            self._look(number)
        self._keys = merged

    def _look(self, number: int) -> None:
        if number % STEP_KEYS == 0:
            self._give_way()
