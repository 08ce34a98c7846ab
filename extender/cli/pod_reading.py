"""Reads from a cluster what a question about a pod needs: the pod or the pods of a workload, their events, their volumes.

What may not be read is named with the missing verb and resource, and with the consequence for the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from extender.cli.reading import Reading
from extender.decision.kube_filters.label_matching import label_selector_matches
from extender.decision.kube_filters.pod_objects import KubePod, LabelSelector
from extender.decision.kube_filters.surroundings import Surroundings
from extender.errors import ClusterSourceError
from extender.pod_templates import BY_KIND, BY_NAME, Workload
from extender.sources.collected_disruptions import CollectedDisruptions
from extender.sources.collected_objects import CollectedObjects, ObjectName
from topology.agent.publisher import ApiError

Get = Callable[[str, tuple[tuple[str, str], ...]], dict[str, Any]]
"""Returns an object or a list of the API server. Raises ApiError."""

MOST_EVENTS = 500
"""Events of one pod that are read."""
MOST_ALIKE = 50
"""Pods of a workload that are compared with the one that the answer is about."""

LABELS = {
    "LeaderWorkerSet": "leaderworkerset.sigs.k8s.io/name",
    "JobSet": "jobset.sigs.k8s.io/jobset-name",
    "Job": "batch.kubernetes.io/job-name",
    "RayCluster": "ray.io/cluster",
    "InferenceService": "serving.kserve.io/inferenceservice",
    "PyTorchJob": "training.kubeflow.org/job-name",
    "MPIJob": "training.kubeflow.org/job-name",
    "TFJob": "training.kubeflow.org/job-name",
}
"""Kind of workload -> the label by which its controller marks its pods with its name."""
_OWNED_BY_A_REPLICA_SET = re.compile(r"-[a-z0-9]{1,10}$")


def object_name(what: str, namespace: str) -> ObjectName:
    """Parse `POD`, `NAMESPACE/POD` or `KIND/NAME`. Raises ClusterSourceError."""
    left, slash, right = what.partition("/")
    if not left or (slash and not right) or "/" in right:
        raise ClusterSourceError(f"{what[:120]!r} is neither POD nor NAMESPACE/POD nor KIND/NAME, such as deployment/llm")
    if not slash:
        return ObjectName("Pod", namespace, left)
    workload = BY_NAME.get(left.lower())
    return ObjectName(workload.kind, namespace, right) if workload is not None else ObjectName("Pod", left, right)


@dataclass(slots=True)
class CollectedPods:
    """Called with (kind, manifest) of every object that is read: keeps what kube-scheduler's filters read, and pods of one namespace."""

    wanted: ObjectName
    collected: CollectedObjects
    disruptions: CollectedDisruptions | None = None
    """Whole pods and disruption budgets, for a cluster that cannot be asked again; None: they are not kept."""
    manifests: list[dict[str, Any]] = field(default_factory=list)
    """The pod that is wanted, or all pods of the workload's namespace."""

    def __call__(self, kind: str, manifest: Any) -> None:
        """Keep an object."""
        self.collected(kind, manifest)
        if self.disruptions is not None:
            self.disruptions(kind, manifest)
        if kind != "Pod" or not isinstance(manifest, dict):
            return
        name, namespace = _names(manifest)
        if namespace == self.wanted.namespace and (self.wanted.kind != "Pod" or name == self.wanted.name):
            self.manifests.append({**manifest, "kind": "Pod"})


