"""The mappings of the state while a batch of changes is folded into it. The mapping before the batch never changes.

A mapping with an entry per object of the cluster is a persistent one (a hash array mapped trie, `immutables.Map`): a write makes a new map
that shares all but a few small nodes with the old one, in O(log n). It has no order. A mapping that stays small is a dict that is copied
before its first write; it keeps the order of insertion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from immutables import Map

K = TypeVar("K")
V = TypeVar("V")


def persistent(mapping: Mapping[K, V]) -> Map[K, V]:
    """Return the mapping itself where it is persistent, else a persistent copy."""
    return mapping if isinstance(mapping, Map) else Map(mapping)


class Table(Generic[K, V]):
    """A persistent mapping without order: a write costs O(log n)."""

    __slots__ = ("_original", "now")

    def __init__(self, original: Mapping[K, V]) -> None:
        self._original = self.now = persistent(original)
        """`now` is the current content: the original itself where nothing has been written."""

    @property
    def is_written(self) -> bool:
        """Whether anything has been written."""
        return self.now is not self._original

    def put(self, key: K, value: V | None) -> bool:
        """Set the value of a key, or remove the key where `value` is None. Return whether that changed anything."""
        if self.now.get(key) == value:
            return False
        self.now = self.now.delete(key) if value is None else self.now.set(key, value)
        return True

    def set(self, key: K, value: V) -> None:
        """Set the value of a key without a comparison with its previous value."""
        self.now = self.now.set(key, value)

    def pop(self, key: K) -> V | None:
        """Remove a key and return its value; None where there is no such key."""
        value = self.now.get(key)
        if value is not None:
            self.now = self.now.delete(key)
        return value


class SmallTable(Generic[K, V]):
    """A dict with few entries, in the order of insertion, that is copied before it is written for the first time."""

    __slots__ = ("_copy", "_original")

    def __init__(self, original: Mapping[K, V]) -> None:
        self._original = original
        self._copy: dict[K, V] | None = None

    @property
    def now(self) -> Mapping[K, V]:
        """The current content: the original itself where nothing has been written."""
        return self._original if self._copy is None else self._copy

    @property
    def is_written(self) -> bool:
        """Whether there is a copy."""
        return self._copy is not None

    def writable(self) -> dict[K, V]:
        """Return the copy, which is made on the first call."""
        if self._copy is None:
            self._copy = dict(self._original)
        return self._copy

    def put(self, key: K, value: V | None) -> bool:
        """Set the value of a key, or remove the key where `value` is None. Return whether that changed anything."""
        if self.now.get(key) == value:
            return False
        if value is None:
            del self.writable()[key]
        else:
            self.writable()[key] = value
        return True

    def replace(self, content: Mapping[K, V]) -> None:
        """Replace the whole content."""
        self._copy = dict(content)


def add(table: Table[str, frozenset[str]] | SmallTable[str, frozenset[str]], node: str, key: str) -> None:
    """Add a key to the set of a node."""
    table.put(node, table.now.get(node, frozenset()) | {key})


def discard(table: Table[str, frozenset[str]] | SmallTable[str, frozenset[str]], node: str, key: str) -> None:
    """Remove a key from the set of a node; an empty set is removed too."""
    table.put(node, (table.now[node] - {key}) or None)
