"""`--cluster kube|simulated|FILE` -> a source that feeds a LiveCluster."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import kubernetes.client
import msgspec

from extender.adapters.dump_file import read_dump
from extender.adapters.kube_binding import PodBinding
from extender.adapters.kube_client import api_client
from extender.adapters.kube_events import PodEvents
from extender.adapters.kube_lease import KubeLease
from extender.adapters.kube_objects import KubeObjects
from extender.adapters.kube_waking import PodWaking
from extender.adapters.kube_watch import KubeWatch
from extender.adapters.simulated import simulated
from extender.adapters.telemetry_feed import TelemetryFeed
from extender.errors import ClusterSourceError, SettingsError
from extender.live import LiveCluster
from extender.service import Service, build_service, node_defaults
from extender.settings import Settings


@dataclass(frozen=True, slots=True)
class Source:
    """A running source; `watch` is None where state does not move."""

    watch: KubeWatch | None = None
    feed: TelemetryFeed | None = None
    lease: KubeLease | None = None

    def stop(self) -> None:
        """End whatever runs."""
        if self.lease is not None:
            self.lease.stop()
        if self.feed is not None:
            self.feed.stop()
        if self.watch is not None:
            self.watch.stop()


def _wire(service: Service, client: kubernetes.client.ApiClient) -> KubeLease | None:
    """What the service may write to the API server: events, one annotation on pending pods, bindings; the first two under a Lease."""
    reports, settings = service.reports, service.settings
    events, binding = PodEvents(KubeObjects(client)), PodBinding(KubeObjects(client, settings.binding.timeout_seconds))
    reports.floor_missed, reports.placed = events.floor_missed, events.placed
    reports.wake = PodWaking(KubeObjects(client)).wake
    reports.bind, reports.pod = binding.bind, binding.pod
    if not settings.lease.enabled:
        return None
    lease = KubeLease(KubeObjects(client, settings.lease.duration_seconds / 3), settings.lease, supervisor=service.supervisor)
    reports.leading = lease.is_leading
    return lease


def connect(cluster: str, service: Service, kubeconfig: str | None = None, telemetry: bool = True) -> Source:
    """Start feeding the service; without `telemetry` where a single question would not wait for it.

    Raises ClusterSourceError; for `kube` only for a missing configuration.
    """
    if cluster == "kube":
        client = api_client(kubeconfig)
        lease = _wire(service, client)
        watch = KubeWatch(client, service.live, service.settings.kube, service.metrics, service.supervisor)
        watch.start()
        if lease is not None and telemetry:
            lease.start()
        return Source(watch, measured(service, "dcgm-exporter") if telemetry else None, lease)
    if cluster == "simulated":
        for listing in simulated(service.settings.resource).listing():
            service.live.apply((listing,))
        return Source(None, measured(service, "off") if telemetry else None)
    path = Path(cluster)
    if not path.exists():
        raise ClusterSourceError(f"--cluster {cluster!r} is neither `kube` nor `simulated` nor a file")
    service.live.apply(read_dump(path))
    return Source(None, measured(service, "off") if telemetry else None)


def measured(service: Service, usual: str) -> TelemetryFeed | None:
    """Telemetry as the settings have it; `usual` is what `auto` means here. Raises SettingsError."""
    said = service.settings.telemetry
    source = usual if said.source == "auto" else said.source
    if source == "off":
        return None
    if source == "prometheus" and not said.prometheus.url:
        raise SettingsError("settings: telemetry.source is prometheus but telemetry.prometheus.url is empty")
    feed = TelemetryFeed(service.live, msgspec.structs.replace(said, source=source), service.metrics, service.supervisor)
    service.reports.telemetry = feed.status
    feed.start()
    return feed


def wait_synced(service: Service, timeout_seconds: float) -> None:
    """Wait until all kinds are listed. Raises ClusterSourceError naming what is missing."""
    deadline = time.monotonic() + timeout_seconds
    while not service.live.snapshot.synced:
        if time.monotonic() > deadline:
            missing = ", ".join(service.live.snapshot.missing)
            raise ClusterSourceError(f"the API server did not list {missing} within {timeout_seconds:g} s")
        time.sleep(0.05)


def loaded(cluster: str, settings: Settings, kubeconfig: str | None) -> Service:
    """A service that has listed the cluster once, for one question. Raises ClusterSourceError."""
    once = LiveCluster(settings.resource, warm_tables=False, defaults=node_defaults(settings))  # compute only its answer
    service = build_service(settings, once)
    source = connect(cluster, service, kubeconfig, telemetry=False)
    try:
        wait_synced(service, timeout_seconds=30)
    finally:
        source.stop()
    return service
