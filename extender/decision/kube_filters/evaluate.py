"""FILTERS: the table of filters, and a pod's refusals by every filter on every node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
"""In the order of kube-scheduler's default plugins. kube-scheduler's event names the first plugin that refuses."""


@dataclass(frozen=True, slots=True)
class KubeAnswer:
    """The result of kube-scheduler's filters for one pod."""

    refusals: Mapping[str, tuple[KubeRefusal, ...]]
    """Node name -> every refusal of the node; a node that passes all filters is absent."""
    not_checked: tuple[str, ...]
    """Checks of kube-scheduler, and additions of admission to the pod, that this result does not include."""


UNASKED = KubeAnswer({}, ("kube-scheduler's own filters",))
"""The result where the filters were not evaluated."""


def evaluate(pod: KubePod, around: Surroundings, names: Collection[str] | None = None) -> KubeAnswer:
    """Return the refusals of the pod by every filter on every node of `around`, and what was not checked.

    `names`: the nodes to check, among all nodes of `around`; None: all. Filters that compare nodes still read all of them.
    """
    prepared_filters = [prepare(pod, around) for prepare in FILTERS]
    checks = [prepared.check for prepared in prepared_filters if prepared.check is not None]
    refusals = {}
    for name in around.nodes if names is None else names:
        node = around.nodes.get(name)
        if node is None:
            continue
        node_refusals = tuple(refusal for check in checks for refusal in check(node))
        if node_refusals:
            refusals[name] = node_refusals
    not_checked = [text for prepared in prepared_filters for text in prepared.not_checked]
    return KubeAnswer(refusals, (*not_checked, *_never_checked(pod)))


def _never_checked(pod: KubePod) -> tuple[str, ...]:
    """Return the checks that concern the pod and need objects that are never read."""
    spec = pod.spec
    not_checked = []
    if spec.scheduling_gates:
        not_checked.append("SchedulingGates: the pod has scheduling gates and waits until they are removed")
    if spec.resource_claims:
        not_checked.append("DynamicResources: the pod's resourceClaims")
    if pod.claims or any(volume.ephemeral for volume in spec.volumes or ()):
        not_checked.append("VolumeRestrictions, NodeVolumeLimits, VolumeZone: limits and zones of the pod's volumes")
    if spec.runtime_class_name and not spec.overhead:
        not_checked.append(f"overhead, nodeSelector and tolerations of RuntimeClass {spec.runtime_class_name}")
    if pod.metadata.creation_timestamp is None:
        not_checked.append("what admission may add to a pod that does not exist yet: tolerations, default requests (LimitRange), quotas")
    return tuple(not_checked)
