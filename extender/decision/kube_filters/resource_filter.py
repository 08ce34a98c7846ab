"""NodeResourcesFit: the node has capacity for one more pod and for all its requests."""

from __future__ import annotations

from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.pod_requests import read_amounts, requests_of, whole_units
from extender.decision.kube_filters.surroundings import KubeRefusal, Prepared, Surroundings
from extender.decision.request.kubernetes_objects import Node

NOT_KNOWN = "NodeResourcesFit: what the pods on a node request is not known; only the node's allocatable amounts were compared"


def node_resources_fit(pod: KubePod, around: Surroundings) -> Prepared:
    """The requests of the pod and of the pods on the node are at most what the node can allocate."""
    wanted = {name: amount for name, amount in requests_of(pod).items() if amount > 0}

    def check(node: Node) -> tuple[KubeRefusal, ...]:
        node_pods = around.pods_on(node.metadata.name)
        allocatable, requested = allocatable_of(node), requested_by(node_pods)
        refusals = []
        most_pods = allocatable.get("pods")  # every kubelet states it; a Node written by hand may not
        if most_pods is not None and len(node_pods) + 1 > most_pods:
            refusals.append(_refusal("Too many pods", f"{len(node_pods)} of {most_pods} pods are there"))
        for name, amount in wanted.items():
            total = allocatable.get(name, 0)
            if not total and name in around.class_resources:
                continue  # the DynamicResources plugin decides: kubernetes 1.36 `noderesources/fit.go` (shouldDelegateResourceToDRA)
            free = total - requested.get(name, 0)
            if amount > free:
                detail = f"requested {_amount_text(name, amount)}, free {_amount_text(name, free)} of {_amount_text(name, total)}"
                refusals.append(_refusal(f"Insufficient {name}", detail, amount <= total))
        return tuple(refusals)

    return Prepared(check, (NOT_KNOWN,) if around.pods is None else ())


def _refusal(reason: str, detail: str, resolvable: bool = True) -> KubeRefusal:
    return KubeRefusal("NodeResourcesFit", reason, detail, resolvable)


def allocatable_of(node: Node) -> dict[str, int]:
    """Return what the node can allocate, in whole units; it defaults to the capacity, as in the API server."""
    if node.status is None:
        return {}
    return whole_units(read_amounts(node.status.allocatable if node.status.allocatable is not None else node.status.capacity))


def requested_by(pods: tuple[KubePod, ...]) -> dict[str, int]:
    """Return the sum of the pods' requests, in whole units; each pod is rounded up separately."""
    total: dict[str, int] = {}
    for pod in pods:
        for name, amount in requests_of(pod).items():
            total[name] = total.get(name, 0) + amount
    return total


def _amount_text(name: str, amount: int) -> str:
    if name == "cpu":
        return f"{amount / 1000:g}"
    if name in ("memory", "ephemeral-storage") or name.startswith("hugepages-"):
        return f"{amount / 2**30:.4g} GiB"
    return str(amount)
