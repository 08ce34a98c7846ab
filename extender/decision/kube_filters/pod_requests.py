"""A pod's requests, in the whole units that kube-scheduler counts: thousandths of CPUs, bytes, pieces.

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
    """Return the amounts rounded up: CPU in thousandths, all others in whole units."""
    return {name: ceil(amount * 1000) if name == "cpu" else ceil(amount) for name, amount in amounts.items()}


def read_amounts(quantities: Mapping[str, Any] | None) -> Amounts:
    """Return resource -> amount. An invalid quantity is left out: an API server accepts none."""
    amounts = Amounts()
    for name, text in (quantities or {}).items():
        try:
            amounts[name] = quantity(text)
        except ValueError:
            continue
    return amounts


def is_counted(resource: str) -> bool:
    """Return whether kube-scheduler counts a resource: cpu, memory, ephemeral-storage and its scalar resources."""
    return (
        resource in ("cpu", "memory", "ephemeral-storage") or "/" in resource or resource.startswith(("hugepages-", "attachable-volumes-"))
    )


def requests_of(pod: KubePod) -> dict[str, int]:
    """Return resource -> the pod's peak request over its life, as kube-scheduler counts it."""
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
        amounts = _container(container, statuses.get(container.name) if container.is_sidecar else None, infeasible)
        if container.is_sidecar:
            _add(total, amounts)
            _add(sidecars, amounts)
            amounts = sidecars
        else:
            amounts = dict(amounts)
            _add(amounts, sidecars)
        _raise(starting, amounts)
    _raise(total, starting)
    total |= _of_pod(pod.spec.resources, total)
    _add(total, read_amounts(pod.spec.overhead))
    return {name: amount for name, amount in whole_units(total).items() if is_counted(name)}


def _container(container: KubeContainer, status: KubeContainerStatus | None, infeasible: bool) -> Amounts:
    """Return a container's requests, which default to its limits; during a resize, the larger of its requests and what it has."""
    resources = container.resources
    spec = read_amounts({**(resources.limits or {}), **(resources.requests or {})}) if resources is not None else Amounts()
    if status is None or status.resources is None:
        return spec
    largest = Amounts() if infeasible else dict(spec)
    _raise(largest, read_amounts(status.resources.requests))
    _raise(largest, read_amounts(status.allocated_resources))
    return largest


def _of_pod(resources: Resources | None, by_containers: Amounts) -> Amounts:
    """Return the pod-level requests, which replace the sum over containers.

    A pod-level limit without a request defaults to the sum over containers, or to the limit where no container requests the resource.
    """
    if resources is None:
        return Amounts()
    requests, limits = read_amounts(resources.requests), read_amounts(resources.limits)
    for name, limit in limits.items():
        requests.setdefault(name, by_containers.get(name, limit))
    return {name: amount for name, amount in requests.items() if name in ("cpu", "memory") or name.startswith("hugepages-")}


def _add(total: Amounts, more: Mapping[str, Decimal]) -> None:
    """Add the amounts `more` to `total`, in place."""
    for name, amount in more.items():
        total[name] = total.get(name, Decimal(0)) + amount


def _raise(largest: Amounts, others: Mapping[str, Decimal]) -> None:
    """Raise each amount of `largest` to that of `others`, in place."""
    for name, amount in others.items():
        largest[name] = max(largest.get(name, amount), amount)
