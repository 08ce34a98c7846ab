"""Publishes DeviceTaintRules for devices that telemetry has excluded, and removes them when the devices recover; the leader alone does so.

kube-scheduler and other schedulers then keep claims away from the device too. Off unless `health.write_device_taints` is true.
"""

from __future__ import annotations

import logging
import threading

from extender.decision.report.device_faults import taint_changes
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.ports import Cluster
from extender.scheduling.supervision import Supervisor

log = logging.getLogger("fabricwise.health")

INTERVAL_SECONDS = 5.0
"""Time between two comparisons of the rules with the state."""


class DeviceTaints:
    """A loop that writes until `stop`."""

    def __init__(self, store: ClusterStore, cluster: Cluster, supervisor: Supervisor) -> None:
        self._store, self._cluster, self._supervisor = store, cluster, supervisor
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the loop and return."""
        self._supervisor.start("device-taints", self._run, self._stop)

    def stop(self) -> None:
        """Ask the loop to end."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.reconcile()
            self._stop.wait(INTERVAL_SECONDS)

    def reconcile(self) -> None:
        """Create the missing rules and delete those left over, if this replica leads and every kind is listed."""
        snapshot, writer = self._store.snapshot, self._cluster.writer
        if writer.is_read_only or not snapshot.synced or not self._cluster.leadership.is_leading():
            return
        changes = taint_changes(snapshot)
        for device in changes.create:
            if writer.create_taint_rule(device.manifest()):
                log.info("device %s of pool %s is tainted: telemetry has excluded it", device.device[2], device.device[1])
        for name in changes.delete:
            if writer.delete_taint_rule(name):
                log.info("DeviceTaintRule %s is removed: its device has recovered or is gone", name)