@dataclass(frozen=True, slots=True)
class PodReader:
    """Reads the objects that one question needs beside the cluster."""

    reading: Reading
    collected: CollectedPods
    get: Get | None
    """None: the cluster is a file or a simulation."""
    unread: dict[str, str] = field(default_factory=dict)
    """Part -> which verb and resource are missing, and the consequence."""

    def pods(self) -> list[dict[str, Any]]:
        """Return the manifests that the question is about: those that wait first, then the newest first. Raises ClusterSourceError."""
        wanted = self.collected.wanted
        if wanted.kind == "Pod":
            return [self._pod(wanted)]
        pods = self._pods_of(BY_KIND[wanted.kind], wanted)
        if not pods:
            raise ClusterSourceError(
                f"{self.reading.cluster}: {wanted} has no pods that have not ended: its events may say why (a quota?): "
                f"kubectl describe {wanted.kind.lower()} {wanted.name}; or give its manifest with -f"
            )
        newest = sorted(pods, key=lambda pod: str((pod.get("metadata") or {}).get("creationTimestamp") or ""), reverse=True)
        return sorted(newest, key=lambda pod: bool((pod.get("spec") or {}).get("nodeName")))

    def _pod(self, wanted: ObjectName) -> dict[str, Any]:
        if self.collected.manifests:
            return self.collected.manifests[0]
        if self.get is not None:  # one that has ended is not listed, and an account may read single pods only
            path = f"/api/v1/namespaces/{wanted.namespace}/pods/{wanted.name}"
            try:
                return {**self.get(path, ()), "kind": "Pod"}
            except ApiError as error:
                if error.status != 404:
                    remedy = f"see kubectl auth can-i get pods -n {wanted.namespace}; or give the manifest with -f"
                    raise ClusterSourceError(f"pod {wanted.namespace}/{wanted.name} cannot be read: {error}; {remedy}") from error
        raise ClusterSourceError(f"{self.reading.cluster} has no {wanted}; name its namespace with -n, or NAMESPACE/POD")

    def _pods_of(self, workload: Workload, wanted: ObjectName) -> list[dict[str, Any]]:
        if self.get is not None and "pods" in self.reading.unread and not self.collected.manifests:
            self.collected.manifests.extend(self._pods_of_namespace(wanted.namespace))
        selector = self._selector(workload, wanted)
        is_of = _selected_by(selector) if selector is not None else _owned_by(wanted)
        return [pod for pod in self.collected.manifests if is_of(pod)]

    def _pods_of_namespace(self, namespace: str) -> Iterable[dict[str, Any]]:
        assert self.get is not None
        try:
            listed = self.get(f"/api/v1/namespaces/{namespace}/pods", (("limit", "500"),))
        except ApiError as error:
            remedy = f"see kubectl auth can-i list pods -n {namespace}; or name one pod"
            raise ClusterSourceError(f"pods of {namespace} cannot be listed: {error}; {remedy}") from error
        return [{**pod, "kind": "Pod"} for pod in listed.get("items") or () if isinstance(pod, dict)]

    def _selector(self, workload: Workload, wanted: ObjectName) -> LabelSelector | None:
        """Return the selector of a workload's pods; None where it has none or cannot be read."""
        if workload.kind in LABELS:
            return LabelSelector(match_labels={LABELS[workload.kind]: wanted.name})
        if self.get is None:
            return None
        try:
            manifest = self.get(f"{workload.path}/namespaces/{wanted.namespace}/{workload.plural}/{wanted.name}", ())
        except ApiError as error:
            if error.status == 404:
                raise ClusterSourceError(f"{self.reading.cluster} has no {wanted}; name its namespace with -n") from error
            self.unread[workload.plural] = f"{error}. Its pods are found by their owners' names"
            return None
        stated = (manifest.get("spec") or {}).get("selector")
        if not isinstance(stated, dict) or not stated:
            return None
        labels = stated if not {"matchLabels", "matchExpressions"} & stated.keys() else None
        try:
            return msgspec.convert({"matchLabels": labels} if labels is not None else stated, LabelSelector, strict=False)
        except msgspec.ValidationError:
            return None

    def events(self, pod: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """Return the events of a pod; None where they cannot be read."""
        metadata = pod.get("metadata") or {}
        uid, namespace = metadata.get("uid"), metadata.get("namespace") or "default"
        if self.get is None or not uid:
            return None
        query = (("fieldSelector", f"involvedObject.uid={uid}"), ("limit", str(MOST_EVENTS)))
        try:
            items = self.get(f"/api/v1/namespaces/{namespace}/events", query).get("items")
        except ApiError as error:
            remedy = f"see kubectl auth can-i list events -n {namespace}"
            self.unread["events"] = f"events cannot be listed: {error}; {remedy}. When kube-scheduler tried last is not known"
            return None
        return [item for item in items or () if isinstance(item, dict)]

    def surroundings(self, pod: KubePod) -> Surroundings:
        """Return what kube-scheduler's filters read of the cluster, without the pod itself."""
        own, collected, snapshot = pod.metadata.uid, self.collected.collected, self.reading.snapshot
        pods = {
            node: tuple(other for other in bound if not (own and other.metadata.uid == own) and not _is_same(other, pod))
            for node, bound in collected.pods.items()
        }
        are_pods_known = "pods" not in self.reading.unread or bool(pods)
        are_volumes_known = self._read_volumes(pod)
        claims, volumes = (collected.claims, collected.volumes) if are_volumes_known else (None, None)
        return Surroundings(snapshot.nodes, pods if are_pods_known else None, claims, volumes, snapshot.dra.mapped)

    def _read_volumes(self, pod: KubePod) -> bool:
        """Read the pod's claims and their volumes; whether they are known."""
        collected = self.collected.collected
        if not pod.claims:
            return True
        if self.get is None:
            return "PersistentVolumeClaim" in collected.seen_kinds
        try:
            for name in pod.claims:
                claim = self._optional(f"/api/v1/namespaces/{pod.namespace}/persistentvolumeclaims/{name}")
                volume_name = ((claim or {}).get("spec") or {}).get("volumeName")
                volume = self._optional(f"/api/v1/persistentvolumes/{volume_name}") if volume_name else None
                for kind, manifest in (("PersistentVolumeClaim", claim), ("PersistentVolume", volume)):
                    if manifest is not None:
                        collected(kind, manifest)
        except ApiError as error:
            remedy = "see kubectl auth can-i get persistentvolumeclaims and persistentvolumes"
            self.unread["volumes"] = f"the pod's volumes cannot be read: {error}; {remedy}. Where they can be attached is not checked"
            return False
        return True

    def _optional(self, path: str) -> dict[str, Any] | None:
        assert self.get is not None
        try:
            return self.get(path, ())
        except ApiError as error:
            if error.status == 404:
                return None
            raise


def _is_same(pod: KubePod, other: KubePod) -> bool:
    return (pod.namespace, pod.metadata.name) == (other.namespace, other.metadata.name)


def _names(manifest: Mapping[str, Any]) -> tuple[str, str]:
    metadata = manifest.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return str(metadata.get("name") or ""), str(metadata.get("namespace") or "default")


def _selected_by(selector: LabelSelector) -> Callable[[Mapping[str, Any]], bool]:
    def is_selected(pod: Mapping[str, Any]) -> bool:
        labels = (pod.get("metadata") or {}).get("labels")
        return isinstance(labels, dict) and label_selector_matches(selector, {str(key): str(value) for key, value in labels.items()})

    return is_selected


def _owned_by(wanted: ObjectName) -> Callable[[Mapping[str, Any]], bool]:
    """Return a function that says whether a pod's owner is the workload, or a ReplicaSet or Job that has its name as a prefix."""

    def is_owned(pod: Mapping[str, Any]) -> bool:
        owners = (pod.get("metadata") or {}).get("ownerReferences")
        for owner in owners if isinstance(owners, list) else ():
            kind, name = (str(owner.get("kind")), str(owner.get("name"))) if isinstance(owner, dict) else ("", "")
            if (kind, name) == (wanted.kind, wanted.name):
                return True
            if kind in ("ReplicaSet", "Job") and _OWNED_BY_A_REPLICA_SET.sub("", name) == wanted.name:
                return True
        return False

    return is_owned
