"""Groups of pods that restart as a whole when one of their pods is evicted, recognised by the labels that their controllers set.

How a group reacts is stated in its controller's own object, which is not read: it would need a right for each of these kinds. So a group
counts as one that restarts, and `unless` says in which case it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from extender.decision.request.kubernetes_objects import Meta


@dataclass(frozen=True, slots=True)
class GroupKind:
    """A kind of groups."""

    kind: str
    """Kind of the controller's object."""
    label: str
    """Pods of one namespace with the same value of this label are one group."""
    unless: str | None
    """In which case the group does not restart; None: it always does."""
    named_by: tuple[str, ...] = ()
    """Labels whose values, joined by dashes, name the group for people; where one is missing, the value of `label` does."""
    only_with: tuple[str, str] | None = None
    """(label, value) of the pods whose eviction restarts the group; None: of every pod."""


GROUP_KINDS = (
    # kubernetes-sigs/lws api/leaderworkerset/v1/leaderworkerset_types.go (labels; RecreateGroupOnPodRestart is the default restartPolicy)
    # and pkg/controllers/pod_controller.go (handleRestartPolicy deletes the leader, which owns its workers, when a pod is deleted).
    GroupKind(
        "LeaderWorkerSet",
        "leaderworkerset.sigs.k8s.io/group-key",
        "its restartPolicy is None",
        ("leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/group-index"),
    ),
    # kubernetes-sigs/jobset api/jobset/v1alpha2/jobset_types.go (JobSetNameKey; a failed Job restarts all Jobs by default).
    GroupKind("JobSet", "jobset.sigs.k8s.io/jobset-name", "the backoffLimit of the pod's Job covers the lost pod"),
    # kubeflow/training-operator pkg/apis/kubeflow.org/v1/common_types.go (JobNameLabel); kubeflow/mpi-operator uses the same label.
    GroupKind("training job", "training.kubeflow.org/job-name", "its training is elastic"),
    # ray-project/kuberay ray-operator/controllers/ray/utils/constant.go (labels). Without fault tolerance of the GCS, workers end with
    # their head. A replica of several hosts that has lost a pod is deleted as a whole (raycluster_controller.go).
    GroupKind("RayCluster", "ray.io/cluster", "fault tolerance of its GCS is on", only_with=("ray.io/node-type", "head")),
    GroupKind("Ray worker replica", "ray.io/worker-group-replica-name", None),
)
"""In the order in which they are looked for: a pod is in the first one whose label it has."""


@dataclass(frozen=True, slots=True)
class RestartGroup:
    """One group."""

    kind: GroupKind
    namespace: str
    value: str
    """Value of the kind's label."""

    @property
    def selector(self) -> str:
        """The label selector of its pods."""
        return f"{self.kind.label}={self.value}"


def memberships(meta: Meta) -> list[RestartGroup]:
    """Return all groups of whose pods a pod is one, also those that its own eviction does not restart."""
    labels = meta.labels or {}
    namespace = meta.namespace or "default"
    return [RestartGroup(kind, namespace, value) for kind in GROUP_KINDS if (value := labels.get(kind.label))]


def restart_group_of(meta: Meta) -> RestartGroup | None:
    """Return the group that the eviction of a pod restarts; None where it restarts none."""
    return next((group for group in memberships(meta) if _restarts(group.kind, meta.labels or {})), None)


def _restarts(kind: GroupKind, labels: Mapping[str, str]) -> bool:
    return kind.only_with is None or labels.get(kind.only_with[0]) == kind.only_with[1]


def group_name(group: RestartGroup, meta: Meta) -> str:
    """Return namespace/name of the group of this pod, for people."""
    parts = [(meta.labels or {}).get(label) for label in group.kind.named_by]
    named = "-".join(part for part in parts if part) if parts and all(parts) else group.value
    return f"{group.namespace}/{named}"
