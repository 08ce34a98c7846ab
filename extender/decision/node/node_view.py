"""The view of a node, derived from its Node object, its GpuTopology, its pods and its telemetry.

Kubernetes counts devices but does not say which. Where the agent's status or the pod's own status names the devices of a pod, those count;
for other bound pods they are predicted. So what is free is a distribution: masks of positions with probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from extender.decision.node.allocation.allocations import BoundPod, allocations_of
from extender.decision.node.allocation.free_sets import free_sets_of
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
from extender.decision.node.node_sources import NodeSources, stale_since
from extender.decision.node.node_state import NODE_DEFAULTS, NodeDefaults, NodeState, NodeView
from extender.decision.node.node_telemetry import (
    faults_of,
    fenced_positions,
    joined_telemetry,
    state_telemetry,
    usable_by_telemetry,
)
from extender.decision.node.steered_kubelet import steered_kubelet
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import Machine, mask_of
from topology.placement.shared_tables import table_for


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
        healthy = usable_by_telemetry(allocatable, telemetry)
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
