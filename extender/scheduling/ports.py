"""What the extender needs of the cluster that it decides for, as Protocols. Sources of cluster state implement them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from extender.decision.disruption.restart_groups import RestartGroup
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.report.placement_record import PlacementRecord
from extender.decision.report.prediction_outcomes import Known
from extender.decision.request.kubernetes_objects import Pod
from extender.errors import FabricwiseError

NO_API_SERVER = (
    "fabricwise watches no API server, so it cannot bind: start it with --cluster kube, or remove bindVerb in kube-scheduler's settings"
)

NO_MANIFESTS = (
    "fabricwise watches no API server, so owners and disruption budgets of pods are not known: "
    "fabricwise why and fabricwise defrag read them from a dump with --cluster FILE"
)


class ClusterWriter(Protocol):
    """Writes to the cluster, and reads single pods from it. Safe to be called from several threads."""

    @property
    def is_read_only(self) -> bool:
        """Whether nothing is written, so that no work is done to prepare a write."""
        ...

    def post_placement(self, pod: BoundPod, record: PlacementRecord) -> None:
        """Post an event on what was predicted for a pod that is now bound. Called under the state's lock: returns at once."""
        ...

    def post_floor_missed(self, known: Known, floor_gbps: float) -> None:
        """Post an event on a pod that got less bandwidth than it demands. Called under the state's lock: returns at once."""
        ...

    def requeue(self, namespace: str, name: str, uid: str) -> bool:
        """Make kube-scheduler try a pending pod again. Return whether that succeeded. May block."""
        ...

    def bind(self, namespace: str, name: str, uid: str, node: str, annotations: dict[str, str]) -> str:
        """Bind a pod to a node. Return the empty string once it is bound there, else the error. May block."""
        ...

    def get_pod(self, namespace: str, name: str) -> Pod | str:
        """Return the pod as the API server has it, or the error. May block."""
        ...

    def create_taint_rule(self, manifest: dict[str, Any]) -> bool:
        """Create a DeviceTaintRule, given without apiVersion. Return whether it exists now. May block."""
        ...

    def delete_taint_rule(self, name: str) -> bool:
        """Delete a DeviceTaintRule. Return whether it is gone now. May block."""
        ...


class Leadership(Protocol):
    """Says which of several replicas does what must be done once."""

    def is_leading(self) -> bool:
        """Whether this replica posts events and requeues pods now."""
        ...


class ReviewError(FabricwiseError):
    """The API server does not say whether a token may pass."""


class TokenUser(msgspec.Struct, frozen=True):
    """The user of a bearer token, as the API server knows it."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)


class TokenReviews(Protocol):
    """Says what the bearer tokens of others are worth. Safe to be called from several threads."""

    def authenticate(self, token: str) -> TokenUser | None:
        """Return the user of a token; None where it is not accepted. Raises ReviewError. May block."""
        ...

    def may(self, user: TokenUser, verb: str, path: str) -> bool:
        """Return whether the user may do `verb` (an HTTP method in lower case) on a URL path. Raises ReviewError. May block."""
        ...


@dataclass(frozen=True, slots=True)
class DisruptionManifests:
    """What advice on evictions needs beside the state, as parsed JSON."""

    pods: tuple[Any, ...] = ()
    """The pods that were asked for, and those of the groups that restart with them."""
    budgets: tuple[Any, ...] | None = None
    """All PodDisruptionBudgets; None: they could not be read."""
    unread: tuple[str, ...] = ()
    """What could not be read, with the consequence, as sentences."""
    unlisted_groups: frozenset[RestartGroup] = frozenset()
    """Groups of which not all pods could be read."""


class NamedPod(Protocol):
    """A pod by its name."""

    @property
    def namespace(self) -> str:
        """Its namespace."""
        ...

    @property
    def name(self) -> str:
        """Its name."""
        ...


class DisruptionReader(Protocol):
    """Reads what advice on evictions needs beside the state. Safe to be called from several threads."""

    def read(self, pods: Sequence[NamedPod]) -> DisruptionManifests:
        """Return the manifests of these pods and of their groups, and all disruption budgets. May block."""
        ...


class NoDisruptions:
    """The reader for dumps and simulations, whose manifests are not kept."""

    def read(self, pods: Sequence[NamedPod]) -> DisruptionManifests:
        """Return that nothing can be read."""
        return DisruptionManifests(unread=(NO_MANIFESTS,) if pods else ())


@dataclass(frozen=True, slots=True)
class PendingManifests:
    """The pods that wait for a node, each as JSON."""

    pods: tuple[bytes, ...] = ()
    unread: str | None = None
    """Why some or all could not be read, as a sentence; None: all were read."""


class PendingReader(Protocol):
    """Reads what kube-scheduler's own filters read of waiting pods. Safe to be called from several threads."""

    def read(self) -> PendingManifests:
        """Return the manifests of the pods that wait for a node. May block."""
        ...


class NoPending:
    """The reader for dumps and simulations, whose manifests are not kept."""

    def read(self) -> PendingManifests:
        """Return that nothing can be read."""
        return PendingManifests(unread="fabricwise watches no API server: fabricwise what-if --cluster FILE reads whole pods from a dump")


class NoWriter:
    """A writer for dumps and simulations: it writes nothing, and an attempt to bind is an error."""

    is_read_only = True

    def post_placement(self, pod: BoundPod, record: PlacementRecord) -> None:
        """Post nothing."""

    def post_floor_missed(self, known: Known, floor_gbps: float) -> None:
        """Post nothing."""

    def requeue(self, namespace: str, name: str, uid: str) -> bool:
        """Return False: no pod is requeued."""
        return False

    def bind(self, namespace: str, name: str, uid: str, node: str, annotations: dict[str, str]) -> str:
        """Return the error that no API server is watched."""
        return NO_API_SERVER

    def get_pod(self, namespace: str, name: str) -> Pod | str:
        """Return the error that no API server is watched."""
        return NO_API_SERVER

    def create_taint_rule(self, manifest: dict[str, Any]) -> bool:
        """Return False: no rule is written."""
        return False

    def delete_taint_rule(self, name: str) -> bool:
        """Return False: no rule is written."""
        return False


class AlwaysLeading:
    """The leadership of a replica that runs alone."""

    def is_leading(self) -> bool:
        """Return True."""
        return True


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster that a service decides for."""

    name: str | None = None
    """For people: the context of the kubeconfig, or the file of the dump. None: not known."""
    writer: ClusterWriter = field(default_factory=NoWriter)
    leadership: Leadership = field(default_factory=AlwaysLeading)
    reviews: TokenReviews | None = None
    """None: tokens cannot be checked."""
    disruptions: DisruptionReader = field(default_factory=NoDisruptions)
    pending: PendingReader = field(default_factory=NoPending)


TelemetryStatus = Callable[[], Mapping[str, Any]]
"""Returns which targets are scraped, and the result of the last scrape of each."""


def telemetry_off() -> Mapping[str, Any]:
    """The status where no telemetry is scraped."""
    return {"source": "off", "targets": 0, "looks": []}
