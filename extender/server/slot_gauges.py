"""Keeps the gauges of slots: counts them in a child process from time to time, so that the count takes no time from the verbs."""

from __future__ import annotations

import logging
import threading
import time

import msgspec

from extender.decision.pace import Pace
from extender.decision.slots.slot_answer import SlotRow, most_common
from extender.decision.slots.slot_question import SlotQuestion
from extender.decision.slots.slot_summary import slots_of
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.supervision import Supervisor
from extender.server.from_settings import policy
from extender.settings import Settings
from extender.web.long_work import LongWork, NotDone

COUNT_SECONDS = 20.0
"""Time for one count."""

log = logging.getLogger("fabricwise.slots")


class SlotGauges:
    """The loop that counts slots, unless the settings turn it off."""

    def __init__(self, store: ClusterStore, metrics: Metrics, settings: Settings, supervisor: Supervisor, long_work: LongWork) -> None:
        self._store, self._metrics, self._settings, self._supervisor = store, metrics, settings, supervisor
        self._long_work = long_work
        self._stop = threading.Event()
        self._counted: tuple[int, int] | None = None
        """Revision of the state, and number of assumed pods, of the last count."""

    def start(self) -> None:
        """Begin to count."""
        if self._settings.slot_gauges.enabled:
            self._supervisor.start("slot-gauges", self._run, self._stop)

    def stop(self) -> None:
        """End the loop."""
        self._stop.set()

    def _run(self) -> None:
        while not self._store.snapshot.synced:
            if self._stop.wait(1.0):
                return
        while not self._stop.is_set():
            self.count()
            self._stop.wait(self._settings.slot_gauges.interval_seconds)

    def count(self) -> None:
        """Count the slots of the present state and set the gauges, if the state has changed. Where that fails there are no gauges."""
        moment = self._store.moment(time.monotonic())
        extra_pods = moment.assumed_pods.extra_pods(moment.snapshot, moment.monotonic_seconds, but="")
        now = (moment.snapshot.revision, sum(map(len, extra_pods.values())))
        if now == self._counted:
            return

        def rows(pace: Pace) -> bytes:
            resource, most = self._settings.resource, self._settings.slot_gauges.most_products
            answer = slots_of(moment.snapshot, SlotQuestion(), resource, policy=policy(self._settings), extra_pods=extra_pods, pace=pace)
            return msgspec.json.encode(most_common(answer.rows, most) if answer.complete else ())

        found = self._long_work.answer(rows, COUNT_SECONDS)
        if isinstance(found, NotDone):
            log.warning("the gauges of slots are not set: %s", found.why)
            self._metrics.slots.set(())
            return
        self._metrics.slots.set(msgspec.json.decode(found, type=tuple[SlotRow, ...]))
        self._counted = now
