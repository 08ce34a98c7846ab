"""What a pod requests, in the whole units that kube-scheduler counts in: thousandths of CPUs, bytes, pieces.

Source: `k8s.io/component-helpers/resource.PodRequests` (Kubernetes 1.36), and the defaults that the API server sets
(`pkg/apis/core/v1/defaults.go`).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import ceil
from typing import Any

from extender.decision.kube_filters.pod_objects import KubeContainer, KubeContainerStatus, KubePod
from extender.decision.request.kubernetes_objects import Resources
from extender.decision.request.quantity import quantity

Amounts = dict[str, Decimal]


def whole_units(amounts: Mapping[str, Decimal]) -> dict[str, int]:
    """Amounts rounded up: CPU in thousandths, all else in ones."""
    return {name: ceil(amount * 1000) if name == "cpu" else ceil(amount) for name, amount in amounts.items()}


def read_amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    """Quantities as numbers; one that is none is left out, as no API server lets it through."""
    found = Amounts()
    for name, text in (quantities or {}).items():
        try:
            found[name] = quantity(text)
        except ValueError:
            continue
    return found


def is_counted(resource: str) -> bool:
    """Whether kube-scheduler counts a resource: cpu, memory, ephemeral-storage, and what it calls scalar."""
    return (
        resource in ("cpu", "memory", "ephemeral-storage") or "/" in resource or resource.startswith(("hugepages-", "attachable-volumes-"))
    )


def requests_of(pod: KubePod) -> dict[str, int]:
    """Resource -> what the pod holds at its peak, as kube-scheduler counts it."""
    statuses = {}
    if pod.status is not None:
        reported = [*(pod.status.container_statuses or ()), *(pod.status.init_container_statuses or ())]
        statuses = {status.name: status for status in reported}
    infeasible = pod.status is not None and any(
        condition.type == "PodResizePending" and condition.reason == "Infeasible" for condition in pod.status.conditions or ()
    )
    total, sidecars, starting = Amounts(), Amounts(), Amounts()
    for container in pod.spec.containers or ():
        _add(total, _container(container, statuses.get(container.name), infeasible))
    for container in pod.spec.init_containers or ():
        own = _container(container, statuses.get(container.name) if container.is_sidecar else None, infeasible)
        if container.is_sidecar:
            _add(total, own)
            _add(sidecars, own)
            own = sidecars
        else:
            own = dict(own)
            _add(own, sidecars)
        _raise(starting, own)
    _raise(total, starting)
    total |= _of_pod(pod.spec.resources, total)
    _add(total, read_amounts(pod.spec.overhead))
    return {name: amount for name, amount in whole_units(total).items() if is_counted(name)}


def _container(container: KubeContainer, status: KubeContainerStatus | None, infeasible: bool) -> Amounts:
    """A container's requests, which default to its limits; while it is resized, the largest of what is asked for and what it has."""
    told = container.resources
    spec = read_amounts({**(told.limits or {}), **(told.requests or {})}) if told is not None else Amounts()
    if status is None or status.resources is None:
        return spec
    largest = Amounts() if infeasible else dict(spec)
    _raise(largest, read_amounts(status.resources.requests))
    _raise(largest, read_amounts(status.allocated_resources))
    return largest


def _of_pod(told: Resources | None, by_containers: Amounts) -> Amounts:
    """What the pod as a whole requests, which goes before the containers' sum; without a request, a limit asks for that sum or itself."""
    if told is None:
        return Amounts()
    requests, limits = read_amounts(told.requests), read_amounts(told.limits)
    for name, limit in limits.items():
        requests.setdefault(name, by_containers.get(name, limit))
    return {name: amount for name, amount in requests.items() if name in ("cpu", "memory") or name.startswith("hugepages-")}


def _add(total: Amounts, more: Mapping[str, Decimal]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Decimal(0)) + amount


def _raise(largest: Amounts, others: Mapping[str, Decimal]) -> None:
    for name, amount in others.items():
        largest[name] = max(largest.get(name, amount), amount)
