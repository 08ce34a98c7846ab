"""FILTERS: the table, and a pod held against it node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from extender.decision.kube_filters.node_filters import node_affinity, node_name, node_ports, node_unschedulable, taint_toleration
from extender.decision.kube_filters.pod_affinity_filter import inter_pod_affinity
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.resource_filter import node_resources_fit
from extender.decision.kube_filters.spread_filter import pod_topology_spread
from extender.decision.kube_filters.surroundings import KubeRefusal, Prepared, Surroundings
from extender.decision.kube_filters.volume_filter import volume_binding

FILTERS: tuple[Callable[[KubePod, Surroundings], Prepared], ...] = (
    node_unschedulable,
    node_name,
    taint_toleration,
    node_affinity,
    node_ports,
    node_resources_fit,
    volume_binding,
    pod_topology_spread,
    inter_pod_affinity,
)
"""In the order of kube-scheduler's default plugins: the first that refuses is what its event names."""


@dataclass(frozen=True, slots=True)
class KubeAnswer:
    """What kube-scheduler's filters say of a pod."""

    refusals: Mapping[str, tuple[KubeRefusal, ...]]
    """Node name -> every reason against it; a node that passes all filters is absent."""
    not_checked: tuple[str, ...]
    """What kube-scheduler checks, or what admission adds to the pod first, and this answer leaves out."""


UNASKED = KubeAnswer({}, ("kube-scheduler's own filters",))
"""Where nobody asks what they say."""


def evaluate(pod: KubePod, around: Surroundings) -> KubeAnswer:
    """The pod held against every filter on every node."""
    prepared = [prepare(pod, around) for prepare in FILTERS]
    checks = [one.check for one in prepared if one.check is not None]
    refusals = {}
    for name, node in around.nodes.items():
        found = tuple(refusal for check in checks for refusal in check(node))
        if found:
            refusals[name] = found
    return KubeAnswer(refusals, (*(words for one in prepared for words in one.not_checked), *_never_checked(pod)))


def _never_checked(pod: KubePod) -> tuple[str, ...]:
    """What no object at hand tells, as far as it concerns the pod."""
    spec = pod.spec
    words = []
    if spec.scheduling_gates:
        words.append("SchedulingGates: the pod has scheduling gates and waits until they are removed")
    if spec.resource_claims:
        words.append("DynamicResources: the pod's resourceClaims")
    if pod.claims or any(volume.ephemeral for volume in spec.volumes or ()):
        words.append("VolumeRestrictions, NodeVolumeLimits, VolumeZone: limits and zones of the pod's volumes")
    if spec.runtime_class_name and not spec.overhead:
        words.append(f"overhead, nodeSelector and tolerations of RuntimeClass {spec.runtime_class_name}")
    if pod.metadata.creation_timestamp is None:
        words.append("what admission may add to a pod that does not exist yet: tolerations, default requests (LimitRange), quotas")
    return tuple(words)
