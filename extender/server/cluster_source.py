"""`--cluster kube|simulated|FILE` -> a source that feeds a running server: it watches, and on an API server it leads and writes.

Commands that answer one question use `reading` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from extender.collectors.feed import TelemetryFeed
from extender.errors import ClusterSourceError, SettingsError
from extender.kube.api_client import Client, api_client, cluster_name
from extender.kube.api_requests import KubeObjects
from extender.kube.events import PodEvents
from extender.kube.lease import KubeLease
from extender.kube.pod_binding import PodBinding
from extender.kube.requeue_annotation import RequeueAnnotation
from extender.kube.watch import KubeWatch
from extender.server.service import Service
from extender.sources.dump import STANDARD_INPUT, read_dump
from extender.sources.simulated import simulated


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


def _wire(service: Service, client: Client) -> KubeLease | None:
    """What the service may write to the API server: events, one annotation on pending pods, bindings; the first two under a Lease."""
    writer, settings = service.writer, service.settings
    events, binding = PodEvents(KubeObjects(client)), PodBinding(KubeObjects(client, settings.binding.timeout_seconds))
    writer.floor_missed, writer.placed = events.floor_missed, events.placed
    writer.requeue = RequeueAnnotation(KubeObjects(client)).requeue
    writer.bind, writer.pod = binding.bind, binding.pod
    if not settings.lease.enabled:
        return None
    lease = KubeLease(KubeObjects(client, settings.lease.duration_seconds / 3), settings.lease, supervisor=service.supervisor)
    writer.leading = lease.is_leading
    return lease


def connect(cluster: str, service: Service, kubeconfig: str | None = None) -> Source:
    """Start feeding the service. Raises ClusterSourceError; for `kube` only for a missing configuration."""
    if cluster == "kube":
        client = api_client(kubeconfig)
        service.writer.cluster = cluster_name(client, kubeconfig)
        lease = _wire(service, client)
        watch = KubeWatch(client, service.store, service.settings.kube, service.metrics, service.supervisor)
        watch.start()
        if lease is not None:
            lease.start()
        return Source(watch, measured(service, "dcgm-exporter"), lease)
    if cluster == "simulated":
        service.writer.cluster = "the simulated cluster"
        for listing in simulated(service.settings.resource).listing():
            service.store.apply((listing,))
        return Source(None, measured(service, "off"))
    path = Path(cluster)
    if cluster != STANDARD_INPUT and not path.exists():
        raise ClusterSourceError(f"--cluster {cluster!r} is neither `kube` nor `simulated` nor a file; make one with: fabricwise dump FILE")
    service.writer.cluster = "the dump on standard input" if cluster == STANDARD_INPUT else f"the dump {path}"
    service.store.apply(read_dump(path).listed)
    return Source(None, measured(service, "off"))


def measured(service: Service, usual: str) -> TelemetryFeed | None:
    """Telemetry as the settings have it; `usual` is what `auto` means here. Raises SettingsError."""
    said = service.settings.telemetry
    source = usual if said.source == "auto" else said.source
    if source == "off":
        return None
    if source == "prometheus" and not said.prometheus.url:
        raise SettingsError("settings: telemetry.source is prometheus: set telemetry.prometheus.url")
    feed = TelemetryFeed(service.store, msgspec.structs.replace(said, source=source), service.metrics, service.supervisor)
    service.writer.telemetry = feed.status
    feed.start()
    return feed
