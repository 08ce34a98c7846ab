"""The two forms in which the snapshot keeps a pod that requests GPUs: bound to a node, or pending."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType

from extender.decision.node.allocation.allocations import BoundPod
from extender.decision.request.annotations import Wishes, wishes
from extender.decision.request.kubernetes_objects import Meta, Pod
from extender.decision.request.other_resources import Requests, others_requested
from extender.decision.request.pod_request import Demand, asks_for_slices, demand_of
from extender.decision.request.reasons import Reason, Rejection
from topology.devices.size_mix import recorded_mix
from topology.devices.steering import STEERERS_OWN, DecidedFor

_MOST_SHARED = 8_192
"""Distinct demands, and distinct requests besides GPUs, that are remembered so that equal pods share them."""
CLAIMS_ALONE = Demand((), 0)
"""The demand of a bound pod that may hold GPUs by claims alone: the claims state which."""


def bound_pod(pod: Pod, demand: Demand | None, resource: str) -> BoundPod | None:
    """Return the pod as one that holds GPUs or has claims; None where it is not bound, has ended, or has neither.

    `demand`: as `held_demand` returns it; what claims hold is not in it. `resource` is the one that counts GPUs.
    """
    if demand is None and pod.spec.resource_claims:
        demand = CLAIMS_ALONE
    if not pod.spec.node_name or has_ended(pod) or demand is None:
        return None
    meta = pod.metadata
    devices = _devices(pod)
    requested = wishes(meta.annotations)
    stated = Wishes() if isinstance(requested, Rejection) else requested
    record = (meta.annotations or {}).get(RECORD_ANNOTATION)
    return BoundPod(
        key=pod.key,
        namespace=sys.intern(meta.namespace or "default"),
        name=meta.name,
        node=sys.intern(pod.spec.node_name),
        demand=_shared_demand(demand),
        created=sys.intern(meta.creation_timestamp or ""),
        devices=devices,
        devices_seen_seconds=_status_seconds(pod) if devices else None,
        priority=pod.spec.priority or 0,
        terminating=meta.deletion_timestamp is not None,
        scheduled=sys.intern(_scheduled(pod)),
        floor_gbps=stated.min_busbw_gbps,
        recorded=record is not None,
        decided_for=DecidedFor(stated.messages, recorded_mix(record)) if record is not None else STEERERS_OWN,
        others=_shared_requests(others_requested(pod, resource)),
        scheduler=sys.intern(pod.spec.scheduler_name) if pod.spec.scheduler_name is not None else None,
        extended_claim=_extended_claim(pod),
    )


def _extended_claim(pod: Pod) -> str | None:
    """Return namespace/name of the claim that kube-scheduler made for the pod's extended resources; None where its status names none."""
    status = pod.status.extended_resource_claim_status if pod.status else None
    return f"{pod.metadata.namespace or 'default'}/{status.resource_claim_name}" if status and status.resource_claim_name else None


@lru_cache(maxsize=_MOST_SHARED)
def _shared_demand(demand: Demand) -> Demand:
    """Return the one object that equals this demand: most pods of a job, and many jobs, request the same."""
    return demand


def _shared_requests(others: Requests) -> Requests:
    """Return the one object with these amounts. The key is their text, because 1 and 1.0 compare as equal."""
    return _requests(tuple((name, str(amount)) for name, amount in others))


@lru_cache(maxsize=_MOST_SHARED)
def _requests(texts: tuple[tuple[str, str], ...]) -> Requests:
    return tuple((name, Decimal(text)) for name, text in texts)


def has_ended(pod: Pod) -> bool:
    """Whether the phase is Succeeded or Failed: all containers have ended, and the pod holds no devices."""
    return pod.status is not None and pod.status.phase in ("Succeeded", "Failed")


ExtraPods = Mapping[str, tuple[Demand, ...]]
"""Node -> demands of pods that the API does not show on the node yet, in the order in which they were decided."""

NO_EXTRA_PODS: ExtraPods = MappingProxyType({})

RECORD_ANNOTATION = "fabricwise.dev/decision"
"""Annotation that the bind verb writes to a pod: see `report.placement_record`."""


def _scheduled(pod: Pod) -> str:
    """Return the time at which the pod was bound, as the API server writes it; empty where unknown."""
    conditions = (pod.status.conditions if pod.status else None) or ()
    times = (
        condition.last_transition_time or "" for condition in conditions if condition.type == "PodScheduled" and condition.status == "True"
    )
    return next(times, "")


@dataclass(frozen=True, slots=True)
class Pending:
    """A pod that requests GPUs, MIG devices, replicas or devices by claims and is not bound."""

    pod: Pod
    demand: Demand | None
    """The GPUs that it will hold, without those of claims; None where it requests none by number."""
    nominated: str | None
    """The node that preemption has nominated for it."""
    priority: int
    scheduler_message: str
    """kube-scheduler's message on why it is not scheduled; empty where there is none yet."""
    refused: bool
    """Whether that message contains a `Reason`."""


def pending_pod(pod: Pod, resource: str, demand: Demand | None) -> Pending | None:
    """Return the pod as a pending one; None where it is bound, ended or terminating, or requests no GPU and has no claims.

    `demand`: as `held_demand` returns it.
    """
    status = pod.status
    if pod.spec.node_name or has_ended(pod) or pod.metadata.deletion_timestamp is not None:
        return None
    if demand is None and not pod.spec.resource_claims and not asks_for_slices(pod, resource):
        return None
    conditions = (status.conditions if status else None) or ()
    message = " ".join(condition.message or "" for condition in conditions if condition.type == "PodScheduled").strip()
    return Pending(
        pod=pod,
        demand=demand,
        nominated=(status.nominated_node_name if status else None) or None,
        priority=pod.spec.priority or 0,
        scheduler_message=message,
        refused=bool(message) and any(reason.value in message for reason in Reason),
    )


def _devices(pod: Pod) -> tuple[tuple[str, ...], ...]:
    """Return the ids of NVIDIA devices per container, without init containers that finish: later containers may have their devices.

    The kubelet of Kubernetes 1.36 names the devices of main containers only. Those of sidecars are read where a kubelet names them.
    """
    status = pod.status
    sidecars = {container.name for container in pod.spec.init_containers or () if container.restart_policy == "Always"}
    running = [entry for entry in (status.init_container_statuses or () if status else ()) if entry.name in sidecars]
    running += (status.container_statuses or []) if status else []
    groups = []
    for container in running:
        allocated = [resource for resource in container.allocated_resources_status or () if resource.name.startswith("nvidia.com/")]
        groups.append(tuple(device.resource_id for resource in allocated for device in resource.resources or ()))
    return tuple(group for group in groups if group)


def _status_seconds(pod: Pod) -> float | None:
    """Return the Unix time of the last change of the pod's conditions: the API has no better time for its status."""
    times = [condition.last_transition_time for condition in (pod.status.conditions or () if pod.status else ())]
    seconds = [datetime.fromisoformat(time).timestamp() for time in times if time and _TIME.match(time)]
    return max(seconds, default=None)


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


def held_demand(pod: Pod, resource: str) -> Demand | None:
    """Return the GPUs that a pod holds once it is bound, without regard to its annotations; None where it requests none.

    A malformed request counts as none: the API server rejects such pods, so it has no effect on the kubelet.
    """
    demand = demand_of(Pod(metadata=Meta(name=pod.metadata.name), spec=pod.spec), resource)
    return demand if isinstance(demand, Demand) and demand.total else None
