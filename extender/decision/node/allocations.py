"""Which pod holds which GPUs of a node, from sources of different age that may each be incomplete. Pure.

- The pod's own status (`allocatedResourcesStatus`, on by default from Kubernetes 1.36) names the devices of its main containers, soon after
  admission. It names none of init containers, restartable ones (sidecars) included. Source: kubernetes 1.36
  `pkg/kubelet/cm/devicemanager/manager.go` (UpdateAllocatedResourcesStatus).
- The agent's GpuTopology names the devices of main containers and sidecars, as the kubelet's PodResources API lists them. It lags.
- A pod holds as many GPUs as it has requested at its peak until it ends: what a finished init container had beyond the other containers is
  kept and in no list. So a source that names fewer is incomplete, and the rest is predicted.

Two incomplete sources add up. Where they contradict each other about a pod the newer one counts and the disagreement is reported. The end
of a pod counts more than an older status (see `ended`). A device of a pod that the API server has never shown is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from extender.decision.node.ended_pods import EndedPod, full_name_of
from extender.decision.request.other_resources import Requests
from extender.decision.request.pod_request import Demand
from topology.gputopology import Allocation, TopologyRecord
from topology.machine.hardware import Machine, mask_of, positions_of, union_of

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
    scheduler: str | None = None
    """The scheduler that it names."""

    @property
    def admission_order(self) -> tuple[str, str, str]:
        """Its place among those the kubelet admits: it takes them as they are bound."""
        return self.scheduled or self.created, self.created, self.key

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Allocations:
    """What is known of a node's GPUs."""

    free: int
    """Mask of positions that no pod is known to hold and that are fit for use."""
    known: Mapping[str, tuple[int, ...]]
    """Pod key -> masks of positions, one per container that holds some; or one for the pod."""
    predicted: tuple[BoundPod, ...]
    """Pods that hold more GPUs than are known, in the order given; of most none is known."""
    disagreements: tuple[str, ...] = ()
    held_before: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Key of a predicted pod -> masks of pods that ended after it was bound, or end now: probably not free when it was admitted."""
    taken_later: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Key of a predicted pod -> mask of what pods hold that were bound after it: free when it was admitted, and not its own."""
    leaving: tuple[int, ...] = ()
    """Masks of terminating pods, not free: the kubelet may have freed them before the API server shows it."""
    lingering: tuple[int, ...] = ()
    """Masks of pods that ended a moment ago, free: the kubelet may not have freed them yet."""
    departed: tuple[EndedPod, ...] = ()
    """Pods that ended before their devices were known: other pods may have been admitted while these held theirs."""


def allocations_of(
    record: TopologyRecord,
    pods: tuple[BoundPod, ...],
    stale: bool,
    withheld: int = 0,
    ended: tuple[EndedPod, ...] = (),
    monotonic_seconds: float | None = None,
) -> Allocations:
    """What the node's pods hold. Of a stale status only the unhealthy GPUs count: they seldom recover by themselves.

    `withheld`: mask of further positions that the kubelet does not hand out. `ended`: pods that the status may name although they ended.
    `steady_seconds`: the monotonic time, None where no time passes.
    """
    machine, status = record.machine, record.status
    place = {gpu.index: position for position, gpu in enumerate(machine.gpus)}
    allocated = status.allocated if status and not stale else ()
    named, strangers = _attributed(allocated, pods, ended, place)
    known, disagreements = dict[str, tuple[int, ...]](), list[str]()
    for pod in pods:
        own, by_agent = _own(machine, pod), named.get(pod.key, 0)
        if own and by_agent and not _agree(own, by_agent, pod):
            own_indices, agent_indices = machine.indices(union_of(own)), machine.indices(by_agent)
            disagreements.append(f"pod {pod.full_name}: its status names GPUs {list(own_indices)}, the agent {list(agent_indices)}")
            own, by_agent = ((), by_agent) if _agent_is_newer(record, pod) else (own, 0)
        masks = _together(own, by_agent)
        if masks:
            known[pod.key] = masks
    taken = strangers | union_of(mask for masks in known.values() for mask in masks)
    everything = mask_of(range(len(machine.gpus)))
    if status is not None and not stale and status.free is not None:  # neither free nor allocated: held by something unknown
        told = mask_of(machine.positions(sorted(set(status.free)))) | mask_of([place[entry.index] for entry in allocated])
        taken |= everything & ~told
    sick = mask_of([place[index] for index, _ in status.unhealthy]) if status else 0
    predicted = tuple(pod for pod in pods if not _is_complete(pod, known.get(pod.key, ())))
    fit = everything & ~sick & ~withheld
    running = strangers | union_of(mask for pod in pods if not pod.terminating for mask in known.get(pod.key, ()))
    leaving = [union_of(known.get(pod.key, ())) & fit & ~running for pod in pods if pod.terminating]
    unsure = tuple(pod for pod in ended if pod.may_still_hold(monotonic_seconds))
    lingering = [pod.devices & fit & ~taken for pod in unsure]
    return Allocations(
        fit & ~taken,
        known,
        predicted,
        (*disagreements, *_held_twice(machine, pods, known)),
        _held_before((*predicted, *ended), ended, unsure, tuple(mask for mask in leaving if mask)),
        _taken_later((*predicted, *ended), pods, known),
        tuple(mask for mask in leaving if mask),
        tuple(mask for mask in lingering if mask),
        _departed(predicted, ended, unsure),
    )


