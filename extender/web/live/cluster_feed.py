"""The cluster as rows, kept up to date, and the events that say how it changes: made once for all clients, beside the verbs.

`refresh` compares the newest state with the rows and appends events. A thread calls it each second while clients are connected, and for
each sample of the history; a request for the whole cluster calls it too.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import islice

import msgspec

from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.report.live.cluster_rows import NodeRow
from extender.scheduling.decision_log import Decision, DecisionLog
from extender.web.live.cluster_history import ClusterHistory, sample_of
from extender.web.live.event_ring import EventRing
from extender.web.live.live_answers import AgeEvent, EncodedCluster, EndEvent, NodesEvent, ResyncEvent, decision_event
from extender.web.live.pod_table import PodTable
from extender.web.live.row_table import RowTable

TICK_SECONDS = 1.0
"""The shortest time between two events `nodes`."""

FRESH_SECONDS = 0.5
"""A state that was compared so lately is not compared again for a request."""

MOST_DECISIONS = 200
"""Decisions of one tick that become events; of more, the newest."""

MOST_FRAME_BYTES = 4 << 20
"""A longer event becomes `resync`: the whole state is not much larger."""

_encode = msgspec.json.Encoder().encode


class ClusterFeed:
    """Rows, events and samples of one cluster. Safe for several threads."""

    def __init__(
        self,
        moment: Callable[[], Moment],
        log: DecisionLog,
        *,
        resource: str,
        usable_memory_share: float,
        cluster: str | None = None,
        give_way: Callable[[], None] = lambda: None,
        history: ClusterHistory | None = None,
        slots: Callable[[], Mapping[int, int] | None] = lambda: None,
    ) -> None:
        """`moment` returns the newest state. `give_way` may wait while verbs are answered. `cluster`: its name, for people.

        `slots` returns the number of pods of each size that fit now; None where that is not measured.
        """
        self._moment, self._log, self._cluster, self._slots = moment, log, cluster, slots
        self.ring = EventRing()
        self.history = history or ClusterHistory()
        self._epoch = secrets.token_hex(4)
        """In each event's id, so that a position in the stream of another process is recognized."""
        self._lock = threading.Lock()
        self._table = RowTable(resource, usable_memory_share, give_way)
        self.pods = PodTable(moment, give_way)
        """The rows of pods, made for the pages that are asked for."""
        self._shown: Moment | None = None
        """The moment of the last refresh; None before the first."""
        self._counts = (0, 0, 0)
        """Pending pods, assumed pods, objects set aside."""
        self._refreshed_seconds = float("-inf")
        self._newest_decision: Decision | None = None
        self._clients, self._is_started = 0, False
        self._wanted, self._stopped = threading.Event(), threading.Event()

    def start(self) -> bool:
        """Return whether this is the first call: then `run` is to be started."""
        with self._lock:
            is_first, self._is_started = not self._is_started, True
        return is_first

    def run(self) -> None:
        """Refresh each second while there are clients, and take samples, until `close`."""
        while not self._stopped.is_set():
            if self._clients or self.history.is_due(time.monotonic()):
                self.refresh()
                self._sample()
            self.pods.forget_if_idle(time.monotonic())
            if self._clients:
                self._stopped.wait(TICK_SECONDS)
            else:
                self._wanted.wait(TICK_SECONDS)
                self._wanted.clear()

    @property
    def stopped(self) -> threading.Event:
        """Set once the process ends."""
        return self._stopped

    def close(self) -> None:
        """End `run` and all streams."""
        self._stopped.set()
        self._wanted.set()
        self.ring.close()

    def enter(self, most: int) -> bool:
        """Count a client. False: there are `most` already, and it is not counted."""
        with self._lock:
            if self._clients >= most:
                return False
            self._clients += 1
        self._wanted.set()
        return True

    def leave(self) -> None:
        """Count a client no more."""
        with self._lock:
            self._clients -= 1

    @property
    def clients(self) -> int:
        """The clients of the stream now."""
        return self._clients

    def rows(self) -> list[NodeRow]:
        """Return the rows of all nodes with GPUs, up to date."""
        self.refresh(FRESH_SECONDS)
        with self._lock:
            return self._table.rows()

    def _sample(self) -> None:
        now = time.monotonic()
        if self.history.is_due(now):
            with self._lock:
                moment, rows, totals, pending = self._shown, self._table.rows(), self._table.totals, self._counts[0]
            if moment is not None and moment.snapshot.synced:
                self.history.add(sample_of(rows, totals, pending, round(time.time(), 3), self._slots()), now)

    def refresh(self, at_most_seconds: float = 0.0) -> None:
        """Compare the newest state with the rows, and append the events; nothing is done if that was done within `at_most_seconds`."""
        with self._lock:
            now = time.monotonic()
            if self._shown is not None and now - self._refreshed_seconds < at_most_seconds:
                return
            self._refreshed_seconds = now
            moment, is_first = self._moment(), self._shown is None
            changed, removed = self._table.update(moment)
            counts = (len(moment.snapshot.pending), len(moment.assumed_pods.by_pod), len(moment.snapshot.set_aside))
            decisions = self._new_decisions()
            if not is_first:  # else no client has a state that could differ
                if changed or removed or counts != self._counts:
                    self._add_nodes_event(moment, changed, removed, counts)
                for decision in decisions:
                    self._add("decision", _encode(decision_event(decision, self.ring.sequence + 1)))
            self._shown, self._counts = moment, counts
        self.ring.wake()

    def _add_nodes_event(self, moment: Moment, changed: list[bytes], removed: list[str], counts: tuple[int, int, int]) -> None:
        sequence = self.ring.sequence + 1
        pending, assumed_pods, set_aside = counts
        event = NodesEvent(
            stream=self._position(sequence),
            sequence=sequence,
            revision=moment.snapshot.revision,
            at_seconds=round(time.time(), 3),
            state_age_seconds=_age(moment),
            changed=msgspec.Raw(b"[" + b",".join(changed) + b"]"),
            removed=tuple(removed),
            totals=self._table.totals,
            pending=pending,
            assumed_pods=assumed_pods,
            set_aside=set_aside,
        )
        encoded = _encode(event)
        if len(encoded) > MOST_FRAME_BYTES:
            self._add("resync", _encode(ResyncEvent("too much has changed at once", self._position(sequence), sequence)))
        else:
            self._add("nodes", encoded)

    def _add(self, kind: str, data: bytes) -> None:
        sequence = self.ring.sequence + 1
        self.ring.add(sequence, b"id: %s\nevent: %s\ndata: %s\n\n" % (self._position(sequence).encode(), kind.encode(), data))

    def _new_decisions(self) -> list[Decision]:
        """Return the decisions since the last call, oldest first."""
        newest: list[Decision] = []
        for decision in islice(self._log.recent(), MOST_DECISIONS):
            if decision is self._newest_decision:
                break
            newest.append(decision)
        if newest:
            self._newest_decision = newest[0]
        return newest[::-1]

    def _position(self, sequence: int) -> str:
        return f"{self._epoch}.{sequence}"

    def cluster(self) -> bytes:
        """Return the encoded answer of GET /v1/cluster."""
        self.refresh(FRESH_SECONDS)
        with self._lock:
            moment, sequence = self._shown, self.ring.sequence
            assert moment is not None  # `refresh` has set it
            snapshot, (pending, assumed_pods, set_aside) = moment.snapshot, self._counts
            answer = EncodedCluster(
                stream=self._position(sequence),
                sequence=sequence,
                revision=snapshot.revision,
                at_seconds=round(time.time(), 3),
                state_age_seconds=_age(moment),
                synced=snapshot.synced,
                missing=snapshot.missing,
                cluster=self._cluster,
                version=own_version(),
                totals=self._table.totals,
                pending=pending,
                assumed_pods=assumed_pods,
                set_aside=set_aside,
                nodes_without_gpus=len(snapshot.views) - len(self._table),
                nodes=msgspec.Raw(self._table.encoded()),
            )
        return _encode(answer)

    def place_of(self, event_id: str | None) -> int | None:
        """Return the number of an event of this process by its id; None for any other text."""
        epoch, _, number = (event_id or "").partition(".")
        is_own = epoch == self._epoch and number.isascii() and number.isdigit() and len(number) < 16
        return int(number) if is_own else None

    def resync_frame(self, why: str) -> tuple[int, bytes]:
        """Return (the newest number, the frame that tells a client to read the whole state)."""
        sequence = self.ring.sequence
        return sequence, _frame("resync", ResyncEvent(why, self._position(sequence), sequence))

    def age_frame(self) -> bytes:
        """Return the frame of event `age`, now."""
        moment = self._moment()
        snapshot = moment.snapshot
        return _frame("age", AgeEvent(self.ring.sequence, snapshot.revision, round(time.time(), 3), _age(moment), snapshot.synced))


def end_frame(why: str) -> bytes:
    """Return the last frame of a stream."""
    return _frame("end", EndEvent(why))


def own_version() -> str:
    """Return the version of this package; `unknown` where it is not installed."""
    try:
        return version("fabricwise")
    except PackageNotFoundError:
        return "unknown"


def _frame(kind: str, data: msgspec.Struct) -> bytes:
    """Return an event without an id as it is sent."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode(data))


def _age(moment: Moment) -> float:
    return round(moment.snapshot.age_seconds(moment.monotonic_seconds), 1)
