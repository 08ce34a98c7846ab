"""Pod -> what it asks for, counted as the kubelet counts; or a refusal, as a value."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from extender.decision.annotations import NO_WISHES, Wishes, wishes
from extender.decision.classes import Classes, WorkloadClass
from extender.decision.dra.requests import PodClaims
from extender.decision.objects import Container, Pod
from extender.decision.quantities import quantity
from extender.decision.reasons import Reason, Rejection
from extender.decision.sharing import is_slice
from topology.devices.first_fit import DeviceRequests
from topology.prediction import Asks

MOST_GPUS = (1 << 63) - 1
"""The largest quantity Kubernetes keeps exactly (int64). Absurd counts below it are just more than any node has."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pod asks of a node's GPUs."""

    steps: tuple[tuple[int, bool], ...]
    """(GPUs, is a finishing init container) per GPU container, in the order the kubelet serves them."""
    total: int
    """GPUs the pod holds at its peak: what the scheduler counts."""
    wishes: Wishes = NO_WISHES
    """What it asks for by annotation."""
    slices: tuple[tuple[str, int, int], ...] = ()
    """(resource, at its peak, most in one container) of slices and replicas of GPUs, under names of their own."""
    workload: WorkloadClass | None = None
    """The class it names, where it is defined."""
    inferred_memory_bytes: int | None = None
    """Memory per GPU that its model is reckoned to need."""
    claims: PodClaims | None = None
    """What it asks for by ResourceClaims, which means something else on each node: see `claims_on_node`."""
    requests: DeviceRequests | None = None
    """The same on one node, where a prediction can be made of it."""
    unranked: str | None = None
    """Why no prediction can be made of its claims there."""

    @property
    def may_hold_gpus(self) -> bool:
        """Whether it asks for GPUs by number, or for devices by claims that may be GPUs on some node."""
        return bool(self.total) or self.claims is not None

    @property
    def asks(self) -> Asks:
        """What a prediction is made of."""
        return self.steps if self.requests is None else self.requests

    @property
    def groups(self) -> tuple[int, ...]:
        """GPUs per container that stays: links matter inside each, not between them."""
        return tuple(size for size, init in self.steps if not init)

    @property
    def needs_links(self) -> bool:
        """Whether any container holds two or more GPUs that will talk to each other."""
        return any(size > 1 for size in self.groups) or (self.claims is not None and self.claims.most_together > 1)


def demand_of(pod: Pod, resource: str) -> Demand | Rejection:
    """What the pod asks for. A request or annotation that makes no sense is a Rejection naming it.

    A pod that asks for no GPU has `total` 0. Init containers run one after another and give their devices to whoever
    follows; sidecars (restartPolicy Always) keep theirs. Source: Kubernetes, "Resource sharing within containers" of
    the sidecar documentation; `resourcehelper.PodRequests`.
    """
    try:
        steps, total = _counted(pod, resource)
        others = [name for name in _resources(pod) if is_slice(name, resource)]
        slices = [(name, count, max((size for size, _ in parts), default=0)) for name in others for parts, count in [_counted(pod, name)]]
    except ValueError as error:
        return Rejection(Reason.BAD_GPU_REQUEST, str(error))
    asked = wishes(pod.metadata.annotations)
    if isinstance(asked, Rejection):
        return asked
    return Demand(steps, total, asked, tuple(one for one in slices if one[1]))


def classified(demand: Demand | Rejection, classes: Classes) -> Demand | Rejection:
    """The demand with what its workload class adds; the stricter holds.

    Where no classes are defined, none is checked: `Demand.workload` stays None, and `inferred.inferred` warns.
    """
    if isinstance(demand, Rejection) or not classes or demand.wishes.workload_class is None:
        return demand
    asked, found = demand.wishes, classes.get(demand.wishes.workload_class)
    if found is None:
        close = difflib.get_close_matches(asked.workload_class or "", classes, n=1)
        meant = f": did you mean {close[0]}?" if close else ": name one of these, or define it in the classes file"
        return Rejection(Reason.UNKNOWN_CLASS, f"{asked.workload_class!r} is none of {', '.join(sorted(classes))}{meant}")
    sharing = found.sharing if asked.sharing is None else tuple(kind for kind in asked.sharing if kind in found.sharing)
    sizes = asked.gpu_memory_classes_gb
    if found.memory_classes_gb:
        sizes = found.memory_classes_gb if sizes is None else tuple(size for size in sizes if size in found.memory_classes_gb)
    if not sharing or sizes == ():
        what = f"sharing {', '.join(asked.sharing or ())}" if not sharing else "its GPU memory classes"
        return Rejection(Reason.AGAINST_CLASS, f"class {found.name} does not allow {what}: change the pod's annotations or its class")
    links = [rank for rank in (asked.min_link, found.min_link) if rank is not None]
    floors = [speed for speed in (asked.min_busbw_gbps, found.min_busbw_gbps) if speed is not None]
    merged = replace(
        asked, sharing=sharing, gpu_memory_classes_gb=sizes, min_link=min(links, default=None), min_busbw_gbps=max(floors, default=None)
    )
    return replace(demand, wishes=merged, workload=found)


def _counted(pod: Pod, resource: str) -> tuple[tuple[tuple[int, bool], ...], int]:
    """Steps and peak of one resource. Raises ValueError naming container and resource."""
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
    """Whether a container speaks of slices or replicas of GPUs under names of their own."""
    return any(is_slice(name, resource) for name in _resources(pod))


def _resources(pod: Pod) -> list[str]:
    """Names of all resources that the containers speak of."""
    found: set[str] = set()
    for container in [*(pod.spec.init_containers or []), *(pod.spec.containers or [])]:
        if container.resources is not None:
            found |= {*(container.resources.requests or {}), *(container.resources.limits or {})}
    return sorted(found)


def _gpus(container: Container, resource: str) -> int:
    """GPUs of one container: its request, which defaults to its limit."""
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