def _attributed(
    allocated: tuple[Allocation, ...], pods: tuple[BoundPod, ...], ended: tuple[EndedPod, ...], place: Mapping[int, int]
) -> tuple[dict[str, int], int]:
    """The mask per pod key that the agent's status names, and the mask of what it gives to pods that are not known.

    An entry of a pod that has ended since counts for neither. A pod that came back under the same name gets what the status gives to that
    name once that differs from what the old one held.
    """
    found: dict[str, int] = {}
    strangers = 0
    by_key, by_name = {pod.key: pod for pod in pods}, {pod.full_name: pod for pod in pods}
    indices: dict[str, set[int]] = {}
    for entry in allocated if ended else ():
        indices.setdefault(full_name_of(entry), set()).add(entry.index)
    for entry in allocated:
        holder = by_key.get(entry.pod_uid) if entry.pod_uid else by_name.get(full_name_of(entry)) if entry.pod_name else None
        named_ended = [pod for pod in ended if pod.is_named_by(entry)]
        if any(holder is None or _held_just(pod, indices[full_name_of(entry)], place) for pod in named_ended):
            continue
        if holder is not None:
            found[holder.key] = found.get(holder.key, 0) | 1 << place[entry.index]
        else:
            strangers |= 1 << place[entry.index]
    return found, strangers


def _held_just(pod: EndedPod, indices: set[int], place: Mapping[int, int]) -> bool:
    """Whether these GPUs are what the ended pod held, as far as it was known by the status or altogether."""
    return indices == pod.named or mask_of([place[index] for index in indices]) == pod.devices


def indices_named(record: TopologyRecord, pod: EndedPod) -> frozenset[int]:
    """nvidia-smi indices of the GPUs that the agent's status gives to the pod."""
    return frozenset(entry.index for entry in (record.status.allocated if record.status else ()) if pod.is_named_by(entry))


def _agree(own: tuple[int, ...], by_agent: int, pod: BoundPod) -> bool:
    """Whether both sources can be right: one names what the other does, or they name different parts of what the pod holds."""
    whole = union_of(own)
    return not (whole & ~by_agent and by_agent & ~whole) or (whole | by_agent).bit_count() <= pod.demand.total


def _together(own: tuple[int, ...], by_agent: int) -> tuple[int, ...]:
    """The masks of both sources: per container by the pod's own status, then what the agent names beyond."""
    beyond = by_agent & ~union_of(own)
    return (*own, beyond) if beyond else own


def _is_complete(pod: BoundPod, masks: tuple[int, ...]) -> bool:
    """Whether as many devices are named as the pod holds. Several replicas of one GPU are several devices."""
    replicas = sum(map(len, pod.devices)) if any("::" in device for group in pod.devices for device in group) else 0
    return bool(masks) and max(union_of(masks).bit_count(), replicas) >= pod.demand.total


def _held_twice(machine: Machine, pods: tuple[BoundPod, ...], known: Mapping[str, tuple[int, ...]]) -> list[str]:
    """One line per GPU that more than one pod is reported to hold; the kubelet may have given on what a terminating one held."""
    holders: dict[int, list[str]] = {}
    for pod in (pod for pod in pods if not pod.terminating):
        for position in positions_of(union_of(known.get(pod.key, ()))):
            holders.setdefault(position, []).append(pod.full_name)
    return [
        f"GPU {machine.gpus[position].index} is reported to be held by {len(names)} pods: {', '.join(names)}"
        for position, names in sorted(holders.items())
        if len(names) > 1
    ]


def _held_before(
    pods: tuple[BoundPod | EndedPod, ...], ended: tuple[EndedPod, ...], unsure: tuple[EndedPod, ...], leaving: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    found = {}
    for pod in pods:
        overlapped = [old.devices for old in ended if old.devices and (pod.key in old.overlapping or old in unsure)]
        found[pod.key] = (*overlapped, *leaving)
    return {key: masks for key, masks in found.items() if masks}


def _taken_later(
    predicted: tuple[BoundPod | EndedPod, ...], pods: tuple[BoundPod, ...], known: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    found = {
        pod.key: union_of(mask for other in pods if other.admission_order > pod.admission_order for mask in known.get(other.key, ()))
        for pod in predicted
    }
    return {key: mask for key, mask in found.items() if mask}


def _departed(predicted: tuple[BoundPod, ...], ended: tuple[EndedPod, ...], unsure: tuple[EndedPod, ...]) -> tuple[EndedPod, ...]:
    """Ended pods with unknown devices that matter: a predicted pod was bound before one ended, or the kubelet may not have freed them."""
    keys = {pod.key for pod in predicted}
    return tuple(pod for pod in ended if pod.steps and not pod.devices and (pod.overlapping & keys or pod in unsure))


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


def _holder(entry: Allocation, pods: tuple[BoundPod, ...]) -> BoundPod | None:
    """By uid where the status has one, for names come back."""
    if entry.pod_uid:
        return next((pod for pod in pods if pod.key == entry.pod_uid), None)
    return next((pod for pod in pods if entry.pod_name and full_name_of(entry) == pod.full_name), None)


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
