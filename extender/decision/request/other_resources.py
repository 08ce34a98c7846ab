"""What a pod asks for beside GPUs: CPU, memory and whatever else is counted. Only as far as evictions need to know it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from extender.decision.request.kubernetes_objects import Container, Pod
from extender.decision.request.quantity import quantity

Requests = tuple[tuple[str, Decimal], ...]


def others_requested(pod: Pod, resource: str) -> Requests:
    """Resource -> amount over the containers that stay, GPUs left out; at most this is freed for certain when the pod leaves.

    What cannot be read counts as nothing.
    """
    return _summed(pod.spec.containers or [], resource)


def others_needed(pod: Pod, resource: str) -> Requests:
    """The same as the pod's need: never less than what kube-scheduler counts, all init containers included."""
    return _summed([*(pod.spec.init_containers or []), *(pod.spec.containers or [])], resource)


def covers(freed: Mapping[str, Decimal], needed: Requests) -> bool:
    """Whether what is freed is enough by itself, whatever else the node has free."""
    return all(freed.get(name, Decimal(0)) >= amount for name, amount in needed)


def _summed(containers: list[Container], resource: str) -> Requests:
    total: dict[str, Decimal] = {}
    for container in containers:
        told = container.resources
        for name, text in ({**(told.limits or {}), **(told.requests or {})} if told else {}).items():
            if name == resource:
                continue
            try:
                total[name] = total.get(name, Decimal(0)) + quantity(text)
            except ValueError:
                continue
    return tuple(sorted(total.items()))
