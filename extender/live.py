"""The current snapshot: one writer at a time, readers that never wait.

A reader takes `snapshot` once and works on it; the writer folds changes beside it and swaps one reference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from extender.decision.changes import Change, fold_all
from extender.decision.cluster import NODE_DEFAULTS, NodeDefaults, NodeState, Snapshot
from topology.placement import PlacementTable

Prepare = Callable[[Iterable[NodeState], Snapshot], None]
Observe = Callable[[Snapshot, Snapshot], None]


class LiveCluster:
    """Holds the snapshot. Sources call `apply` from any thread; the web layer reads `snapshot`."""

    def __init__(
        self, resource: str, warm_tables: bool = True, prepare: Prepare | None = None, defaults: NodeDefaults = NODE_DEFAULTS
    ) -> None:
        """`prepare` is given the states of changed nodes, and the snapshot, before they are published."""
        self._resource, self._prepare, self._defaults = resource, prepare, defaults
        self._lock = threading.Lock()
        self._warm_tables = warm_tables
        self._warmed: set[PlacementTable] = set()
        self._snapshot = Snapshot()
        self.answering = False
        """Whether a verb is being answered right now: who can wait a moment with his changes should."""
        self.observe: Observe | None = None
        """Given the snapshots before and after, once the latter is published."""

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot; it never changes under its reader."""
        return self._snapshot

    def apply(self, changes: Iterable[Change]) -> Snapshot:
        """Fold changes and publish. New machine shapes are computed first, so that no filter call has to."""
        with self._lock:
            snapshot = fold_all(self._snapshot, changes, self._resource, self._defaults)
            if snapshot is not self._snapshot:
                changed = {view.state for name in snapshot.changed if (view := snapshot.views.get(name)) is not None}
                if self._warm_tables:
                    self._warm(changed)
                if self._prepare is not None:
                    self._prepare(changed, snapshot)
                before_all, self._snapshot = self._snapshot, snapshot
                if self.observe is not None:
                    self.observe(before_all, snapshot)
            return snapshot

    def _warm(self, states: Iterable[NodeState]) -> None:
        for table in {state.table for state in states if state.table is not None} - self._warmed:
            table.warm()
            self._warmed.add(table)
