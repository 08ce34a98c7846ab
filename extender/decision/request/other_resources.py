"""What a pod requests besides GPUs: CPU, memory and every other counted resource, as far as preemption needs it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from extender.decision.request.kubernetes_objects import Container, Pod
from extender.decision.request.quantity import quantity

Requests = tuple[tuple[str, Decimal], ...]
"""(resource, amount), sorted by resource."""


def others_requested(pod: Pod, resource: str) -> Requests:
    """Return (resource, amount) over the containers that do not finish, without GPUs: what is certainly freed when the pod leaves.

    A malformed amount counts as 0.
    """
    return _summed(pod.spec.containers or [], resource)


def others_needed(pod: Pod, resource: str) -> Requests:
    """Return (resource, amount) over all containers, without GPUs: never less than what kube-scheduler counts as the pod's request."""
    return _summed([*(pod.spec.init_containers or []), *(pod.spec.containers or [])], resource)


def covers(freed: Mapping[str, Decimal], needed: Requests) -> bool:
    """Whether the freed amounts cover the needed ones by themselves, without anything that is already free on the node."""
    return all(freed.get(name, Decimal(0)) >= amount for name, amount in needed)


def _summed(containers: list[Container], resource: str) -> Requests:
    total: dict[str, Decimal] = {}
    for container in containers:
        resources = container.resources
        for name, text in ({**(resources.limits or {}), **(resources.requests or {})} if resources else {}).items():
            if name == resource:
                continue
            try:
                total[name] = total.get(name, Decimal(0)) + quantity(text)
            except ValueError:
                continue
    return tuple(sorted(total.items()))
