"""What a pod asks for, counted as the kubelet counts; or a rejection, as a value."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from extender.decision.request.annotations import NO_WISHES, Wishes, wishes
from extender.decision.request.kubernetes_objects import Container, Pod
from extender.decision.request.quantity import quantity
from extender.decision.request.reasons import Reason, Rejection
from extender.decision.request.resource_claims import PodClaims
from extender.decision.request.resource_names import is_slice
from extender.decision.request.workload_classes import Classes, WorkloadClass
from topology.devices.first_fit import DeviceRequests
from topology.devices.prediction import Asks

MOST_GPUS = (1 << 63) - 1
"""The largest quantity that Kubernetes keeps exactly (int64). Every smaller count is valid, even if no node has that many."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pod asks for."""

    steps: tuple[tuple[int, bool], ...]
    """(GPUs, whether it is an init container that finishes) per container with GPUs, in the order in which the kubelet serves them."""
    total: int
    """GPUs that the pod holds at its peak, as kube-scheduler counts them."""
    wishes: Wishes = NO_WISHES
    """What it asks for by annotations."""
    slices: tuple[tuple[str, int, int], ...] = ()
    """(resource, units at the peak, most units in one container) of MIG devices and replicas under resource names of their own."""
    workload: WorkloadClass | None = None
    """The workload class that it names, where that is defined."""
    inferred_memory_bytes: int | None = None
    """Memory per GPU that its model needs, as computed from the model's description; None = unknown."""
    claims: PodClaims | None = None
    """What it requests by ResourceClaims; which devices that means differs between nodes, see `node.claims_on_node`."""
    requests: DeviceRequests | None = None
    """The claims on one node, in terms of its devices; None where the pod has no claims, or no prediction is made of them."""
    unranked: str | None = None
    """Why no prediction is made of its claims on the node."""

    @property
    def may_hold_gpus(self) -> bool:
        """Whether it requests GPUs by number, or devices by claims that are not allocated yet, which may be GPUs on some node."""
        return bool(self.total) or (self.claims is not None and bool(self.claims.requests or self.claims.unknown))

    @property
    def asks(self) -> Asks:
        """What a prediction is made of."""
        return self.steps if self.requests is None else self.requests

    @property
    def groups(self) -> tuple[int, ...]:
        """GPUs per container that does not finish. Links matter within a container, not between containers."""
        return tuple(size for size, init in self.steps if not init)

    @property
    def needs_links(self) -> bool:
        """Whether any container holds two or more GPUs, which communicate with each other."""
        return any(size > 1 for size in self.groups) or (self.claims is not None and self.claims.most_together > 1)


def demand_of(pod: Pod, resource: str) -> Demand | Rejection:
    """Return what the pod asks for, or a Rejection that names the malformed request or annotation.

    `resource` is the one that counts GPUs. A pod that asks for no GPU has `total` 0. Init containers run one after another, and the
    containers that follow get their devices; sidecars (restartPolicy Always) keep theirs. Source: Kubernetes, "Resource sharing within
    containers" of the sidecar documentation; `resourcehelper.PodRequests`.
    """
    try:
        steps, total = _counted(pod, resource)
        slices = [_slice_request(pod, name) for name in _resources(pod) if is_slice(name, resource)]
    except ValueError as error:
        return Rejection(Reason.BAD_GPU_REQUEST, str(error))
    requested = wishes(pod.metadata.annotations)
    if isinstance(requested, Rejection):
        return requested
    return Demand(steps, total, requested, tuple((name, peak, most) for name, peak, most in slices if peak))


def _slice_request(pod: Pod, resource: str) -> tuple[str, int, int]:
    """Return (resource, units at the peak, most units in one container). Raise ValueError naming container and resource."""
    steps, peak = _counted(pod, resource)
    return resource, peak, max((size for size, _ in steps), default=0)


