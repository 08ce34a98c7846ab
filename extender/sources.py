"""`--cluster kube|simulated|FILE` -> a source that feeds a running server: it watches, and on an API server it leads and writes.

Commands that answer one question use `reading` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from extender.adapters.dump_file import read_dump
from extender.adapters.kube_binding import PodBinding
from extender.adapters.kube_client import Client, api_client
from extender.adapters.kube_device_taints import DeviceTaintRules
from extender.adapters.kube_events import PodEvents
from extender.adapters.kube_lease import KubeLease
from extender.adapters.kube_objects import KubeObjects
from extender.adapters.kube_waking import PodWaking
from extender.adapters.kube_watch import KubeWatch
from extender.adapters.simulated import simulated
from extender.adapters.telemetry_feed import TelemetryFeed
from extender.device_taints import DeviceTaints
from extender.errors import ClusterSourceError, SettingsError
from extender.service import Service


@dataclass(frozen=True, slots=True)
class Source:
    """A running source; `watch` is None where state does not move."""

    watch: KubeWatch | None = None
    feed: TelemetryFeed | None = None
    lease: KubeLease | None = None
    taints: DeviceTaints | None = None

    def stop(self) -> None:
        """End whatever runs."""
        if self.taints is not None:
            self.taints.stop()
        if self.lease is not None:
            self.lease.stop()
        if self.feed is not None:
            self.feed.stop()
        if self.watch is not None:
            self.watch.stop()


def _wire(service: Service, client: Client) -> KubeLease | None:
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


def _device_taints(service: Service, client: Client) -> DeviceTaints | None:
    """The loop that writes DeviceTaintRules, started; None where the settings do not ask for it."""
    if not service.settings.health.write_device_taints:
        return None
    rules = DeviceTaintRules(KubeObjects(client))
    service.reports.taint, service.reports.untaint = rules.create, rules.delete
    taints = DeviceTaints(service.live, service.reports, service.supervisor)
    taints.start()
    return taints


def connect(cluster: str, service: Service, kubeconfig: str | None = None) -> Source:
    """Start feeding the service. Raises ClusterSourceError; for `kube` only for a missing configuration."""
    if cluster == "kube":
        client = api_client(kubeconfig)
        lease = _wire(service, client)
        watch = KubeWatch(client, service.live, service.settings.kube, service.metrics, service.supervisor)
        watch.start()
        if lease is not None:
            lease.start()
        taints = _device_taints(service, client)
        return Source(watch, measured(service, "dcgm-exporter"), lease, taints)
    if cluster == "simulated":
        for listing in simulated(service.settings.resource).listing():
            service.live.apply((listing,))
        return Source(None, measured(service, "off"))
    path = Path(cluster)
    if not path.exists():
        raise ClusterSourceError(f"--cluster {cluster!r} is neither `kube` nor `simulated` nor a file: give one of them")
    service.live.apply(read_dump(path).listed)
    return Source(None, measured(service, "off"))


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
