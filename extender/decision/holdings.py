"""Who holds which GPUs of a node, from two sources of different age.

The pod's own status names its devices where the API server has `allocatedResourcesStatus` (on by default from Kubernetes
1.36): fresh, and no agent is needed. The agent's GpuTopology names holders as the kubelet sees them. Where they disagree about
a pod, the newer counts and the disagreement is shown. A pod that neither names is predicted; a device held by a pod that nobody
knows is simply taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from extender.decision.demand import Demand
from extender.decision.requests import Requests
from topology.hardware import Machine, mask_of
from topology.record import Allocation, TopologyRecord

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class BoundPod:
    """A pod that holds GPUs on a node."""

    key: str
    namespace: str
    name: str
    node: str
    demand: Demand
    created: str
    devices: Groups = ()
    """Device ids per container, where the pod's status names them."""
    devices_seen_seconds: float | None = None
    """Unix time of the newest condition of that status."""
    priority: int = 0
    terminating: bool = False
    """Whether it has been told to end: it holds its devices until it has."""
    scheduled: str = ""
    """When it was bound, as the API server says; to the second."""
    floor_gbps: float | None = None
    """The bandwidth it demands by annotation."""
    recorded: bool = False
    """Whether it carries the record of its decision."""
    others: Requests = ()
    """What else leaves with it: CPU, memory and so on."""

    @property
    def turn(self) -> tuple[str, str, str]:
        """Its place among those the kubelet admits: it takes them as they are bound."""
        return self.scheduled or self.created, self.created, self.key

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Holdings:
    """What is known of a node's GPUs."""

    free: int
    """Mask of positions that nobody is known to hold and that are fit for use."""
    known: Mapping[str, tuple[int, ...]]
    """Pod key -> masks of positions, one per container that holds some; or one for the pod."""
    predicted: tuple[BoundPod, ...]
    """Pods whose devices nobody names."""
    disagreements: tuple[str, ...] = ()


def holdings(record: TopologyRecord, pods: tuple[BoundPod, ...], stale: bool, withheld: int = 0) -> Holdings:
    """What the node's pods hold. Of a stale status only the sick GPUs count: sick ones seldom get well by themselves.

    `withheld`: mask of further positions that the kubelet does not hand out.
    """
    machine, status = record.machine, record.status
    place = {gpu.index: position for position, gpu in enumerate(machine.gpus)}
    allocated = status.allocated if status and not stale else ()
    named, known, disagreements = _by_pod(allocated, pods, place), dict[str, tuple[int, ...]](), list[str]()
    for pod in pods:
        own, agents = _own(machine, pod), named.get(pod.key, 0)
        if own and agents and sum(own) != agents:
            disagreements.append(
                f"pod {pod.full_name}: its status names GPUs {list(machine.indices(sum(own)))}, the agent {list(machine.indices(agents))}"
            )
            own = () if _agent_is_newer(record, pod) else own
        if own or agents:
            known[pod.key] = own or (agents,)
    taken = sum({1 << place[entry.index] for entry in allocated if not _holder(entry, pods)})
    if status is not None and not stale and status.free is not None:  # neither free nor allocated: somebody nobody knows
        told = mask_of(machine.positions(sorted(set(status.free)))) | mask_of([place[entry.index] for entry in allocated])
        taken |= mask_of(range(len(machine.gpus))) & ~told
    for masks in known.values():
        for mask in masks:
            taken |= mask
    sick = mask_of([place[index] for index, _ in status.unhealthy]) if status else 0
    free = mask_of(range(len(machine.gpus))) & ~taken & ~sick & ~withheld
    return Holdings(free, known, tuple(pod for pod in pods if pod.key not in known), tuple(disagreements))


def released(record: TopologyRecord, left: tuple[BoundPod, ...], known: tuple[BoundPod, ...] | None = None) -> TopologyRecord:
    """The record as it will be when the agent has seen that these pods left; with `known`, also those it names that are none of them."""
    status = record.status
    if status is None:
        return record
    gone = [one for one in status.allocated if _has_left(one, left, known)]
    if not gone:
        return record
    kept = tuple(one for one in status.allocated if one not in gone)
    free = None if status.free is None else tuple(sorted({*status.free, *(one.index for one in gone)}))
    return replace(record, status=replace(status, allocated=kept, free=free))


def _has_left(entry: Allocation, left: tuple[BoundPod, ...], known: tuple[BoundPod, ...] | None) -> bool:
    if _holder(entry, left) is not None:
        return True
    named = bool(entry.pod_uid or entry.pod_name)
    return known is not None and named and _holder(entry, known) is None


def _by_pod(allocated: tuple[Allocation, ...], pods: tuple[BoundPod, ...], place: Mapping[int, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in allocated:
        pod = _holder(entry, pods)
        if pod is not None:
            found[pod.key] = found.get(pod.key, 0) | 1 << place[entry.index]
    return found


def _holder(entry: Allocation, pods: tuple[BoundPod, ...]) -> BoundPod | None:
    """By uid where the status has one, for names come back."""
    if entry.pod_uid:
        return next((pod for pod in pods if pod.key == entry.pod_uid), None)
    full_name = f"{entry.pod_namespace or 'default'}/{entry.pod_name}"
    return next((pod for pod in pods if entry.pod_name and full_name == pod.full_name), None)


def _own(machine: Machine, pod: BoundPod) -> tuple[int, ...]:
    """Masks of the devices in the pod's own status; empty where it names none, or one that this machine does not have."""
    place = {gpu.uuid: position for position, gpu in enumerate(machine.gpus) if gpu.uuid}
    place |= {mig.uuid: position for position, gpu in enumerate(machine.gpus) for mig in gpu.mig_instances}
    groups = [[place.get(device.partition("::")[0]) for device in group] for group in pod.devices]
    if any(position is None for group in groups for position in group):
        return ()
    return tuple(mask_of([position for position in group if position is not None]) for group in groups if group)


def _agent_is_newer(record: TopologyRecord, pod: BoundPod) -> bool:
    observed = record.status.observed_at_seconds if record.status else None
    return observed is not None and observed > (pod.devices_seen_seconds or 0.0)
