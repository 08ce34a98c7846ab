"""One replica among several: who holds a Lease of the API server does what must be done once.

The way of client-go's leader election: whoever sees that nobody has renewed for the Lease's duration, by his own clock, writes his own name
under the version he saw; of two the API server refuses one. A holder counts himself out before others may count him out.
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

from extender.kube.api_requests import KubeObjects
from extender.metrics import Metrics
from extender.scheduling.supervision import Supervisor
from extender.settings import LEASE_RENEW_SHARE, Lease
from topology.agent.publisher import ApiError

log = logging.getLogger("fabricwise.lease")

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def own_namespace() -> str:
    """The namespace this pod runs in; that of the base where it is no pod."""
    try:
        return _NAMESPACE_FILE.read_text().strip() or "fabricwise-system"
    except OSError:
        return "fabricwise-system"


class KubeLease:
    """Takes and renews the Lease in a thread of its own until `stop`."""

    def __init__(self, api: KubeObjects, settings: Lease, identity: str | None = None, supervisor: Supervisor | None = None) -> None:
        self._supervisor = supervisor or Supervisor(Metrics())
        self._api, self._settings = api, settings
        self.identity = identity or f"{socket.gethostname()}_{secrets.token_hex(4)}"
        self._namespace = settings.namespace or own_namespace()
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases"
        self._led_until = 0.0
        self._seen: tuple[str, float] = ("", 0.0)
        """Version of the Lease last seen changed, and when: another's clock is never compared with ours."""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def is_leading(self) -> bool:
        """Whether this replica holds the Lease for certain."""
        return time.monotonic() < self._led_until

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread = self._supervisor.start("lease", self._run, self._stop)

    def stop(self) -> None:
        """End, and hand the Lease on where it is held."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        if self.is_leading():
            self._led_until = 0.0
            try:
                found = self._api.get(f"{self._path}/{self._settings.name}")
                if found["spec"].get("holderIdentity") == self.identity:
                    self._write(found, {**found["spec"], "holderIdentity": "", "leaseDurationSeconds": 1})
            except (ApiError, KeyError) as error:
                log.info("lease not handed on: %s", error)

    def _run(self) -> None:
        failing = False
        while not self._stop.is_set():
            try:
                self._attempt()
                failing = False
            except ApiError as error:
                if not failing and error.status != 409:  # once per outage; another was first is no trouble
                    log.warning("lease %s/%s: %s", self._namespace, self._settings.name, error)
                failing = True
            self._stop.wait(self._settings.retry_seconds)

    def _attempt(self) -> None:
        """Take the Lease, renew it, or see that another has it. Raises ApiError."""
        started = time.monotonic()
        try:
            found = self._api.get(f"{self._path}/{self._settings.name}")
        except ApiError as error:
            if error.status != 404:
                raise
            metadata = {"name": self._settings.name, "namespace": self._namespace}
            head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
            self._api.create(self._path, {**head, "spec": self._spec(0, None)})
            self._lead(started, None)
            return
        spec, version = found.get("spec") or {}, str(found["metadata"]["resourceVersion"])
        holder = spec.get("holderIdentity") or ""
        if version != self._seen[0]:
            self._seen = (version, started)
        lasts = spec.get("leaseDurationSeconds") or self._settings.duration_seconds
        if holder not in ("", self.identity) and started < self._seen[1] + lasts:
            self._led_until = 0.0
            return
        changes = int(spec.get("leaseTransitions") or 0) + (holder != self.identity)
        self._write(found, self._spec(changes, spec.get("acquireTime") if holder == self.identity else None))
        self._lead(started, holder)

    def _lead(self, since: float, before: str | None) -> None:
        if before != self.identity:
            log.info("leading: events and waking pods are done here (%s)", self.identity)
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

    def _write(self, found: dict[str, Any], spec: dict[str, Any]) -> None:
        """Over the very version that was read. Raises ApiError, 409 where another was first."""
        metadata = {key: found["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
        self._api.replace(f"{self._path}/{self._settings.name}", {**head, "spec": spec})