def classified(demand: Demand | Rejection, classes: Classes) -> Demand | Rejection:
    """Return the demand with what its workload class adds; the stricter of two conditions applies.

    A class that is not defined, or that excludes what the pod asks for, is a Rejection. Where no classes are loaded at all,
    `Demand.workload` stays None, and `inferred_workload.inferred` warns.
    """
    if isinstance(demand, Rejection) or not classes or demand.wishes.workload_class is None:
        return demand
    requested, workload_class = demand.wishes, classes.get(demand.wishes.workload_class)
    if workload_class is None:
        close = difflib.get_close_matches(demand.wishes.workload_class, classes, n=1)
        meant = f": did you mean {close[0]}?" if close else ": name one of these, or define it in the classes file"
        return Rejection(Reason.UNKNOWN_CLASS, f"{requested.workload_class!r} is none of {', '.join(sorted(classes))}{meant}")
    allowed_sharing, allowed_sizes = workload_class.sharing, workload_class.memory_classes_gb
    sharing = allowed_sharing if requested.sharing is None else tuple(kind for kind in requested.sharing if kind in allowed_sharing)
    sizes = requested.gpu_memory_classes_gb
    if allowed_sizes:
        sizes = allowed_sizes if sizes is None else tuple(size for size in sizes if size in allowed_sizes)
    if not sharing or sizes == ():
        what = f"sharing {', '.join(requested.sharing or ())}" if not sharing else "its GPU memory classes"
        return Rejection(
            Reason.AGAINST_CLASS, f"class {workload_class.name} does not allow {what}: change the pod's annotations or its class"
        )
    links = [rank for rank in (requested.min_link, workload_class.min_link) if rank is not None]
    floors = [floor for floor in (requested.min_busbw_gbps, workload_class.min_busbw_gbps) if floor is not None]
    merged = replace(
        requested,
        sharing=sharing,
        gpu_memory_classes_gb=sizes,
        min_link=min(links, default=None),
        min_busbw_gbps=max(floors, default=None),
    )
    return replace(demand, wishes=merged, workload=workload_class)


def _counted(pod: Pod, resource: str) -> tuple[tuple[tuple[int, bool], ...], int]:
    """Return `Demand.steps` and the peak of one resource. Raise ValueError naming container and resource."""
    sidecars = peak = apps = 0
    steps: list[tuple[int, bool]] = []
    for container in pod.spec.init_containers or []:
        count = _gpus(container, resource)
        ends = container.restart_policy != "Always"
        sidecars += 0 if ends else count
        peak = max(peak, sidecars + (count if ends else 0))
        steps.append((count, ends))
    for container in pod.spec.containers or []:
        count = _gpus(container, resource)
        apps += count
        steps.append((count, False))
    return tuple(step for step in steps if step[0]), max(peak, apps + sidecars)


def asks_for_slices(pod: Pod, resource: str) -> bool:
    """Whether a container requests MIG devices or replicas of GPUs under resource names of their own."""
    return any(is_slice(name, resource) for name in _resources(pod))


def _resources(pod: Pod) -> list[str]:
    """Return the names of all resources that the containers request, sorted."""
    names: set[str] = set()
    for container in [*(pod.spec.init_containers or []), *(pod.spec.containers or [])]:
        if container.resources is not None:
            names |= {*(container.resources.requests or {}), *(container.resources.limits or {})}
    return sorted(names)


def _gpus(container: Container, resource: str) -> int:
    """Return the units of a resource that one container requests; the request defaults to the limit. Raise ValueError naming both."""
    if container.resources is None:
        return 0
    requests, limits = container.resources.requests or {}, container.resources.limits or {}
    if resource not in requests and resource not in limits:
        return 0
    text = requests.get(resource, limits.get(resource))
    where = f"container {container.name or '?'}, {resource}"
    try:
        amount = quantity(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if amount < 0 or amount > MOST_GPUS or amount != amount.to_integral_value():
        raise ValueError(f"{where}: {str(text)[:40]!r} is not a whole number of GPUs: give 0, 1, 2, ...")
    return int(amount)
