"""Leader election among replicas: the holder of a Lease posts events and requeues pods.

The algorithm is that of client-go (tools/leaderelection): a replica that observes, by its own clock, no renewal for the Lease's duration
writes its identity with the resourceVersion that it read; of two such writes the API server refuses one. A holder stops leading after
`LEASE_RENEW_SHARE` of the duration without renewal, before another replica may acquire the Lease.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from extender.kube.api_requests import ApiRequests
from extender.metrics import Metrics
from extender.scheduling.supervision import Supervisor
from extender.settings import LEASE_RENEW_SHARE, Lease
from topology.agent.publisher import ApiError

log = logging.getLogger("fabricwise.lease")

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def own_namespace() -> str:
    """Return the namespace of this process's pod; outside a pod, that of manifests/base."""
    try:
        return _NAMESPACE_FILE.read_text().strip() or "fabricwise-system"
    except OSError:
        return "fabricwise-system"


class LeaderLease:
    """Acquires and renews the Lease in its own thread, from `start` to `stop`."""

    def __init__(self, api: ApiRequests, settings: Lease, identity: str | None = None, supervisor: Supervisor | None = None) -> None:
        self._supervisor = supervisor or Supervisor(Metrics())
        self._api, self._settings = api, settings
        self.identity = identity or f"{socket.gethostname()}_{secrets.token_hex(4)}"
        self._namespace = settings.namespace or own_namespace()
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases"
        self._led_until = 0.0
        self._seen: tuple[str, float] = ("", 0.0)
        """(resourceVersion, monotonic seconds of its first observation). Times in the Lease are not used: clocks of replicas differ."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def is_leading(self) -> bool:
        """Return whether this replica certainly holds the Lease."""
        return time.monotonic() < self._led_until

    def start(self) -> None:
        """Start the thread and return."""
        self._thread = self._supervisor.start("lease", self._run, self._stop)

    def stop(self) -> None:
        """Stop the thread, and release the Lease if this replica holds it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        if self.is_leading():
            self._led_until = 0.0
            try:
                lease = self._api.get(f"{self._path}/{self._settings.name}")
                if lease["spec"].get("holderIdentity") == self.identity:
                    self._write(lease, {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1})
            except (ApiError, KeyError) as error:
                log.info("lease not released: %s", error)

    def _run(self) -> None:
        failing = False
        while not self._stop.is_set():
            try:
                self._attempt()
                failing = False
            except ApiError as error:
                if not failing and error.status != 409:  # once per outage; 409 only means that another replica wrote first
                    log.warning("lease %s/%s: %s", self._namespace, self._settings.name, error)
                failing = True
            self._stop.wait(self._settings.retry_seconds)

    def _attempt(self) -> None:
        """Acquire or renew the Lease, or observe that another replica holds it. Raises ApiError."""
        started = time.monotonic()
        try:
            lease = self._api.get(f"{self._path}/{self._settings.name}")
        except ApiError as error:
            if error.status != 404:
                raise
            metadata = {"name": self._settings.name, "namespace": self._namespace}
            head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
            self._api.create(self._path, {**head, "spec": self._spec(0, None)})
            self._lead(started, None)
            return
        spec, version = lease.get("spec") or {}, str(lease["metadata"]["resourceVersion"])
        holder = spec.get("holderIdentity") or ""
        if version != self._seen[0]:
            self._seen = (version, started)
        duration_seconds = spec.get("leaseDurationSeconds") or self._settings.duration_seconds
        if holder not in ("", self.identity) and started < self._seen[1] + duration_seconds:
            self._led_until = 0.0
            return
        transitions = int(spec.get("leaseTransitions") or 0) + (holder != self.identity)
        self._write(lease, self._spec(transitions, spec.get("acquireTime") if holder == self.identity else None))
        self._lead(started, holder)

    def _lead(self, since: float, previous_holder: str | None) -> None:
        if previous_holder != self.identity:
            log.info("leading: this replica posts events and requeues pods (%s)", self.identity)
        self._led_until = since + self._settings.duration_seconds * LEASE_RENEW_SHARE

    def _spec(self, transitions: int, acquired: str | None) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._settings.duration_seconds),
            "acquireTime": acquired or now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    def _write(self, lease: dict[str, Any], spec: dict[str, Any]) -> None:
        """Replace exactly the version that was read. Raises ApiError; status 409 if another replica wrote first."""
        metadata = {key: lease["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
        self._api.replace(f"{self._path}/{self._settings.name}", {**head, "spec": spec})
