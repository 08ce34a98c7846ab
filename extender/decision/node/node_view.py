"""The view of a node, derived from its Node object, its GpuTopology, its pods and its telemetry.

Kubernetes counts devices but does not say which. Where the agent's status or the pod's own status names the devices of a pod, those count;
for other bound pods they are predicted. So what is free is a distribution: masks of positions with probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from extender.decision.dra.dra_node import DraNode
from extender.decision.node.allocation.allocations import BoundPod, allocations_of
from extender.decision.node.allocation.ended_pods import EndedPod
from extender.decision.node.allocation.free_sets import free_sets_of
from extender.decision.node.devices.device_load import NO_TELEMETRY, DeviceTelemetry, Joined, device_telemetry, join, unplaced_faults
from extender.decision.node.devices.gpu_sharing import Sharing, physical_gpus, sharing_of, slice_memory_bytes, slices_of
from extender.decision.node.interned_states import interned, with_device_telemetry
from extender.decision.node.node_labels import (
    amounts_of,
    assumed_platform,
    contradiction,
    count_of,
    facts_of,
    kubelet_of,
    labelled_memory_bytes,
    product_of,
)
from extender.decision.node.node_state import NODE_DEFAULTS, NodeDefaults, NodeState, NodeView
from extender.decision.node.steered_kubelet import steered_kubelet
from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.workload_classes import Classes
from extender.telemetry.conditions import DeviceCondition, NodeTelemetry
from topology.gputopology import TopologyRecord
from topology.machine.hardware import Machine, mask_of, positions_of, union_of
from topology.placement import table_for


@dataclass(frozen=True, slots=True)
class Times:
    """The current time on two clocks; None where time does not pass, as in a dump."""

    now_seconds: float | None = None
    """Unix time."""
    monotonic_seconds: float | None = None
    """A clock that never goes back."""


NO_TIMES = Times()


@dataclass(frozen=True, slots=True)
class NodeSources:
    """Everything that a node's view is derived from, besides the defaults."""

    node: Node
    record: TopologyRecord | str | None
    """Its GpuTopology; a str states why it cannot be used."""
    pods: tuple[BoundPod, ...]
    times: Times = NO_TIMES
    """Unix time by the clock of the agent that wrote the GpuTopology's status."""
    telemetry: NodeTelemetry | None = None
    classes: Classes = field(default_factory=dict)
    ended: tuple[EndedPod, ...] = ()
    """Pods that the GpuTopology's status may still name although they have ended."""
    dra: DraNode | None = None
    """Its devices, where Dynamic Resource Allocation serves its GPUs; `dra_view` reads it."""


def node_view(sources: NodeSources, resource: str, defaults: NodeDefaults = NODE_DEFAULTS) -> NodeView:
    """Return the view of a node; `resource` is the one that counts GPUs.

    A topology that contradicts its node is not used, and the view states why. A node without GpuTopology gets the topology of the known
    platform with its product and GPU count, where there is exactly one.
    """
    node, record, telemetry = sources.node, sources.record, sources.telemetry
    labels = node.metadata.labels or {}
    problem = record if isinstance(record, str) else None
    machine = record.machine if isinstance(record, TopologyRecord) else None
    allocatable = count_of(node, resource)
    sharing = sharing_of(labels, allocatable, machine)
    if machine is not None:
        problem = contradiction(node, machine, resource, sharing)
    basis = _Basis(
        name=node.metadata.name,
        resource=resource,
        labels=labels,
        pods=tuple(sorted(sources.pods, key=lambda pod: pod.admission_order)),
        counts=NodeState(
            allocatable=allocatable,
            requested=sum(pod.demand.total for pod in sources.pods),
            product=product_of(labels),
            gpu_memory_bytes=labelled_memory_bytes(labels),
            table=None,
            indices=(),
            healthy=allocatable,
            free_sets=(),
            note="",
            kubelet=kubelet_of(labels, defaults.kubelet),
            sharing=sharing,
            physical=physical_gpus(labels, machine),
            slices=slices_of(labels, amounts_of(node), resource),
            pools=frozenset(name for name, workload_class in sources.classes.items() if workload_class.has_pool(labels)),
        ),
    )
    assumed = assumed_platform(labels, allocatable) if record is None and defaults.assume_from_product else None
    platform: str | None = None
    if assumed is not None:
        platform, machine = assumed
        record = TopologyRecord(node.metadata.name, machine)
    if machine is not None and problem is None and sharing not in (None, Sharing.NONE):
        return _shared_view(basis, machine, sources, defaults)
    if machine is None or problem is not None or not machine.gpus:
        note = f"topology unknown: {problem}" if problem else "topology unknown: no GpuTopology, using labels and counts"
        healthy = _healthy_without_topology(allocatable, telemetry)
        state = interned(replace(basis.counts, healthy=healthy, note=note, facts=facts_of(labels, None)))
        return NodeView(basis.name, state, basis.pods, problem)
    assert isinstance(record, TopologyRecord)
    return _view_with_topology(basis, record, platform, sources, defaults)


