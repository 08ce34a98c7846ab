"""The view of a node by either source of its devices: the device plugin, or ResourceSlices (Dynamic Resource Allocation).

On a node with ResourceSlices kube-scheduler chooses the devices itself. Claims state which pod holds which; a bound pod whose claim is not
seen yet is predicted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from extender.decision.dra.dra_node import DraNode, dra_node
from extender.decision.dra.dra_state import DraState
from extender.decision.node.allocation.allocations import Allocations, BoundPod
from extender.decision.node.allocation.free_sets import free_sets_of
from extender.decision.node.devices.gpu_sharing import Sharing
from extender.decision.node.interned_states import interned, with_device_telemetry
from extender.decision.node.node_labels import count_of, facts_of, labelled_memory_bytes, product_of
from extender.decision.node.node_sources import NodeSources
from extender.decision.node.node_state import NODE_DEFAULTS, NodeDefaults, NodeState, NodeView
from extender.decision.node.node_telemetry import faults_of, fenced_positions, joined_telemetry, state_telemetry
from extender.decision.node.node_view import node_view
from extender.decision.request.kubernetes_objects import Node
from topology.devices.prediction import Kubelet
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import MAX_GPUS, Machine, mask_of, union_of
from topology.placement.shared_tables import table_for


def dra_of(
    dra: DraState,
    node: Node,
    record: TopologyRecord | str | None,
    resource: str,
    leaving: Collection[str] = (),
    ended: Collection[str] = (),
) -> DraNode | None:
    """Return a node's GPUs where Dynamic Resource Allocation serves them; None elsewhere.

    It serves them where the node's allocatable has none of `resource`, and its slices name some GPUs.
    Source: kubernetes 1.36 `plugins/dynamicresources/extendeddynamicresources.go` (filterExtendedResources).
    `leaving`: uids of pods that are taken as gone. `ended`: uids of pods that are gone or terminate now.
    """
    name = node.metadata.name
    devices = dra.devices_of(name)
    if (not devices.devices and not devices.doubtful) or count_of(node, resource):
        return None
    machine = record.machine if isinstance(record, TopologyRecord) else None
    on_node = dra_node(devices, dra.held_on(name), dra.class_of(resource), machine, leaving, ended, dra.mapped)
    has_gpus = bool(on_node.order) or any(bit < MAX_GPUS for bit in on_node.bits.values())
    return on_node if has_gpus or on_node.unknown is not None else None


def view_of(sources: NodeSources, resource: str, defaults: NodeDefaults = NODE_DEFAULTS) -> NodeView:
    """Return the view of a node, by its ResourceSlices where `sources.dra` has them."""
    if sources.dra is not None:
        return _dra_view(sources, sources.dra, defaults)
    # A pod with claims alone holds nothing that a device plugin assigns.
    return node_view(replace(sources, pods=tuple(pod for pod in sources.pods if pod.demand.total)), resource, defaults)


def _dra_view(sources: NodeSources, dra: DraNode, defaults: NodeDefaults) -> NodeView:
    labels, machine, record = sources.node.metadata.labels or {}, dra.machine, sources.record
    kubelet, telemetry = Kubelet(order=dra.order), sources.telemetry
    pods = tuple(sorted(sources.pods, key=lambda pod: pod.admission_order))
    status = record.status if isinstance(record, TopologyRecord) and dra.source == "GpuTopology" else None
    offered = mask_of([bit for bit in dra.bits.values() if bit < MAX_GPUS])
    sick = dra.tainted | (mask_of(machine.positions(sorted({index for index, _ in status.unhealthy}))) if status else 0)
    known = {pod.key: masks for pod in pods if (masks := _held_by(pod, dra))}
    pods = tuple(_with_held_devices(pod, known.get(pod.key, ())) for pod in pods)
    predicted = tuple(pod for pod in pods if pod.demand.total and pod.key not in known)
    table = table_for(machine) if dra.source and machine.gpus else None
    fenced = fenced_positions(machine, telemetry) if table is not None else 0
    fit = offered & ~sick
    leaving = tuple(mask & fit for mask in dra.ending if mask & fit)
    allocations = Allocations(fit & ~dra.held, known, predicted, leaving=leaving)
    unavailable = dra.held if table is not None else dra.held | sick
    joined = joined_telemetry(machine, telemetry, known, sources.times, defaults) if table is not None else None
    usable = offered & ~(sick | fenced)
    without_telemetry = interned(
        NodeState(
            allocatable=offered.bit_count(),
            requested=(unavailable & offered).bit_count() + sum(pod.demand.total for pod in predicted),
            product=(machine.gpus[0].product if machine.gpus else None) or product_of(labels),
            gpu_memory_bytes=_memory_bytes(machine) or labelled_memory_bytes(labels),
            table=table,
            indices=tuple(gpu.index for gpu in machine.gpus),
            healthy=usable.bit_count(),
            free_sets=free_sets_of(allocations, table, kubelet) if table is not None else (),
            note=_note(dra, record),
            kubelet=kubelet,
            faults=faults_of(machine, joined),
            facts=facts_of(labels, machine),
            sharing=Sharing.NONE,
            physical=len(machine.gpus),
            pools=frozenset(name for name, workload_class in sources.classes.items() if workload_class.has_pool(labels)),
            usable=usable,
            unjudged=dra.unknown,
        )
    )
    fenced_but_offered = fenced & offered & ~sick
    return NodeView(
        name=sources.node.metadata.name,
        state=with_device_telemetry(without_telemetry, state_telemetry(joined, fenced_but_offered)),
        pods=pods,
        problem=record if isinstance(record, str) else None,
        known=known,
        machine=machine if table is not None else None,
        fenced=fenced,
        fenced_but_offered=fenced_but_offered,
        telemetry_problems=joined.problems + telemetry.problems if joined and telemetry else (),
        dra=dra,
    )


def _held_by(pod: BoundPod, dra: DraNode) -> tuple[int, ...]:
    """Return the masks of the positions that claims hold for a pod, one per claim.

    A claim names its pods; one that names none belongs to the pod whose status names it.
    """
    return (*dra.by_pod.get(pod.key, ()), *dra.by_pod.get(f"claim {pod.extended_claim}", ()))


def _memory_bytes(machine: Machine) -> int | None:
    """Return the memory of the smallest GPU; None where that of any is unknown."""
    known = [gpu.memory_bytes for gpu in machine.gpus if gpu.memory_bytes is not None]
    return min(known) if known and len(known) == len(machine.gpus) else None


def _with_held_devices(pod: BoundPod, masks: tuple[int, ...]) -> BoundPod:
    """Return a pod with claims alone as one that requests what its claims hold; other pods unchanged."""
    if pod.demand.total or not masks:
        return pod
    steps = tuple((mask.bit_count(), False) for mask in masks)
    return replace(pod, demand=replace(pod.demand, steps=steps, total=union_of(masks).bit_count()))


def _note(dra: DraNode, record: TopologyRecord | str | None) -> str:
    """Return the source of the topology, for people."""
    if dra.source == "GpuTopology":
        return "topology from GpuTopology, devices from ResourceSlices"
    if dra.source:
        return f"topology assumed from product: {dra.source}, devices from ResourceSlices"
    why = record if isinstance(record, str) else "no GpuTopology" if record is None else "GpuTopology and ResourceSlices differ"
    return f"topology unknown: {why}, devices from ResourceSlices"
