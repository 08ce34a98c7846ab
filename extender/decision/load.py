"""A pod as load: what it holds once it is bound, what it waits for before that. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from extender.decision.annotations import wishes
from extender.decision.demand import Demand, asks_for_slices, demand_of
from extender.decision.holdings import BoundPod
from extender.decision.objects import Meta, Pod
from extender.decision.reasons import Reason, Rejection
from extender.decision.requests import others_requested

CLAIMS_ALONE = Demand((), 0)
"""Of a pod that may hold GPUs by claims: which, the claims say."""


def bound_pod(pod: Pod, demand: Demand | None, resource: str) -> BoundPod | None:
    """The pod as load, of what it asks for: None when it is not bound, has ended, or holds no GPU. What claims give it is not counted."""
    if demand is None and pod.spec.resource_claims:
        demand = CLAIMS_ALONE
    if not pod.spec.node_name or has_ended(pod) or demand is None:
        return None
    meta = pod.metadata
    devices = _devices(pod)
    return BoundPod(
        pod.key, meta.namespace or "default", meta.name, pod.spec.node_name, demand, meta.creation_timestamp or "",
        devices, _seen_seconds(pod) if devices else None, pod.spec.priority or 0, meta.deletion_timestamp is not None, _scheduled(pod),
        _floor(pod), RECORD_ANNOTATION in (meta.annotations or {}), others_requested(pod, resource), pod.spec.scheduler_name,
    )  # fmt: skip


def has_ended(pod: Pod) -> bool:
    """Whether the kubelet reports that all its containers have ended: it holds no devices any more."""
    return pod.status is not None and pod.status.phase in ("Succeeded", "Failed")


RECORD_ANNOTATION = "fabricwise.dev/decision"
"""Annotation that the bind verb leaves: see `record`."""


def _scheduled(pod: Pod) -> str:
    conditions = (pod.status.conditions if pod.status else None) or ()
    return next((one.last_transition_time or "" for one in conditions if one.type == "PodScheduled" and one.status == "True"), "")


def _floor(pod: Pod) -> float | None:
    asked = wishes(pod.metadata.annotations)
    return None if isinstance(asked, Rejection) else asked.min_busbw_gbps


@dataclass(frozen=True, slots=True)
class Pending:
    """A pod that asks for GPUs, or slices of them, and waits for a node."""

    pod: Pod
    demand: Demand | None
    """The GPUs it would hold; None where it asks for slices alone."""
    nominated: str | None
    """The node that preemption has chosen for it."""
    priority: int
    told: str
    """kube-scheduler's own word on why it is not scheduled; empty: none yet."""
    refused: bool
    """Whether that names a reason of ours."""


def pending_pod(pod: Pod, resource: str, demand: Demand | None) -> Pending | None:
    """The pod as one that waits; None when it is bound, ended or about to go, or asks for no GPU."""
    status = pod.status
    if pod.spec.node_name or has_ended(pod) or pod.metadata.deletion_timestamp is not None:
        return None
    if demand is None and not asks_for_slices(pod, resource):
        return None
    told = " ".join(one.message or "" for one in (status.conditions or () if status else ()) if one.type == "PodScheduled").strip()
    refused = bool(told) and any(reason.value in told for reason in Reason)
    return Pending(pod, demand, (status.nominated_node_name if status else None) or None, pod.spec.priority or 0, told, refused)


def _devices(pod: Pod) -> tuple[tuple[str, ...], ...]:
    """Device ids per container of NVIDIA's resources; without finished init containers, whose devices later containers may have.

    The kubelet of Kubernetes 1.36 names those of main containers only; sidecars are read for one that names theirs too.
    """
    status = pod.status
    sidecars = {container.name for container in pod.spec.init_containers or () if container.restart_policy == "Always"}
    running = [entry for entry in (status.init_container_statuses or () if status else ()) if entry.name in sidecars]
    running += (status.container_statuses or []) if status else []
    groups = []
    for container in running:
        held = [resource for resource in container.allocated_resources_status or () if resource.name.startswith("nvidia.com/")]
        groups.append(tuple(device.resource_id for resource in held for device in resource.resources or ()))
    return tuple(group for group in groups if group)


def _seen_seconds(pod: Pod) -> float | None:
    """When the pod's status last moved, by its conditions: the API has no better time for it."""
    times = [condition.last_transition_time for condition in (pod.status.conditions or () if pod.status else ())]
    seconds = [datetime.fromisoformat(time).timestamp() for time in times if time and _TIME.match(time)]
    return max(seconds, default=None)


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


def held_demand(pod: Pod, resource: str) -> Demand | None:
    """What a pod holds once it is bound: its GPUs, whatever its annotations say; None where it asks for none.

    A request that makes no sense got past the API server some other way: nothing we can count.
    """
    demand = demand_of(Pod(metadata=Meta(name=pod.metadata.name), spec=pod.spec), resource)
    return demand if isinstance(demand, Demand) and demand.total else None
