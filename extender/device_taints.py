"""Publishes DeviceTaintRules for devices that telemetry has excluded, and removes them when the devices recover; the leader alone does so.

kube-scheduler and other schedulers then keep claims away from the device too. Off unless `health.write_device_taints` is true.
"""

from __future__ import annotations

import logging
import threading

from extender.decision.device_faults import taint_changes
from extender.live import LiveCluster
from extender.reports import Reports
from extender.supervision import Supervisor

log = logging.getLogger("fabricwise.health")

INTERVAL_SECONDS = 5.0
"""Between two looks at the state."""


class DeviceTaints:
    """A loop that writes until `stop`."""

    def __init__(self, live: LiveCluster, reports: Reports, supervisor: Supervisor) -> None:
        self._live, self._reports, self._supervisor = live, reports, supervisor
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin; returns at once."""
        self._supervisor.start("device-taints", self._run, self._stop)

    def stop(self) -> None:
        """Ask the loop to end."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(INTERVAL_SECONDS)

    def look(self) -> None:
        """Write what is missing and remove what is left over, if this replica leads and the state is whole."""
        snapshot, reports = self._live.snapshot, self._reports
        if reports.taint is None or reports.untaint is None or not reports.is_leading or not snapshot.synced:
            return
        changes = taint_changes(snapshot)
        for device in changes.create:
            if reports.taint(device.manifest()):
                log.info("device %s of pool %s is tainted: telemetry has excluded it", device.device[2], device.device[1])
        for name in changes.delete:
            if reports.untaint(name):
                log.info("DeviceTaintRule %s is removed: its device has recovered or is gone", name)