@dataclass(frozen=True, slots=True)
class _Basis:
    """What is known of a node without its topology."""

    name: str
    resource: str
    """The resource that counts GPUs."""
    labels: Mapping[str, str]
    pods: tuple[BoundPod, ...]
    """In the order of admission."""
    counts: NodeState
    """The state by labels and counts alone; not interned, `facts` and `note` missing."""


def _view_with_topology(
    basis: _Basis, record: TopologyRecord, platform: str | None, sources: NodeSources, defaults: NodeDefaults
) -> NodeView:
    """Return the view of a node with whole GPUs of known topology. `platform`: the name of the platform where it is assumed."""
    machine, telemetry, times = record.machine, sources.telemetry, sources.times
    gpu_count = len(machine.gpus)
    table = table_for(machine)
    stale = stale_since(record, times.now_seconds, defaults.most_status_age_seconds)
    kubelet = steered_kubelet(basis.counts.kubelet, record, basis.resource, stale is not None)
    sick = mask_of(machine.positions(sorted({index for index, _ in record.status.unhealthy}))) if record.status else 0
    fenced = fenced_positions(machine, telemetry)
    unusable = (sick | fenced).bit_count()
    withheld = fenced if gpu_count - basis.counts.allocatable >= unusable else 0
    fenced_but_offered = fenced & ~withheld & ~sick
    allocations = allocations_of(
        record,
        basis.pods,
        stale is not None,
        withheld=withheld,
        ended=sources.ended,
        monotonic_seconds=times.monotonic_seconds,
    )
    joined = joined_telemetry(machine, telemetry, allocations.known, times, defaults)
    without_telemetry = interned(
        replace(
            basis.counts,
            product=machine.gpus[0].product or basis.counts.product,
            gpu_memory_bytes=_memory_bytes(machine, basis.labels),
            table=table,
            indices=tuple(gpu.index for gpu in machine.gpus),
            healthy=min(basis.counts.allocatable, gpu_count - unusable),
            free_sets=free_sets_of(allocations, table, kubelet),
            note=_topology_note(record, platform, stale) + ("; devices are steered" if kubelet is not basis.counts.kubelet else ""),
            kubelet=kubelet,
            faults=faults_of(machine, joined),
            facts=facts_of(basis.labels, machine),
            usable=mask_of(range(gpu_count)) & ~(sick | fenced),
        )
    )
    return NodeView(
        name=basis.name,
        state=with_device_telemetry(without_telemetry, state_telemetry(joined, fenced_but_offered)),
        pods=basis.pods,
        known=allocations.known,
        disagreements=allocations.disagreements,
        stale_since_seconds=stale,
        machine=machine,
        fenced=fenced,
        fenced_but_offered=fenced_but_offered,
        telemetry_problems=joined.problems + telemetry.problems if joined and telemetry else (),
    )


def _memory_bytes(machine: Machine, labels: Mapping[str, str]) -> int | None:
    """Return the memory of the smallest GPU where all are known, else by label."""
    known = [gpu.memory_bytes for gpu in machine.gpus if gpu.memory_bytes is not None]
    return min(known) if len(known) == len(machine.gpus) else labelled_memory_bytes(labels)


def _topology_note(record: TopologyRecord, platform: str | None, stale: float | None) -> str:
    """Return the source of a topology, for people. `stale`: Unix time since when its status is too old."""
    if platform is not None:
        return f"topology assumed from product: {platform}; device use predicted"
    note = "topology from GpuTopology" + ("" if record.status else " without status: device use predicted")
    if stale is not None:
        return f"{note}; status stale since {datetime.fromtimestamp(stale, UTC):%Y-%m-%dT%H:%M:%SZ}: device use predicted"
    if record.status is not None and record.status.allocations_unknown is not None:
        return f"{note}; allocations unknown ({record.status.allocations_unknown}): device use predicted"
    return note


def _shared_view(basis: _Basis, machine: Machine, sources: NodeSources, defaults: NodeDefaults) -> NodeView:
    """Return the view of a node that offers MIG devices or replicas: no links, the memory of a MIG device or of the smallest GPU."""
    joined = joined_telemetry(machine, sources.telemetry, {}, sources.times, defaults)
    counts = basis.counts
    if counts.sharing is Sharing.MIG:
        memory_bytes = slice_memory_bytes(basis.labels, machine)
    else:
        known = [gpu.memory_bytes for gpu in machine.gpus if gpu.memory_bytes is not None]
        memory_bytes = min(known, default=labelled_memory_bytes(basis.labels))
    without_telemetry = interned(
        replace(
            counts,
            product=machine.gpus[0].product or counts.product,
            gpu_memory_bytes=memory_bytes,
            indices=tuple(gpu.index for gpu in machine.gpus),
            note=f"GPUs are shared by {counts.sharing}: {counts.allocatable} on offer of {len(machine.gpus)}",
            faults=faults_of(machine, joined),
            facts=facts_of(basis.labels, machine),
        )
    )
    state = with_device_telemetry(without_telemetry, state_telemetry(joined, 0))
    return NodeView(basis.name, state, basis.pods, telemetry_problems=joined.problems if joined else ())


