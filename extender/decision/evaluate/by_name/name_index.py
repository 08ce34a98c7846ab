"""Rows of thousands of names at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

UNKNOWN_ROW = 0
"""The row of a name that is not in the index."""

_EMPTY = -1


class NameIndex:
    """Name -> row for thousands of names at once: an open-addressing table in arrays, by Python's 64-bit hash of a name.

    A dictionary compares each name with a string elsewhere in memory, which takes most of a request for 20,000 names. Here names with an
    equal hash count as equal; where two known names have one hash (2**-64 per pair), a dictionary is used instead.
    """

    def __init__(self, rows: Mapping[str, int]) -> None:
        """`rows`: the dictionary with the same content, which the caller changes before this index."""
        self._rows = rows
        self._slots = 256
        self._build()

    def _build(self) -> None:
        self._used, self._is_unique = 0, True
        self._keys = np.zeros(self._slots, np.int64)
        self._found = np.full(self._slots, _EMPTY, np.int32)
        for name, row in self._rows.items():
            self._put(name, row)

    def add(self, name: str, row: int) -> None:
        """Add a name."""
        if 4 * (self._used + 1) > self._slots:
            self._slots = max(256, 1 << (8 * len(self._rows)).bit_length())
            self._build()
        else:
            self._put(name, row)

    def remove(self, name: str) -> None:
        """Remove a name. Its slot stays in use until the next rebuild."""
        if self._is_unique:
            self._found[self._slot(hash(name))] = UNKNOWN_ROW

    def rows_of(self, names: Sequence[str]) -> NDArray[np.intp]:
        """Return the row of each name; `UNKNOWN_ROW` where it has none."""
        if not self._is_unique:
            return np.fromiter((self._rows.get(name, UNKNOWN_ROW) for name in names), np.intp, len(names))
        keys = np.fromiter(map(hash, names), np.int64, len(names))
        slots = keys & (self._slots - 1)
        rows = np.where(self._keys[slots] == keys, self._found[slots], _EMPTY)
        (open_,) = np.nonzero((rows == _EMPTY) & (self._found[slots] != _EMPTY))
        while len(open_):  # their slot is in use by another name: they may be in the next one
            slots[open_] = (slots[open_] + 1) & (self._slots - 1)
            at = slots[open_]
            rows[open_] = np.where(self._keys[at] == keys[open_], self._found[at], _EMPTY)
            open_ = open_[(rows[open_] == _EMPTY) & (self._found[at] != _EMPTY)]
        return np.where(rows == _EMPTY, UNKNOWN_ROW, rows).astype(np.intp)

    def _put(self, name: str, row: int) -> None:
        key = hash(name)
        slot = self._slot(key)
        if self._found[slot] == _EMPTY:
            self._used += 1
        elif self._found[slot] != UNKNOWN_ROW:
            self._is_unique = False
        self._keys[slot], self._found[slot] = key, row

    def _slot(self, key: int) -> int:
        """Return the slot of a key, or the empty slot where it would be."""
        slot = key & (self._slots - 1)
        while self._found[slot] != _EMPTY and self._keys[slot] != key:
            slot = (slot + 1) & (self._slots - 1)
        return slot
