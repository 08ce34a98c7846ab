"""What a pod is held against: nodes, the pods on them, volumes. None stands for a kind that was not read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from extender.decision.kube_filters.pod_objects import KubePod, PersistentVolume, PersistentVolumeClaim
from extender.decision.request.kubernetes_objects import Node

ClaimKey = tuple[str, str]
"""(namespace, name)."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A cluster as kube-scheduler's filters see it."""

    nodes: Mapping[str, Node]
    pods: Mapping[str, tuple[KubePod, ...]] | None = None
    """Node name -> the pods bound to it that have not ended; None = not known."""
    claims: Mapping[ClaimKey, PersistentVolumeClaim] | None = None
    volumes: Mapping[str, PersistentVolume] | None = None

    def pods_on(self, node: str) -> tuple[KubePod, ...]:
        """The pods on a node; none where pods are not known."""
        return self.pods.get(node, ()) if self.pods is not None else ()


@dataclass(frozen=True, slots=True)
class KubeRefusal:
    """One reason of one filter, in kube-scheduler's words, with the numbers behind it."""

    plugin: str
    """The filter's name in kube-scheduler."""
    reason: str
    detail: str
    resolvable: bool
    """Whether evicting pods could cure it: kube-scheduler's Unschedulable, not UnschedulableAndUnresolvable."""


NodeCheck = Callable[[Node], tuple[KubeRefusal, ...]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A filter made ready for one pod, as a PreFilter plugin does."""

    check: NodeCheck | None = None
    """None: nothing of this filter concerns the pod."""
    not_checked: tuple[str, ...] = field(default=())
    """What it would need and does not have."""


NOTHING_TO_CHECK = Prepared()


def labels_of(node: Node) -> dict[str, str]:
    """A node's labels."""
    return node.metadata.labels or {}
