"""The objects that filters read: nodes, the pods on them, volumes. None means that a kind was not read."""

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
    class_resources: frozenset[str] = frozenset()
    """Extended resources that DeviceClasses stand for."""

    def pods_on(self, node: str) -> tuple[KubePod, ...]:
        """Return the pods on a node; () if pods were not read."""
        return self.pods.get(node, ()) if self.pods is not None else ()


@dataclass(frozen=True, slots=True)
class KubeRefusal:
    """One refusal of one filter: the reason in kube-scheduler's words, and the numbers behind it."""

    plugin: str
    """The filter's name in kube-scheduler."""
    reason: str
    detail: str
    resolvable: bool
    """Whether evicting pods could resolve it: kube-scheduler's Unschedulable, not UnschedulableAndUnresolvable."""


NodeCheck = Callable[[Node], tuple[KubeRefusal, ...]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A filter prepared for one pod, as a PreFilter plugin does."""

    check: NodeCheck | None = None
    """None: the filter does not apply to the pod."""
    not_checked: tuple[str, ...] = field(default=())
    """Checks that need objects which were not read, as text."""


NOTHING_TO_CHECK = Prepared()


def labels_of(node: Node) -> dict[str, str]:
    """A node's labels."""
    return node.metadata.labels or {}
