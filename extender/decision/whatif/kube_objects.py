"""Pods as kube-scheduler's filters read them: those of a complete reading, or as much as the snapshot has of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from extender.decision.kube_filters.pod_objects import KubePod, PersistentVolume, PersistentVolumeClaim
from extender.decision.kube_filters.surroundings import ClaimKey
from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.state.snapshot import Snapshot

RUNNING_PODS_UNKNOWN = (
    "CPU and memory of running pods without GPUs, and ports, labels and affinity of all running pods: the extender does not keep them "
    "(the command fabricwise what-if reads them from the API server)"
)
PENDING_PODS_UNKNOWN = "node selectors, tolerations, affinity and volumes of pending pods"


@dataclass(frozen=True, slots=True)
class KubeObjects:
    """The objects of a cluster beside its nodes."""

    bound: Mapping[str, tuple[KubePod, ...]] | None
    """Node -> pods on it that have not ended; None = not known."""
    pending: Mapping[str, KubePod] = field(default_factory=dict)
    """Pod key -> a pod that is not bound."""
    claims: Mapping[ClaimKey, PersistentVolumeClaim] | None = None
    volumes: Mapping[str, PersistentVolume] | None = None
    not_known: tuple[str, ...] = ()
    """What is missing, for people."""

    def without(self, key: str, namespace: str, name: str) -> KubeObjects:
        """Return the objects without a pod."""
        pending = {other: pod for other, pod in self.pending.items() if other != key}
        if self.bound is None:
            return replace(self, pending=pending)
        bound = {
            node: kept
            for node, pods in self.bound.items()
            if (kept := tuple(pod for pod in pods if (pod.namespace, pod.metadata.name) != (namespace, name)))
        }
        return replace(self, bound=bound, pending=pending)

    def with_pending(self, pods: Iterable[KubePod]) -> KubeObjects:
        """Return the objects with further pending pods, which have uids."""
        return replace(self, pending={**self.pending, **{key_of(pod): pod for pod in pods}})


def key_of(pod: KubePod) -> str:
    """Return what `Pod.key` is for the same pod."""
    return pod.metadata.uid or f"{pod.namespace}/{pod.metadata.name}"


def kube_pod_of(pod: Pod) -> KubePod:
    """Return a pod of the snapshot as filters read it: only requests and names are known of it."""
    return msgspec.convert(msgspec.to_builtins(pod), KubePod, strict=False)


def known_objects(snapshot: Snapshot, resource: str, pending: Iterable[bytes] = (), unread: str | None = None) -> KubeObjects:
    """Return what a running extender knows of the objects: of running pods the requests of those with GPUs alone.

    `resource` is the one that counts GPUs. `pending`: manifests of pending pods, each as JSON; an invalid one is left out. `unread`: why
    some of them could not be read.
    """
    bound = {node: tuple(_bound(snapshot.pods[key], resource) for key in sorted(keys)) for node, keys in snapshot.by_node.items() if keys}
    not_known = (RUNNING_PODS_UNKNOWN, *(() if unread is None else (f"{PENDING_PODS_UNKNOWN}: {unread}",)))
    return KubeObjects(bound, {key_of(pod): pod for pod in _decoded(pending)}, not_known=not_known)


def _decoded(manifests: Iterable[bytes]) -> Iterator[KubePod]:
    decode = msgspec.json.Decoder(KubePod, strict=False).decode
    for manifest in manifests:
        try:
            yield decode(manifest)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue


def _bound(pod: BoundPod, resource: str) -> KubePod:
    requests = {name: str(amount) for name, amount in pod.others} | ({resource: str(pod.demand.total)} if pod.demand.total else {})
    manifest = {
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.key},
        "spec": {"nodeName": pod.node, "containers": [{"name": "all", "resources": {"requests": requests}}]},
    }
    return msgspec.convert(manifest, KubePod, strict=False)
