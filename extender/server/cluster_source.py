"""`--cluster kube|simulated|FILE` -> a service for that cluster, and the source that feeds it.

The source's client is made first, because the service is constructed with what writes to the cluster. Commands that answer one question use
`extender.cli.reading` instead, which cannot write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from extender.decision.state.changes import Change
from extender.errors import ClusterSourceError
from extender.kube.api_client import api_client, cluster_name
from extender.kube.api_requests import ApiRequests
from extender.kube.disruptions import KubeDisruptions
from extender.kube.lease import LeaderLease
from extender.kube.pending_pods import KubePendingPods
from extender.kube.token_reviews import KubeTokenReviews
from extender.kube.watching.watch import ClusterWatch
from extender.kube.writing.cluster_writer import cluster_writer
from extender.metrics import Metrics
from extender.scheduling.device_taints import DeviceTaints
from extender.scheduling.ports import AlwaysLeading, Cluster
from extender.scheduling.supervision import Supervisor
from extender.server.service import Service, TelemetryDefault, build_service
from extender.server.slot_gauges import SlotGauges
from extender.settings import Settings
from extender.sources.dump import STANDARD_INPUT, read_dump
from extender.sources.simulated import simulated

REVIEW_SECONDS = 5.0
"""Time for one question to the API server about a token."""
DISRUPTION_REQUEST_SECONDS = 3.0
"""Time for one request about owners and disruption budgets."""
PENDING_REQUEST_SECONDS = 3.0
"""Time for one page of the pods that wait for a node."""


class ClusterSource(Protocol):
    """Where the state of a cluster comes from."""

    @property
    def cluster(self) -> Cluster:
        """What the service is constructed with."""
        ...

    @property
    def telemetry_default(self) -> TelemetryDefault:
        """What `telemetry.source: auto` means here."""
        ...

    def start(self, service: Service) -> None:
        """Begin to feed the service; returns once that runs."""
        ...

    def stop(self) -> None:
        """End what `start` began."""
        ...


class KubeSource:
    """An API server: it is watched, and written to. Events, requeues and taint rules are written by the replica that holds the Lease."""

    telemetry_default: TelemetryDefault = "dcgm-exporter"

    def __init__(self, settings: Settings, kubeconfig: str | None, context: str | None, supervisor: Supervisor) -> None:
        """Raises ClusterSourceError where the configuration of the client is missing or invalid."""
        self._client = api_client(kubeconfig, context)
        self._lease: LeaderLease | None = None
        self._watch: ClusterWatch | None = None
        self._taints: DeviceTaints | None = None
        if settings.lease.enabled:
            api = ApiRequests(self._client, settings.lease.duration_seconds / 3)
            self._lease = LeaderLease(api, settings.lease, supervisor=supervisor)
        self.cluster = Cluster(
            name=cluster_name(self._client, kubeconfig, context),
            writer=cluster_writer(self._client, settings.binding.timeout_seconds),
            leadership=self._lease or AlwaysLeading(),
            reviews=KubeTokenReviews(ApiRequests(self._client, REVIEW_SECONDS), settings.server.debug_auth.audiences),
            disruptions=KubeDisruptions(ApiRequests(self._client, DISRUPTION_REQUEST_SECONDS)),
            pending=KubePendingPods(ApiRequests(self._client, PENDING_REQUEST_SECONDS)),
        )

    def start(self, service: Service) -> None:
        """Begin to watch, and to compete for the Lease."""
        self._watch = ClusterWatch(self._client, service.store, service.settings.kube, service.metrics, service.supervisor)
        self._watch.start()
        if self._lease is not None:
            self._lease.start()
        if service.settings.health.write_device_taints:
            self._taints = DeviceTaints(service.store, self.cluster, service.supervisor)
            self._taints.start()

    def stop(self) -> None:
        """Release the Lease, and end the watch."""
        if self._taints is not None:
            self._taints.stop()
        if self._lease is not None:
            self._lease.stop()
        if self._watch is not None:
            self._watch.stop()


@dataclass(frozen=True, slots=True)
class FixedSource:
    """State that does not change: a dump, or the simulated cluster."""

    cluster: Cluster
    read: Callable[[], Iterable[Change]]
    """Raises ClusterSourceError."""
    telemetry_default: TelemetryDefault = "off"

    def start(self, service: Service) -> None:
        """Apply the state."""
        service.store.apply(self.read())

    def stop(self) -> None:
        """Nothing runs."""


def cluster_source(cluster: str, settings: Settings, kubeconfig: str | None, context: str | None, supervisor: Supervisor) -> ClusterSource:
    """Return the source of a `--cluster` option. Raises ClusterSourceError where it is neither a file nor a known word."""
    if cluster == "kube":
        return KubeSource(settings, kubeconfig, context, supervisor)
    if cluster == "simulated":
        return FixedSource(Cluster("the simulated cluster"), simulated(settings.resource).listing)
    path = Path(cluster)
    if cluster != STANDARD_INPUT and not path.exists():
        raise ClusterSourceError(f"--cluster {cluster!r} is neither `kube` nor `simulated` nor a file; make one with: fabricwise dump FILE")
    name = "the dump on standard input" if cluster == STANDARD_INPUT else f"the dump {path}"
    return FixedSource(Cluster(name), lambda: read_dump(path).listed)


@dataclass(frozen=True, slots=True)
class FedService:
    """A service with the source that feeds it."""

    service: Service
    source: ClusterSource
    slot_gauges: SlotGauges

    def start(self) -> None:
        """Begin to feed the service with state and telemetry. Raises ClusterSourceError where a dump cannot be read."""
        if self.service.decision_file is not None:
            self.service.decision_file.start(self.service.supervisor)
        self.source.start(self.service)
        if self.service.telemetry is not None:
            self.service.telemetry.start()
        self.slot_gauges.start()

    def stop(self) -> None:
        """End what `start` began; the Lease is released first."""
        self.source.stop()
        self.slot_gauges.stop()
        if self.service.telemetry is not None:
            self.service.telemetry.stop()
        if self.service.decision_file is not None:
            self.service.decision_file.stop()


def open_service(cluster: str, settings: Settings, kubeconfig: str | None = None, context: str | None = None) -> FedService:
    """Return the service for a `--cluster` option, not yet fed. Raises ClusterSourceError and SettingsError."""
    metrics = Metrics()
    supervisor = Supervisor(metrics)
    source = cluster_source(cluster, settings, kubeconfig, context, supervisor)
    service = build_service(settings, source.cluster, metrics=metrics, supervisor=supervisor, telemetry_default=source.telemetry_default)
    return FedService(service, source, SlotGauges(service.store, metrics, settings, supervisor, service.long_work))
