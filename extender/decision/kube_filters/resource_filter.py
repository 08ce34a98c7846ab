"""NodeResourcesFit: the node has room for one more pod and for everything that it requests."""

from __future__ import annotations

from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.kube_filters.pod_requests import read_amounts, requests_of, whole_units
from extender.decision.kube_filters.surroundings import KubeRefusal, Prepared, Surroundings
from extender.decision.request.kubernetes_objects import Node

NOT_KNOWN = "NodeResourcesFit: what the pods on a node request is not known; only the node's allocatable amounts were compared"


def node_resources_fit(pod: KubePod, around: Surroundings) -> Prepared:
    """Requests of the pods on the node and of this one, held against what the node can allocate."""
    wanted = {name: amount for name, amount in requests_of(pod).items() if amount > 0}

    def check(node: Node) -> tuple[KubeRefusal, ...]:
        there = around.pods_on(node.metadata.name)
        offered, taken = allocatable_of(node), requested_by(there)
        refusals = []
        most = offered.get("pods")  # every kubelet states it; a Node written by hand may not
        if most is not None and len(there) + 1 > most:
            refusals.append(_refusal("Too many pods", f"{len(there)} of {most} pods are there"))
        for name, amount in wanted.items():
            free = offered.get(name, 0) - taken.get(name, 0)
            if amount > free:
                detail = f"requested {_said(name, amount)}, free {_said(name, free)} of {_said(name, offered.get(name, 0))}"
                refusals.append(_refusal(f"Insufficient {name}", detail, amount <= offered.get(name, 0)))
        return tuple(refusals)

    return Prepared(check, (NOT_KNOWN,) if around.pods is None else ())


def _refusal(reason: str, detail: str, resolvable: bool = True) -> KubeRefusal:
    return KubeRefusal("NodeResourcesFit", reason, detail, resolvable)


def allocatable_of(node: Node) -> dict[str, int]:
    """What the node can allocate, in whole units; it defaults to the capacity, as in the API server."""
    if node.status is None:
        return {}
    return whole_units(read_amounts(node.status.allocatable if node.status.allocatable is not None else node.status.capacity))


def requested_by(pods: tuple[KubePod, ...]) -> dict[str, int]:
    """The sum of what pods request, in whole units; each pod is rounded up by itself."""
    total: dict[str, int] = {}
    for pod in pods:
        for name, amount in requests_of(pod).items():
            total[name] = total.get(name, 0) + amount
    return total


def _said(name: str, amount: int) -> str:
    if name == "cpu":
        return f"{amount / 1000:g}"
    if name in ("memory", "ephemeral-storage") or name.startswith("hugepages-"):
        return f"{amount / 2**30:.4g} GiB"
    return str(amount)
