"""The nodes of the newest snapshot as numbered rows, and what differs between them for a decision as numbered entries.

A request names thousands of nodes. Their rows are looked up once; everything else about them is then read from arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from extender.decision.evaluate.by_name.name_index import UNKNOWN_ROW, NameIndex
from extender.decision.evaluate.by_name.node_names import NodeNames, hash_of
from extender.decision.node.node_state import NodeState, NodeView
from extender.decision.state.snapshot import Snapshot

_FEW_NAMES = 256
"""Up to this number, names are looked up one by one: the fixed cost of array operations is that of about as many look-ups."""

_Key = tuple[NodeState, int | None]

Scalar = TypeVar("Scalar", bound=np.generic)

UNKNOWN = UNKNOWN_ROW
"""The row, and the entry, of a node without a view."""


class NodeTable:
    """Rows and entries, which follow the snapshots that `follow` is called with. Not safe under threads."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._behind: set[str] = set()
        """Names of nodes whose rows are not up to the snapshot yet."""
        self._rows: dict[str, int] = {}
        self._index = NameIndex(self._rows)
        self._free_rows: list[int] = []
        self._entries: dict[_Key, int] = {}
        self._free_entries: list[int] = []
        self._uses = [1]
        self._next_version = 1
        self._row_set: object = object()
        """Identifies the set of rows: another object once a node is added or removed."""
        self.views: list[NodeView | None] = [None]
        """The view of one of the nodes of each entry; None where the entry is not in use."""
        self.entry_of = np.zeros(64, np.intp)
        """The entry of each row."""
        self.versions = np.zeros(64, np.int64)
        """Per entry a number that differs for every state that the entry has ever had."""
        self._hashes = np.zeros(64, np.uint32)

    @property
    def revision(self) -> int:
        """The revision of the snapshot that the rows follow."""
        return self._snapshot.revision

    def follow(self, snapshot: Snapshot, most_nodes: int) -> bool:
        """Bring the rows of at most this many nodes up to a snapshot. Return whether all rows are up to it."""
        if snapshot is not self._snapshot:
            names = snapshot.changed_since(self._snapshot.revision)
            self._behind |= {*snapshot.views, *self._rows} if names is None else names
            self._snapshot = snapshot
        for _ in range(min(most_nodes, len(self._behind))):
            name = self._behind.pop()
            self._set(name, snapshot.views.get(name))
        return not self._behind

    def rows_of(self, names: NodeNames) -> NDArray[np.intp]:
        """Return the row of each name, shape (names,); `UNKNOWN` where the snapshot has no view of the node."""
        if names.rows is None or names.rows[0] is not self._row_set:
            if len(names) <= _FEW_NAMES:
                rows = np.fromiter((self._rows.get(name, UNKNOWN) for name in names.texts), np.intp, len(names))
            else:
                rows = self._index.rows_of(names.texts)
            names.located(self._row_set, rows, self._hashes[rows])
        assert names.rows is not None
        return names.rows[1]

    def positions(self, names: NodeNames, wanted: Iterable[str]) -> list[int]:
        """Return the positions in `names` of those of the wanted nodes that have a view."""
        rows = [self._rows[name] for name in wanted if name in self._rows]
        if not rows:
            return []
        is_wanted = np.zeros(len(self.entry_of), np.bool_)
        is_wanted[rows] = True
        positions: list[int] = np.flatnonzero(is_wanted[self.rows_of(names)]).tolist()
        return positions

    def _set(self, name: str, view: NodeView | None) -> None:
        row = self._rows.get(name)
        if row is None:
            if view is None:
                return
            row = self._new_row(name)
        before = int(self.entry_of[row])
        known = self.views[before]
        if view is not None and known is not None and known.state is view.state and known.dra is view.dra:
            return
        self.entry_of[row] = UNKNOWN if view is None else self._used(view)
        self._release(before)
        if view is None:
            del self._rows[name]
            self._index.remove(name)
            self._free_rows.append(row)
            self._row_set = object()

    def _new_row(self, name: str) -> int:
        row = self._free_rows.pop() if self._free_rows else len(self._rows) + 1
        self.entry_of, self._hashes = grown(self.entry_of, row), grown(self._hashes, row)
        self._rows[name], self._hashes[row] = row, hash_of(name)
        self._index.add(name, row)
        self._row_set = object()
        return row

    def _used(self, view: NodeView) -> int:
        """Return the entry of a view, which one more row uses."""
        entry = self._entries.get(_key(view))
        if entry is None:
            entry = self._free_entries.pop() if self._free_entries else len(self.views)
            if entry == len(self.views):
                self.views.append(None)
                self._uses.append(0)
            self.versions = grown(self.versions, entry)
            self.views[entry], self.versions[entry] = view, self._next_version
            self._entries[_key(view)] = entry
            self._next_version += 1
        self._uses[entry] += 1
        return entry

    def _release(self, entry: int) -> None:
        if entry == UNKNOWN:
            return
        self._uses[entry] -= 1
        view = self.views[entry]
        if not self._uses[entry] and view is not None:
            del self._entries[_key(view)]
            self.views[entry] = None
            self._free_entries.append(entry)


def _key(view: NodeView) -> _Key:
    """Return what a verdict depends on: the state, and by identity the devices of Dynamic Resource Allocation."""
    return view.state, None if view.dra is None else id(view.dra)


def grown(array: NDArray[Scalar], index: int) -> NDArray[Scalar]:
    """Return the array with room for `index` along its first axis: the array itself, or a copy of twice the size filled with zeros."""
    if index < len(array):
        return array
    larger = np.zeros((max(2 * len(array), index + 1), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
