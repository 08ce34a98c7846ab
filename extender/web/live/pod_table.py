"""The rows of all pods, in order, kept between requests: a page costs what it shows, and what has changed since the request before.

A row is made anew only if an object that it is made from is another one. While the state is the same, nothing is looked at but the page.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec

from extender.decision.cycle.assumed_pods import AssumedPod
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.report.live.pod_rows import PodRow, PodSource, State, WorstKey, pod_keys, pod_row, pod_source, worst_key
from extender.web.live.sorted_keys import STEP_KEYS, SortedKeys

K = TypeVar("K", bound=Any)

STEP_ROWS = 32
"""Rows that are made between two calls of `give_way`."""

IDLE_SECONDS = 60.0
"""Rows that are not asked for so long are dropped: they keep parts of an old state in memory."""


class PodQuery(msgspec.Struct, frozen=True):
    """Which pods are asked for. None: any."""

    namespace: str | None = None
    node: str | None = None
    state: State | None = None
    search: str | None = None
    """A part of namespace/name, or of the node's name."""

    @property
    def is_of_namespace(self) -> bool:
        """Whether nothing but a namespace is asked for, or nothing at all."""
        return self.node is self.state is self.search is None

    def matching(self, rows: list[PodRow]) -> list[PodRow]:
        """Return the rows that are asked for."""
        namespace, node, state, search = self.namespace, self.node, self.state, self.search
        if namespace is not None:
            rows = [row for row in rows if row.namespace == namespace]
        if node is not None:
            rows = [row for row in rows if row.node == node]
        if state is not None:
            rows = [row for row in rows if row.state == state]
        if search is not None:
            rows = [row for row in rows if search in f"{row.namespace}/{row.name}" or (row.node is not None and search in row.node)]
        return rows


class PodPage(msgspec.Struct, frozen=True):
    """Rows of one moment."""

    rows: list[PodRow]
    total: int
    """Pods that match, on all pages."""
    moment: Moment


class _Kept(msgspec.Struct, frozen=True):
    """A row with what it was made from."""

    source: PodSource
    row: PodRow
    position: str
    worst: WorstKey


