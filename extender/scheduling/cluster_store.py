"""The current state of the cluster: one writer at a time, and readers that never wait.

A reader takes `snapshot` once and works on it; the writer folds changes into a new snapshot and replaces one reference. Assumed pods are
kept beside the snapshot, because the verbs place them and must not wait for a writer.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod, AssumedPods, undone
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.node.node_state import NODE_DEFAULTS, NodeDefaults, NodeState
from extender.decision.state.changes import Change
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from topology.placement.placement_table import PlacementTable

_LOOK_SECONDS = 0.0005
"""Time between two looks whether a verb is being answered: a short verb takes about that long."""

log = logging.getLogger("fabricwise.isolation")
P = ParamSpec("P")

Prepare = Callable[[Iterable[NodeState], Snapshot], None]
Observe = Callable[[Snapshot, Snapshot], None]
Note = Callable[[str, str, str, BaseException | str], None]
"""Called with (kind, stage, name, error) of an object that was set aside; see `set_aside_log.SetAsideLog.note`."""


class ClusterStore:
    """The newest snapshot and the assumed pods. Sources call `apply` from any thread; the verbs read `moment`."""

    def __init__(
        self, resource: str, warm_tables: bool = True, prepare: Prepare | None = None, defaults: NodeDefaults = NODE_DEFAULTS
    ) -> None:
        """`prepare` is called with the states of changed nodes and the new snapshot, before it is published.

        `warm_tables`: whether the tables of new machine shapes are computed before a snapshot is published.
        """
        self._resource, self._prepare, self.defaults = resource, prepare, defaults
        self._lock = threading.Lock()
        self._warm_tables = warm_tables
        self._warmed: weakref.WeakSet[PlacementTable] = weakref.WeakSet()
        self._snapshot = Snapshot()
        self._assumed_pods, self._assumed_pods_lock = NO_ASSUMED_PODS, threading.Lock()
        self.answering = False
        """Whether a verb is being answered now: a source whose changes can wait a moment delays them."""
        self._answered_seconds = float("-inf")
        """The time, of the monotonic clock, at which a verb was answered last."""
        self.observe: Observe | None = None
        """Called with the snapshots before and after a change, once the latter is published."""
        self.note: Note | None = None
        """Called for every object that is set aside; None: it is logged alone."""

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot. It is immutable."""
        return self._snapshot

    @property
    def assumed_pods(self) -> AssumedPods:
        """Pods that were decided for a node and may not be visible there yet. Immutable."""
        return self._assumed_pods

    def moment(self, monotonic_seconds: float) -> Moment:
        """Return the snapshot with the assumed pods, as of `monotonic_seconds`.

        No pod is missing from both: the assumed pods are read first, and one is removed only after the snapshot that shows it is published.
        """
        assumed_pods = self._assumed_pods
        return Moment(self._snapshot, assumed_pods, monotonic_seconds)

    @contextmanager
    def answering_verb(self) -> Iterator[None]:
        """Mark the time in which a verb is answered; see `answering`."""
        self.answering = True
        try:
            yield
        finally:
            self.answering, self._answered_seconds = False, time.monotonic()

    def has_answered_within(self, seconds: float) -> bool:
        """Return whether a verb is being answered, or was within this time."""
        return self.answering or time.monotonic() - self._answered_seconds < seconds

    def give_way(self, most_seconds: float) -> None:
        """Wait while a verb is being answered, at most for `most_seconds`."""
        until = time.monotonic() + most_seconds
        while self.answering and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)

    def assume(self, assumed_pod: AssumedPod) -> None:
        """Add an assumed pod. Does not wait for a writer of the snapshot."""
        with self._assumed_pods_lock:
            self._assumed_pods = self._assumed_pods.placed(assumed_pod)

    def release(self, *keys: str) -> None:
        """Remove the assumed pods with these keys, if there are any."""
        if not self._assumed_pods.by_pod:
            return
        with self._assumed_pods_lock:
            self._assumed_pods = self._assumed_pods.released(keys)

    def apply(self, changes: Iterable[Change]) -> Snapshot:
        """Fold changes, publish the new snapshot and return it. Tables of new machine shapes are computed before, so that no verb has to.

        An error outside of the fold (in a table or an observer) is noted; the snapshot is published all the same, and the thread that
        brought the changes goes on.
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
        """Remove assumed pods that are visible, expired or given up. The new snapshot is published before, see `moment`."""
        if self._assumed_pods.by_pod:
            self.release(*self._assumed_pods.ended(after, time.monotonic()), *undone(self._assumed_pods, before, after))

    def _warm(self, snapshot: Snapshot) -> None:
        """Compute the tables of the nodes that changed. One that raises is not tried again: its nodes are infeasible."""
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
