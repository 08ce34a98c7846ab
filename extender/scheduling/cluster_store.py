"""The current snapshot: one writer at a time, readers that never wait.

A reader takes `snapshot` once and works on it; the writer folds changes beside it and swaps one reference. Holds are kept beside the
snapshot, for they come from the verbs, which wait for no writer.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import ParamSpec

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod, AssumedPods, undone
from extender.decision.node.node_state import NODE_DEFAULTS, NodeDefaults, NodeState
from extender.decision.state.changes import Change
from extender.decision.state.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from topology.placement import PlacementTable

log = logging.getLogger("fabricwise.isolation")
P = ParamSpec("P")

Prepare = Callable[[Iterable[NodeState], Snapshot], None]
Observe = Callable[[Snapshot, Snapshot], None]
Note = Callable[[str, str, str, BaseException | str], None]
"""(kind, stage, name, error) of something that was set aside; see `set_aside.SetAsideLog`."""


class ClusterStore:
    """Holds the snapshot. Sources call `apply` from any thread; the web layer reads `snapshot`."""

    def __init__(
        self, resource: str, warm_tables: bool = True, prepare: Prepare | None = None, defaults: NodeDefaults = NODE_DEFAULTS
    ) -> None:
        """`prepare` is given the states of changed nodes, and the snapshot, before they are published."""
        self._resource, self._prepare, self.defaults = resource, prepare, defaults
        self._lock = threading.Lock()
        self._warm_tables = warm_tables
        self._warmed: weakref.WeakSet[PlacementTable] = weakref.WeakSet()
        self._snapshot = Snapshot()
        self._assumed_pods, self._assumed_pods_lock = NO_ASSUMED_PODS, threading.Lock()
        self.answering = False
        """Whether a verb is being answered right now: who can wait a moment with his changes should."""
        self.observe: Observe | None = None
        """Given the snapshots before and after, once the latter is published."""
        self.note: Note | None = None
        """Told of everything that is set aside."""

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot; it never changes under its reader."""
        return self._snapshot

    @property
    def assumed_pods(self) -> AssumedPods:
        """What has been decided and may not be visible yet; it never changes under its reader."""
        return self._assumed_pods

    @property
    def moment(self) -> tuple[Snapshot, AssumedPods]:
        """Both, read so that no pod falls between them: a hold ends only after the snapshot that makes it needless is out."""
        assumed_pods = self._assumed_pods
        return self._snapshot, assumed_pods

    def assume(self, assumed_pod: AssumedPod) -> None:
        """Place a hold. Waits for no writer of the snapshot."""
        with self._assumed_pods_lock:
            self._assumed_pods = self._assumed_pods.placed(assumed_pod)

    def release(self, *keys: str) -> None:
        """End holds, where there are any."""
        if not self._assumed_pods.by_pod:
            return
        with self._assumed_pods_lock:
            self._assumed_pods = self._assumed_pods.released(keys)

    def apply(self, changes: Iterable[Change]) -> Snapshot:
        """Fold changes and publish. New machine shapes are computed first, so that no filter call has to.

        What fails beside the fold itself (a table, an observer) is noted, and neither keeps the snapshot from being published nor ends
        the thread that brought the changes.
        """
        with self._lock:
            snapshot = fold_all(self._snapshot, changes, self._resource, self.defaults)
            if snapshot is not self._snapshot:
                changed = {view.state for name in snapshot.changed if (view := snapshot.views.get(name)) is not None}
                if self._warm_tables:
                    self._warm(snapshot)
                if self._prepare is not None:
                    self._guard("prepare", self._prepare, changed, snapshot)
                before, self._snapshot = self._snapshot, snapshot
                self._guard("assumed pods", self._settle_assumed_pods, before, snapshot)
                if self.observe is not None:
                    self._guard("observe", self.observe, before, snapshot)
                self._note_set_aside(before, snapshot)
            return snapshot

    def _guard(self, stage: str, step: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            step(*args, **kwargs)
        except Exception as error:
            self._noted("snapshot", stage, "*", error)

    def _noted(self, kind: str, stage: str, name: str, error: BaseException | str) -> None:
        if self.note is not None:
            self.note(kind, stage, name, error)
        else:
            log.warning("%s/%s set aside (%s): %s", kind, name, stage, error)

    def _note_set_aside(self, before: Snapshot, after: Snapshot) -> None:
        if before.set_aside is after.set_aside:
            return
        for key, entry in after.set_aside.items():
            if before.set_aside.get(key) != entry:
                self._noted(entry.kind, entry.stage, entry.name, entry.why)

    def _settle_assumed_pods(self, before: Snapshot, after: Snapshot) -> None:
        """The new snapshot is published already: whoever reads both never misses a pod, and never counts one twice."""
        if self._assumed_pods.by_pod:
            self.release(*self._assumed_pods.ended(after, time.monotonic()), *undone(self._assumed_pods, before, after))

    def _warm(self, snapshot: Snapshot) -> None:
        """Compute the tables of the nodes that changed. One that raises is not tried again: its nodes are refused when asked about."""
        for name in snapshot.changed:
            view = snapshot.views.get(name)
            table = view.state.table if view is not None else None
            if table is None or table in self._warmed:
                continue
            self._warmed.add(table)
            try:
                table.warm()
            except Exception as error:
                self._noted("topologies", "warm", name, error)