def with_telemetry(view: NodeView, telemetry: NodeTelemetry | None, times: Times, defaults: NodeDefaults) -> NodeView | None:
    """Return the view with newer telemetry and all else unchanged.

    None where the view must be derived anew: the set of fenced devices changes, or the topology is unknown.
    """
    if view.machine is None or telemetry is None:
        return None
    joined = join(view.machine, telemetry, view.known, times.monotonic_seconds, defaults.tuning.max_age_seconds)
    if joined.faulty != view.fenced:
        return None
    problems = joined.problems + telemetry.problems
    state = with_device_telemetry(view.state.without_telemetry or view.state, state_telemetry(joined, view.fenced_but_offered))
    if faults_of(view.machine, joined) != state.faults:
        return None
    if state is view.state and problems == view.telemetry_problems:
        return view
    return replace(view, state=state, telemetry_problems=problems)


def joined_telemetry(
    machine: Machine, telemetry: NodeTelemetry | None, known: Mapping[str, tuple[int, ...]], times: Times, defaults: NodeDefaults
) -> Joined | None:
    """Return telemetry by position; None where there is none. `known`: pod key -> masks of the positions it holds."""
    return join(machine, telemetry, known, times.monotonic_seconds, defaults.tuning.max_age_seconds) if telemetry else None


def state_telemetry(joined: Joined | None, fenced_but_offered: int) -> DeviceTelemetry:
    return device_telemetry(joined.device_loads, fenced_but_offered, joined.stale) if joined else NO_TELEMETRY


def fenced_positions(machine: Machine, telemetry: NodeTelemetry | None) -> int:
    """Return the mask of the positions that telemetry has fenced."""
    if telemetry is None or not any(condition.fault for condition in telemetry.devices.values()):
        return 0
    return join(machine, telemetry, {}, None, 0.0).faulty


def faults_of(machine: Machine, joined: Joined | None) -> tuple[tuple[int, str, bool], ...]:
    """Return `NodeState.faults`."""
    if joined is None or not joined.faulty:
        return ()
    loads = [(machine.gpus[position].index, joined.device_loads[position]) for position in positions_of(joined.faulty)]
    return tuple((index, load.fault, load.xid) for index, load in loads if load and load.fault)


def _healthy_without_topology(allocatable: int, telemetry: NodeTelemetry | None) -> int:
    """Return the usable GPUs of a node whose devices are unknown: those that telemetry names, less the fenced ones."""
    if telemetry is None or not telemetry.devices:
        return allocatable
    seen = len({uuid for uuid, _ in telemetry.devices})
    return max(0, min(allocatable, seen - unplaced_faults(telemetry))) if seen >= allocatable else allocatable


def as_left(
    telemetry: NodeTelemetry, view: NodeView, leaving: Collection[str], then: Callable[[DeviceCondition], DeviceCondition]
) -> NodeTelemetry:
    """Return a node's telemetry after the pods with the keys `leaving` have left: `then` is applied to the devices that they held.

    For a pod whose devices are unknown, those are all devices that no remaining pod is known to hold.
    """
    if view.machine is None:
        return telemetry
    held = {key: union_of(masks) for key, masks in view.known.items()}
    left = 0
    for key in leaving:
        others = union_of(mask for other, mask in held.items() if other not in leaving)
        left |= held.get(key, mask_of(range(len(view.machine.gpus))) & ~others)
    gpus = [view.machine.gpus[position] for position in positions_of(left)]
    uuids, indices = {gpu.uuid for gpu in gpus if gpu.uuid}, {gpu.index for gpu in gpus if not gpu.uuid}
    devices = {
        device: then(condition) if device[0] in uuids or condition.reading.index in indices else condition
        for device, condition in telemetry.devices.items()
    }
    return replace(telemetry, devices=devices)


def stale_since(record: TopologyRecord | str | None, now_seconds: float | None, most_age_seconds: float | None) -> float | None:
    """Return the Unix time since when the record's status is too old to name allocations; None while it is fresh, or has no time."""
    status = record.status if isinstance(record, TopologyRecord) else None
    if status is None or status.observed_at_seconds is None or now_seconds is None or most_age_seconds is None:
        return None
    limit = status.observed_at_seconds + most_age_seconds
    return limit if now_seconds > limit else None
