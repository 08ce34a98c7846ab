"""The rows of all nodes with GPUs, each made anew only if what it is made from has changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

import msgspec

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.node.node_state import NodeView
from extender.decision.report.checks.node_checks import has_gpus
from extender.decision.report.live.cluster_rows import NodeRow, Totals, node_row
from extender.decision.report.live.device_states import Awaited, awaited_by_node
from extender.decision.request.kubernetes_objects import Node
from extender.decision.state.snapshot import Snapshot

GIVE_WAY_ROWS = 16
"""Rows that are made between two looks whether a verb is being answered."""

_SUMS = attrgetter("gpus", "free", "taken", "assumed", "excluded", "unknown")
_encode = msgspec.json.Encoder().encode

AwaitedByNode = Mapping[str, tuple[Awaited, ...]]


class _Kept(msgspec.Struct, frozen=True):
    """A row, encoded, with all that it was made from."""

    view: NodeView
    node: Node
    awaited: tuple[Awaited, ...]
    notes: int
    row: NodeRow
    encoded: bytes


class RowTable:
    """The rows of one cluster. Not for several threads at a time."""

    def __init__(self, resource: str, usable_memory_share: float, give_way: Callable[[], None], give_way_rows: int = GIVE_WAY_ROWS) -> None:
        """`give_way` is called after each `give_way_rows` rows that are made; it may wait while verbs are answered."""
        self._resource, self._share, self._give_way, self._give_way_rows = resource, usable_memory_share, give_way, give_way_rows
        self._rows: dict[str, _Kept] = {}
        self._sums = [0] * 6
        self._snapshot: Snapshot | None = None
        """That of the last update."""
        self._awaited: AwaitedByNode = {}
        self._notes: Mapping[str, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def totals(self) -> Totals:
        """The sums over all rows."""
        return Totals(len(self._rows), *self._sums)

    def rows(self) -> list[NodeRow]:
        """Return all rows, in no order."""
        return [kept.row for kept in self._rows.values()]

    def encoded(self) -> bytes:
        """Return all rows as a JSON array, sorted by name."""
        return b"[" + b",".join(self._rows[name].encoded for name in sorted(self._rows)) + b"]"

    def update(self, moment: Moment) -> tuple[list[bytes], list[str]]:
        """Bring the rows up to date. Return the encoded rows that differ, and the names of the nodes that are gone."""
        snapshot = moment.snapshot
        is_any = bool(moment.assumed_pods.by_pod)
        awaited = awaited_by_node(snapshot, moment.assumed_pods, moment.monotonic_seconds) if is_any else {}
        notes = self._notes_of(snapshot)
        changed: list[bytes] = []
        removed: list[str] = []
        made = 0
        for name in self._touched(snapshot, awaited, notes):
            view, node, old = snapshot.views.get(name), snapshot.nodes.get(name), self._rows.get(name)
            if view is None or node is None or not has_gpus(node, view, self._resource):
                if old is not None:
                    removed.append(name)
                    self._put(name, old, None)
                continue
            of, note_count = awaited.get(name, ()), notes.get(name, 0)
            if old is not None and old.view is view and old.node is node and old.awaited == of and old.notes == note_count:
                continue
            row = node_row(view, node, of, note_count, self._share)
            kept = _Kept(view, node, of, note_count, row, _encode(row))
            if old is None or old.encoded != kept.encoded:
                changed.append(kept.encoded)
            self._put(name, old, kept)
            made += 1
            if made % self._give_way_rows == 0:
                self._give_way()
        self._snapshot, self._awaited, self._notes = snapshot, awaited, notes
        return changed, removed

    def _touched(self, snapshot: Snapshot, awaited: AwaitedByNode, notes: Mapping[str, int]) -> Iterable[str]:
        """Return the names of the nodes whose row may differ."""
        before = self._snapshot
        changed = None if before is None else set() if before is snapshot else snapshot.changed_since(before.revision)
        if changed is None:
            return {*snapshot.views, *self._rows}
        changed |= {name for name in {*awaited, *self._awaited} if awaited.get(name) != self._awaited.get(name)}
        return changed | {name for name in {*notes, *self._notes} if notes.get(name) != self._notes.get(name)}

    def _notes_of(self, snapshot: Snapshot) -> Mapping[str, int]:
        """Return node -> number of objects that concern it and are set aside."""
        if self._snapshot is not None and self._snapshot.set_aside is snapshot.set_aside:
            return self._notes
        return Counter(entry.node for entry in snapshot.set_aside.values() if entry.node is not None)

    def _put(self, name: str, old: _Kept | None, new: _Kept | None) -> None:
        """Replace a row, and keep the sums in accordance."""
        for kept, sign in ((old, -1), (new, 1)):
            if kept is not None:
                self._sums = [total + sign * part for total, part in zip(self._sums, _SUMS(kept.row), strict=True)]
        if new is None:
            del self._rows[name]
        else:
            self._rows[name] = new
