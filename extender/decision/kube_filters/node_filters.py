"""Filters that need only the node: NodeUnschedulable, NodeName, TaintToleration, NodeAffinity; and NodePorts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from extender.decision.kube_filters.label_matching import node_selector_matches
from extender.decision.kube_filters.pod_objects import ContainerPort, KubePod, Toleration
from extender.decision.kube_filters.surroundings import NOTHING_TO_CHECK, KubeRefusal, Prepared, Surroundings, labels_of
from extender.decision.request.kubernetes_objects import Node, Taint

UNSCHEDULABLE_TAINT = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
READY_TAINTS = {"False": "node.kubernetes.io/not-ready", "Unknown": "node.kubernetes.io/unreachable"}
"""Status of condition Ready -> the taint that the node controller sets (TaintNodesByCondition)."""
ADMITTED_TOLERATIONS = tuple(Toleration(key, "Exists", "", "NoExecute") for key in READY_TAINTS.values())
"""Tolerations that the API server adds to every pod (DefaultTolerationSeconds)."""


def node_unschedulable(pod: KubePod, _around: Surroundings) -> Prepared:
    """A cordoned node accepts only pods that tolerate the taint of cordoned nodes."""
    if tolerates(pod.spec.tolerations or (), UNSCHEDULABLE_TAINT):
        return NOTHING_TO_CHECK
    refusal = KubeRefusal("NodeUnschedulable", "node(s) were unschedulable", "the node is cordoned (spec.unschedulable)", False)
    return Prepared(lambda node: (refusal,) if node.spec is not None and node.spec.unschedulable else ())


def node_name(pod: KubePod, _around: Surroundings) -> Prepared:
    """A pod with spec.nodeName fits that node only."""
    wanted = pod.spec.node_name
    if not wanted:
        return NOTHING_TO_CHECK
    refusal = KubeRefusal("NodeName", "node(s) didn't match the requested node name", f"spec.nodeName is {wanted}", False)
    return Prepared(lambda node: () if node.metadata.name == wanted else (refusal,))


def taint_toleration(pod: KubePod, _around: Surroundings) -> Prepared:
    """The pod tolerates every taint with effect NoSchedule or NoExecute. The reason names the taint, which Kubernetes 1.36 leaves out."""
    tolerations = (*(pod.spec.tolerations or ()), *ADMITTED_TOLERATIONS)

    def check(node: Node) -> tuple[KubeRefusal, ...]:
        refused = [taint for taint in taints_of(node) if keeps_away(taint) and not tolerates(tolerations, taint)]
        if not refused:
            return ()
        first, others = refused[0], ", ".join(f"{taint.key}={taint.value}:{taint.effect}" for taint in refused[1:])
        reason = f"node(s) had untolerated taint {{{first.key}: {first.value}}}"
        detail = f"of effect {first.effect}{f', and {others}' if others else ''}"
        return (KubeRefusal("TaintToleration", reason, detail, False),)

    return Prepared(check)


def taints_of(node: Node) -> list[Taint]:
    """Return the node's taints, and for a node that is not ready the taint that its controller adds within seconds."""
    taints = list((node.spec.taints if node.spec else None) or ())
    for condition in (node.status.conditions if node.status else None) or ():
        key = READY_TAINTS.get(condition.status) if condition.type == "Ready" else None
        if key is not None and not any(taint.key == key for taint in taints):
            taints.append(Taint(key=key, effect="NoSchedule"))
    return taints


def keeps_away(taint: Taint) -> bool:
    """Return whether a taint's effect is NoSchedule or NoExecute, not only a preference."""
    return taint.effect in ("NoSchedule", "NoExecute")


def tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """Return whether any toleration tolerates the taint."""
    return any(_tolerates(toleration, taint) for toleration in tolerations)


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator in ("", "Equal"):
        return toleration.value == taint.value
    return toleration.operator == "Exists"


def node_affinity(pod: KubePod, _around: Surroundings) -> Prepared:
    """The node has every label of nodeSelector and matches a term of the required node affinity."""
    if not required_of(pod):
        return NOTHING_TO_CHECK

    def check(node: Node) -> tuple[KubeRefusal, ...]:
        if matches_required(pod, node):
            return ()
        detail = f"the pod requires {' and '.join(required_of(pod))}"
        return (KubeRefusal("NodeAffinity", "node(s) didn't match Pod's node affinity/selector", detail, False),)

    return Prepared(check)


def required_of(pod: KubePod) -> list[str]:
    """Return the pod's requirements on a node's labels and name, as text."""
    selector = [f"{key}={value}" for key, value in (pod.spec.node_selector or {}).items()]
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    if required is None:
        return selector
    terms = []
    for term in required.node_selector_terms or ():
        parts = [*(term.match_expressions or ()), *(term.match_fields or ())]
        terms.append(" and ".join(f"{part.key} {part.operator} {','.join(part.values or ())}".strip() for part in parts) or "nothing")
    return [*selector, f"({' or '.join(terms) or 'no term'})"]


def matches_required(pod: KubePod, node: Node) -> bool:
    """Return whether a node meets the pod's nodeSelector and required node affinity."""
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (pod.spec.node_selector or {}).items()):
        return False
    affinity = pod.spec.affinity.node_affinity if pod.spec.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    return required is None or node_selector_matches(required, node.metadata.name, labels)


def node_ports(pod: KubePod, around: Surroundings) -> Prepared:
    """No pod on the node uses a host port that this pod requests."""
    wanted = host_ports(pod)
    if not wanted:
        return NOTHING_TO_CHECK
    if around.pods is None:
        return Prepared(None, ("NodePorts: the host ports of the pods on the nodes are not known",))

    def check(node: Node) -> tuple[KubeRefusal, ...]:
        for other in around.pods_on(node.metadata.name):
            taken = [port for port in wanted for used in host_ports(other) if _conflict(port, used)]
            if taken:
                detail = f"{other.namespace}/{other.metadata.name} uses port {taken[0].host_port}/{taken[0].protocol}"
                return (KubeRefusal("NodePorts", "node(s) didn't have free ports for the requested pod ports", detail, True),)
        return ()

    return Prepared(check)


def host_ports(pod: KubePod) -> Sequence[ContainerPort]:
    """Return the host ports of containers and sidecars; with hostNetwork, a container's port is a host port."""
    containers = [*(pod.spec.containers or ()), *(container for container in pod.spec.init_containers or () if container.is_sidecar)]
    ports = [port for container in containers for port in container.ports or ()]
    if pod.spec.host_network:
        ports = [ContainerPort(port.container_port, port.host_port or port.container_port, port.host_ip, port.protocol) for port in ports]
    return [port for port in ports if port.host_port > 0]


def _conflict(wanted: ContainerPort, used: ContainerPort) -> bool:
    if wanted.host_port != used.host_port or (wanted.protocol or "TCP") != (used.protocol or "TCP"):
        return False
    addresses = {wanted.host_ip or "0.0.0.0", used.host_ip or "0.0.0.0"}  # noqa: S104 - means all addresses, as in HostPortInfo
    return len(addresses) == 1 or "0.0.0.0" in addresses  # noqa: S104