class PodTable:
    """The rows of one cluster's pods. Safe for several threads."""

    def __init__(self, moment: Callable[[], Moment], give_way: Callable[[], None] = lambda: None) -> None:
        """`moment` returns the newest state. `give_way` is called after each step of work; it may wait while verbs are answered."""
        self._moment, self._give_way = moment, give_way
        self._lock = threading.Lock()
        self._used_seconds = float("-inf")
        self.made = self.looked = 0
        """Rows that were made, and pods whose row was compared with the state, since the start: the work, for tests."""
        self._clear()

    def _clear(self) -> None:
        self._shown: Moment | None = None
        self._kept: dict[str, _Kept] = {}
        self._row_at: dict[str, PodRow] = {}
        """`PodRow.position` -> row."""
        self._on_node: dict[str, set[str]] = {}
        """Node -> positions of the rows that name it."""
        self._by_name: SortedKeys[str] = SortedKeys(self._give_way)
        self._by_need: SortedKeys[WorstKey] = SortedKeys(self._give_way)

    def forget_if_idle(self, monotonic_seconds: float) -> None:
        """Drop all rows if no page was asked for `IDLE_SECONDS`."""
        if self._shown is None or monotonic_seconds - self._used_seconds < IDLE_SECONDS or not self._lock.acquire(blocking=False):
            return
        try:
            self._clear()
        finally:
            self._lock.release()

    def by_name(self, query: PodQuery, after: str | None, limit: int) -> PodPage:
        """Return pods by namespace and name, from behind the position `after`, and one more than `limit` where there are more."""
        with self._lock:
            moment, positions = self._update(), self._candidates(query)
            if query.is_of_namespace:
                start = 0 if after is None else bisect_right(positions, after)
                return PodPage([self._row_at[key] for key in positions[start : start + limit + 1]], len(positions), moment)
            found = self._matching(query, positions)
            later = found if after is None else [row for row in found if row.position > after]
            return PodPage(later[: limit + 1], len(found), moment)

    def by_need(self, query: PodQuery, limit: int) -> PodPage:
        """Return the first pods in the order of `worst_key`."""
        with self._lock:
            moment = self._update()
            if query == PodQuery():
                return PodPage([self._row_at[key[2]] for key in islice(self._by_need.keys, limit)], len(self._kept), moment)
            if query.node is not None:
                found = sorted(self._matching(query, self._candidates(query)), key=worst_key)
            else:
                found = self._matching(query, [key[2] for key in self._by_need.keys])
            return PodPage(found[:limit], len(found), moment)

    def _candidates(self, query: PodQuery) -> Sequence[str]:
        """Return positions in order, among them those of all pods that match."""
        if query.node is not None:
            return sorted(self._on_node.get(query.node, ()))
        if query.namespace is not None:
            keys = self._by_name.keys
            return keys[bisect_right(keys, f"{query.namespace}/") : bisect_right(keys, f"{query.namespace}0")]  # "0" follows "/"
        return self._by_name.keys

    def _matching(self, query: PodQuery, positions: Sequence[str]) -> list[PodRow]:
        found: list[PodRow] = []
        for start in range(0, len(positions), STEP_KEYS):
            found += query.matching([self._row_at[position] for position in positions[start : start + STEP_KEYS]])
            self._give_way()
        return found

    def _update(self) -> Moment:
        """Bring the rows up to date with the newest state, and return it."""
        moment, self._used_seconds = self._moment(), time.monotonic()
        try:
            self._compare(moment)
        except BaseException:
            self._clear()  # half of the changes may be in the rows
            raise
        self._shown = moment
        return moment

    def _compare(self, moment: Moment) -> None:
        """Make the rows anew whose source is another one, and remove those that have none."""
        replaced: list[tuple[_Kept | None, _Kept | None]] = []
        for number, key in enumerate(self._touched(moment), 1):
            if number % STEP_KEYS == 0:
                self._give_way()
            self.looked += 1
            old, source = self._kept.get(key), pod_source(moment, key)
            if source is None:
                if old is not None:
                    replaced.append((self._kept.pop(key), None))
                continue
            if old is not None and old.source[0] is source[0] and old.source[1] is source[1]:
                continue
            row = pod_row(key, source)
            self._kept[key] = new = _Kept(source, row, row.position, worst_key(row))
            replaced.append((old, new))
            self.made += 1
            if len(replaced) % STEP_ROWS == 0:
                self._give_way()
        if replaced:
            self._put(replaced)

    def _touched(self, moment: Moment) -> Iterable[str]:
        """Return the keys of the pods whose row may differ from that of the last update.

        A batch of changes that writes a bound pod also counts the pod's node among the changed ones; see `Snapshot.changed_since`.
        """
        before, now = self._shown, moment.snapshot
        nodes = None if before is None else set() if before.snapshot is now else now.changed_since(before.snapshot.revision)
        if before is None or nodes is None:
            return pod_keys(moment) | self._kept.keys()
        old = before.snapshot
        keys = {key for node in nodes for state in (old, now) for key in state.by_node.get(node, ())}
        keys |= self._moved(old.pending, now.pending)
        return keys | self._moved(_in_force(before), _in_force(moment))

    def _moved(self, before: Mapping[str, object], now: Mapping[str, object]) -> set[str]:
        """Return the keys whose value is another object, or is in one of the mappings alone."""
        if before is now:
            return set()
        moved: set[str] = set()
        for number, (key, value) in enumerate(now.items(), 1):
            if before.get(key) is not value:
                moved.add(key)
            if number % STEP_KEYS == 0:
                self._give_way()
        return moved | {key for key in before if key not in now}

    def _put(self, replaced: Sequence[tuple[_Kept | None, _Kept | None]]) -> None:
        """Replace rows, and keep the orders in accordance."""
        for old, _ in replaced:
            if old is not None:
                del self._row_at[old.position]
                self._on_node.get(old.row.node or "", set()).discard(old.position)
        for _, new in replaced:
            if new is not None:
                self._row_at[new.position] = new.row
                if new.row.node is not None:
                    self._on_node.setdefault(new.row.node, set()).add(new.position)
        for node in {old.row.node for old, _ in replaced if old is not None and old.row.node is not None}:
            if not self._on_node.get(node):
                self._on_node.pop(node, None)
        gone = [old for old, _ in replaced if old is not None]
        come = [new for _, new in replaced if new is not None]
        _change(self._by_name, {kept.position for kept in gone}, {kept.position for kept in come})
        _change(self._by_need, {kept.worst for kept in gone}, {kept.worst for kept in come})


def _change(keys: SortedKeys[K], gone: set[K], come: set[K]) -> None:
    keys.change(gone - come, come - gone)


def _in_force(moment: Moment) -> Mapping[str, AssumedPod]:
    """Return the assumed pods whose time has not ended, by pod key."""
    assumed = moment.assumed_pods
    return {key: each for key, each in assumed.by_pod.items() if assumed.is_in_force(key, moment.monotonic_seconds)}
