"""Which pod holds which GPUs of a node, from sources of different age that may each be incomplete.

- The pod's own status (`allocatedResourcesStatus`, on by default from Kubernetes 1.36) names the devices of its main containers, soon after
  admission. It names none of init containers, restartable ones (sidecars) included. Source: kubernetes 1.36
  `pkg/kubelet/cm/devicemanager/manager.go` (UpdateAllocatedResourcesStatus).
- The agent's GpuTopology names the devices of main containers and sidecars, as the kubelet's PodResources API lists them. It lags.
- Until it ends, a pod holds as many GPUs as it requested at its peak: GPUs of a finished init container that no later container uses remain
  allocated, but no source lists them. So a source that names fewer is incomplete, and the rest is predicted.

Two incomplete sources add up. Where they contradict each other about a pod, the newer one counts, and the disagreement is reported. The end
of a pod takes precedence over an older status (see `ended_pods`). A device of a pod that the API server has never shown is not free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from extender.decision.node.allocation.ended_pods import AdmissionOrder, EndedPod, full_name_of
from extender.decision.request.other_resources import Requests
from extender.decision.request.pod_request import Demand
from topology.devices.steering import STEERERS_OWN, DecidedFor
from topology.gputopology.topology_record import Allocation, TopologyRecord
from topology.machine.hardware import Machine, mask_of, positions_of, union_of

Groups = tuple[tuple[str, ...], ...]
"""Device ids per container."""


@dataclass(frozen=True, slots=True)
class BoundPod:
    """A pod that holds GPUs on a node."""

    key: str
    namespace: str
    name: str
    node: str
    demand: Demand
    created: str
    """creationTimestamp, as the API server writes it."""
    devices: Groups = ()
    """Devices that the pod's own status names; empty where it names none."""
    devices_seen_seconds: float | None = None
    """Unix time of the newest condition of that status."""
    priority: int = 0
    terminating: bool = False
    """Whether it has a deletionTimestamp: it holds its devices until it has ended."""
    scheduled: str = ""
    """When it was bound, as the API server writes it, to the second; empty where unknown."""
    floor_gbps: float | None = None
    """Annotation `min-busbw`."""
    recorded: bool = False
    """Whether it has the annotation with its placement record."""
    decided_for: DecidedFor = STEERERS_OWN
    """What its devices were decided for, where a decision is recorded."""
    others: Requests = ()
    """What it requests besides GPUs: CPU, memory and so on."""
    scheduler: str | None = None
    """spec.schedulerName."""
    extended_claim: str | None = None
    """namespace/name of the ResourceClaim for its extended resources, as its status states it."""

    @property
    def admission_order(self) -> AdmissionOrder:
        """Sort key of the order in which the kubelet admits pods, which is the order of binding.

        The API has no order of bindings within a second. It is most probably that of kube-scheduler's queue: a burst of pods comes in the
        order of priority, then of creation, and pods that are created in the same second have ascending names.
        """
        return self.scheduled or self.created, -self.priority, self.created, self.full_name, self.key

    @property
    def full_name(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Allocations:
    """Which GPUs of a node are allocated, as far as that is known. Masks are of positions."""

    free: int
    """Mask of usable positions that no pod is known to hold."""
    known: Mapping[str, tuple[int, ...]]
    """Pod key -> masks, one per container that holds devices, or one for the whole pod."""
    predicted: tuple[BoundPod, ...]
    """Pods that hold more GPUs than are known, in the given order; of most of them none is known."""
    disagreements: tuple[str, ...] = ()
    """Contradictions between the sources, for people."""
    held_before: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Key of a predicted pod -> masks of pods that ended after it was bound or are terminating: probably not free at its admission."""
    taken_later: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Key of a predicted pod -> mask of pods that were bound after it: free at its admission, and not its own."""
    leaving: tuple[int, ...] = ()
    """Masks of terminating pods; not in `free`, although the kubelet may free them before the API server shows the end."""
    lingering: tuple[int, ...] = ()
    """Masks of pods that ended a moment ago; in `free`, although the kubelet may not have freed them yet."""
    departed: tuple[EndedPod, ...] = ()
    """Pods that ended before their devices were known: other pods may have been admitted while they held them."""


def allocations_of(
    record: TopologyRecord,
    pods: tuple[BoundPod, ...],
    stale: bool,
    *,
    withheld: int = 0,
    ended: tuple[EndedPod, ...] = (),
    monotonic_seconds: float | None = None,
) -> Allocations:
    """Return what the node's pods hold. Of a stale status only the unhealthy GPUs count: they seldom recover by themselves.

    `withheld`: mask of further positions that the kubelet does not assign. `ended`: pods that the status may name although they ended.
    `monotonic_seconds`: the current monotonic time; None where no time passes.
    """
    machine, status = record.machine, record.status
    position_of = {gpu.index: position for position, gpu in enumerate(machine.gpus)}
    allocated = status.allocated if status and not stale else ()
    named, unknown_pods = _attributed(allocated, pods, ended, position_of)
    known, disagreements = _reconciled(record, pods, named)
    taken = unknown_pods | union_of(mask for masks in known.values() for mask in masks)
    everything = mask_of(range(len(machine.gpus)))
    if status is not None and not stale and status.free is not None:
        # A device that the status lists as neither free nor allocated is held by something unknown.
        listed = mask_of(machine.positions(sorted(set(status.free)))) | mask_of([position_of[entry.index] for entry in allocated])
        taken |= everything & ~listed
    sick = mask_of([position_of[index] for index, _ in status.unhealthy]) if status else 0
    predicted = tuple(pod for pod in pods if not _is_complete(pod, known.get(pod.key, ())))
    fit = everything & ~sick & ~withheld
    running = unknown_pods | union_of(mask for pod in pods if not pod.terminating for mask in known.get(pod.key, ()))
    leaving = [union_of(known.get(pod.key, ())) & fit & ~running for pod in pods if pod.terminating]
    unsure = tuple(pod for pod in ended if pod.may_still_hold(monotonic_seconds))
    lingering = [pod.devices & fit & ~taken for pod in unsure]
    return Allocations(
        free=fit & ~taken,
        known=known,
        predicted=predicted,
        disagreements=(*disagreements, *_held_twice(machine, pods, known)),
        held_before=_held_before((*predicted, *ended), ended, unsure, tuple(mask for mask in leaving if mask)),
        taken_later=_taken_later((*predicted, *ended), pods, known),
        leaving=tuple(mask for mask in leaving if mask),
        lingering=tuple(mask for mask in lingering if mask),
        departed=_departed(predicted, ended, unsure),
    )


def _reconciled(
    record: TopologyRecord, pods: tuple[BoundPod, ...], named: Mapping[str, int]
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Return `Allocations.known` from both sources, and their disagreements. `named`: pod key -> mask by the agent's status."""
    machine = record.machine
    known, disagreements = dict[str, tuple[int, ...]](), list[str]()
    for pod in pods:
        by_pod, by_agent = _masks_by_pod_status(machine, pod), named.get(pod.key, 0)
        if by_pod and by_agent and not _agree(by_pod, by_agent, pod):
            pod_indices, agent_indices = machine.indices(union_of(by_pod)), machine.indices(by_agent)
            disagreements.append(f"pod {pod.full_name}: its status names GPUs {list(pod_indices)}, the agent {list(agent_indices)}")
            by_pod, by_agent = ((), by_agent) if _agent_is_newer(record, pod) else (by_pod, 0)
        masks = _combined(by_pod, by_agent)
        if masks:
            known[pod.key] = masks
    return known, disagreements


def _attributed(
    allocated: tuple[Allocation, ...], pods: tuple[BoundPod, ...], ended: tuple[EndedPod, ...], position_of: Mapping[int, int]
) -> tuple[dict[str, int], int]:
    """Return the mask per pod key by the agent's status, and the mask of devices that it gives to unknown pods.

    An entry of a pod that has ended since counts for neither. A new pod with the name of an ended one gets what the status gives to that
    name as soon as it differs from what the ended pod held.
    """
    masks: dict[str, int] = {}
    unknown_pods = 0
    by_key, by_name = {pod.key: pod for pod in pods}, {pod.full_name: pod for pod in pods}
    indices: dict[str, set[int]] = {}
    for entry in allocated if ended else ():
        indices.setdefault(full_name_of(entry), set()).add(entry.index)
    for entry in allocated:
        holder = by_key.get(entry.pod_uid) if entry.pod_uid else by_name.get(full_name_of(entry)) if entry.pod_name else None
        named_ended = [pod for pod in ended if pod.is_named_by(entry)]
        if any(holder is None or _held_exactly(pod, indices[full_name_of(entry)], position_of) for pod in named_ended):
            continue
        if holder is not None:
            masks[holder.key] = masks.get(holder.key, 0) | 1 << position_of[entry.index]
        else:
            unknown_pods |= 1 << position_of[entry.index]
    return masks, unknown_pods


def _held_exactly(pod: EndedPod, indices: set[int], position_of: Mapping[int, int]) -> bool:
    """Whether these GPUs are exactly what the ended pod held, by the agent's status or by all sources."""
    return indices == pod.named or mask_of([position_of[index] for index in indices]) == pod.devices


def indices_named(record: TopologyRecord, pod: EndedPod) -> frozenset[int]:
    """Return the nvidia-smi indices of the GPUs that the agent's status gives to the pod."""
    return frozenset(entry.index for entry in (record.status.allocated if record.status else ()) if pod.is_named_by(entry))


def _agree(by_pod: tuple[int, ...], by_agent: int, pod: BoundPod) -> bool:
    """Whether both sources can be right: one includes the other, or together they name no more than the pod holds."""
    whole = union_of(by_pod)
    return not (whole & ~by_agent and by_agent & ~whole) or (whole | by_agent).bit_count() <= pod.demand.total


def _combined(by_pod: tuple[int, ...], by_agent: int) -> tuple[int, ...]:
    """Return the masks of both sources: per container by the pod's own status, then what only the agent names."""
    only_by_agent = by_agent & ~union_of(by_pod)
    return (*by_pod, only_by_agent) if only_by_agent else by_pod


def _is_complete(pod: BoundPod, masks: tuple[int, ...]) -> bool:
    """Whether as many devices are known as the pod holds. Several replicas of one GPU are several devices."""
    replicas = sum(map(len, pod.devices)) if any("::" in device for group in pod.devices for device in group) else 0
    return bool(masks) and max(union_of(masks).bit_count(), replicas) >= pod.demand.total


def _held_twice(machine: Machine, pods: tuple[BoundPod, ...], known: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Return a line per GPU that several pods hold. Terminating pods do not count: the kubelet may have given their devices to others."""
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
    """Return `Allocations.held_before`."""
    held = {}
    for pod in pods:
        overlapped = [old.devices for old in ended if old.devices and (pod.key in old.overlapping or old in unsure)]
        held[pod.key] = (*overlapped, *leaving)
    return {key: masks for key, masks in held.items() if masks}


def _taken_later(
    predicted: tuple[BoundPod | EndedPod, ...], pods: tuple[BoundPod, ...], known: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """Return `Allocations.taken_later`."""
    taken = {
        pod.key: union_of(mask for other in pods if other.admission_order > pod.admission_order for mask in known.get(other.key, ()))
        for pod in predicted
    }
    return {key: mask for key, mask in taken.items() if mask}


def _departed(predicted: tuple[BoundPod, ...], ended: tuple[EndedPod, ...], unsure: tuple[EndedPod, ...]) -> tuple[EndedPod, ...]:
    """Return the ended pods with unknown devices that affect a prediction: a predicted pod was bound before the end, or the kubelet may not
    have freed the devices yet.
    """
    keys = {pod.key for pod in predicted}
    return tuple(pod for pod in ended if pod.steps and not pod.devices and (pod.overlapping & keys or pod in unsure))


def released(record: TopologyRecord, left: tuple[BoundPod, ...], known: tuple[BoundPod, ...] | None = None) -> TopologyRecord:
    """Return the record as it will be after the agent has seen that the pods `left` have left.

    With `known`, devices that the status gives to pods not in `known` are free too.
    """
    status = record.status
    if status is None:
        return record
    gone = [entry for entry in status.allocated if _has_left(entry, left, known)]
    if not gone:
        return record
    kept = tuple(entry for entry in status.allocated if entry not in gone)
    free = None if status.free is None else tuple(sorted({*status.free, *(entry.index for entry in gone)}))
    return replace(record, status=replace(status, allocated=kept, free=free))


def _has_left(entry: Allocation, left: tuple[BoundPod, ...], known: tuple[BoundPod, ...] | None) -> bool:
    if _holder(entry, left) is not None:
        return True
    named = bool(entry.pod_uid or entry.pod_name)
    return known is not None and named and _holder(entry, known) is None


def _holder(entry: Allocation, pods: tuple[BoundPod, ...]) -> BoundPod | None:
    """Return the pod of an entry: by uid where the entry has one, because a later pod may have the same name."""
    if entry.pod_uid:
        return next((pod for pod in pods if pod.key == entry.pod_uid), None)
    return next((pod for pod in pods if entry.pod_name and full_name_of(entry) == pod.full_name), None)


def _masks_by_pod_status(machine: Machine, pod: BoundPod) -> tuple[int, ...]:
    """Return a mask per container by the pod's own status; empty where it names no device, or one that the machine does not have."""
    position_of = {gpu.uuid: position for position, gpu in enumerate(machine.gpus) if gpu.uuid}
    position_of |= {mig.uuid: position for position, gpu in enumerate(machine.gpus) for mig in gpu.mig_instances}
    groups = [[position_of.get(device.partition("::")[0]) for device in group] for group in pod.devices]
    if any(position is None for group in groups for position in group):
        return ()
    return tuple(mask_of([position for position in group if position is not None]) for group in groups if group)


def _agent_is_newer(record: TopologyRecord, pod: BoundPod) -> bool:
    observed = record.status.observed_at_seconds if record.status else None
    return observed is not None and observed > (pod.devices_seen_seconds or 0.0)
