"""A machine as a graph for drawing: its vertices in columns, its links, and what is known of each GPU. Pure.

Names use nvidia-smi indices; `Fabric.graph` has positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from extender.decision.node.node_state import NodeView
from extender.decision.report.live.cluster_rows import fabric_kind, topology_source
from extender.decision.report.live.device_states import Awaited, GpuState, gpu_states, held_by, unplaced_pods
from extender.telemetry.conditions import DeviceCondition, NodeTelemetry, Tuning
from topology.bandwidth.fabric import Fabric, assumptions, fabric_name
from topology.bandwidth.wires import Wire, WireKind, nvlink, nvswitch_port, pcie_lanes, socket_link, uplink
from topology.contradictions import contradictions
from topology.machine.hardware import Gpu, Machine
from topology.nvlink_faults import LinkFault, link_faults


class Vertex(msgspec.Struct, frozen=True):
    """One part of a machine."""

    id: str
    kind: str
    """gpu, nic, switch (of PCIe), nvswitch (all of them), or socket (a NUMA zone)."""
    label: str
    parent: str | None
    """The vertex that it is attached to by PCIe, one step nearer to the socket; None for a socket and for NVSwitches."""
    gpu: int | None
    """nvidia-smi index."""
    column: int | None
    """Place of a GPU in a drawing, from 0: GPUs of one switch are neighbours."""


class Edge(msgspec.Struct, frozen=True):
    """One link."""

    id: str
    kind: str
    """nvlink, pcie, or socket."""
    a: str
    b: str
    links: int | None
    """NVLinks."""
    gbps: float | None
    """GB/s per direction; None where unknown."""
    degraded: str | None
    """Why it has fewer NVLinks than it should have."""


class GpuMemory(msgspec.Struct, frozen=True):
    """Bytes; None where unknown."""

    total_bytes: int | None
    used_bytes: int | None = None
    known_pods_bytes: int | None = None
    unknown_bytes: int | None = None
    """Used by processes that Kubernetes does not know."""
    free_bytes: int | None = None


class GpuNow(msgspec.Struct, frozen=True):
    """One GPU now."""

    gpu: int
    vertex: str
    uuid: str | None
    product: str | None
    state: str
    """free, taken, assumed, excluded, or unknown."""
    state_why: str | None
    pods: tuple[str, ...]
    """namespace/name of the pods that hold it; where `pods_are_known` is False, those of the node that may."""
    pods_are_known: bool
    memory: GpuMemory
    temperature_celsius: float | None
    utilization: float | None
    """Share of time in which a kernel ran, 0 .. 1."""
    power_watts: float | None
    telemetry_age_seconds: float | None
    telemetry_is_stale: bool
    faults: tuple[str, ...]
    suspicions: tuple[str, ...]
    numa_node: int | None
    pci_bus_id: str | None
    missing_links: str | None
    """Why it has fewer NVLinks than it should have."""


class MachineGraph(msgspec.Struct, frozen=True):
    """The machine of a node."""

    node: str
    product: str | None
    fabric: str
    fabric_detail: str | None
    cpu_model: str | None
    topology: str
    topology_note: str
    drawable: bool
    why_not_drawable: str | None
    assumed_facts: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    vertices: tuple[Vertex, ...] = ()
    edges: tuple[Edge, ...] = ()
    gpus: tuple[GpuNow, ...] = ()


def machine_graph(
    view: NodeView,
    telemetry: NodeTelemetry | None,
    awaited: Sequence[Awaited],
    monotonic_seconds: float | None,
    tuning: Tuning,
    usable_memory_share: float,
) -> MachineGraph:
    """Return the machine of a node; not drawable where its topology is unknown or its GPUs are shared."""
    machine, table = view.machine, view.state.table
    detail = fabric_name(machine) if machine is not None and table is not None else None
    head = MachineGraph(
        node=view.name,
        product=view.state.product,
        fabric=fabric_kind(detail),
        fabric_detail=detail,
        cpu_model=machine.cpu_model if machine is not None else None,
        topology=topology_source(view),
        topology_note=view.state.note,
        drawable=detail is not None,
        why_not_drawable=None if detail is not None else view.problem or view.state.note,
    )
    if machine is None or table is None:
        return head
    fabric = table.fabric
    faults = _without_links_of_peers(machine) | {fault.index: _missing_links(fault) for fault in link_faults(machine)}
    return msgspec.structs.replace(
        head,
        assumed_facts=assumptions(machine, fabric),
        contradictions=tuple(contradiction.says for contradiction in contradictions(machine)),
        vertices=_vertices(machine, fabric),
        edges=_edges(machine, fabric, faults),
        gpus=_gpus(view, machine, _Readings(machine, telemetry, monotonic_seconds, tuning), awaited, usable_memory_share, faults),
    )


def drawing_order(fabric: Fabric) -> list[int]:
    """Return the positions in drawing order: GPUs of one switch next to each other, then those of one socket."""
    return sorted(
        range(fabric.size), key=lambda p: (*[min(q for q in range(fabric.size) if fabric.distance[p][q] <= d) for d in (4, 2, 1)], p)
    )


def vertices_above(fabric: Fabric, device: str) -> list[str]:
    """Return the vertices of `Fabric.graph` above a GPU or NIC, nearest first: its PCIe switches, then its socket."""
    chain, seen = [device], {device}
    while fabric.graph.nodes[chain[-1]]["kind"] != "socket":
        pcie = [v for v in fabric.graph[chain[-1]] if v not in seen and fabric.graph.nodes[v]["kind"] in ("switch", "socket")]
        if not pcie:
            break
        chain.append(min(pcie, key=lambda v: fabric.graph.nodes[v]["kind"] == "socket"))
        seen.add(chain[-1])
    return chain[1:]


def vertex_name(position: int) -> str:
    """Return the name of a GPU's vertex in `Fabric.graph`."""
    return f"GPU {position}"


def edge_id(machine: Machine, wire: Wire) -> str:
    """Return the id of the edge of a wire; it names GPUs by nvidia-smi index."""
    return wire.text(lambda position: machine.gpus[position].index)


def _missing_links(fault: LinkFault) -> str:
    return f"GPU {fault.index} has {fault.up} of {fault.expected} NVLinks up: {fault.witness}"


def _without_links_of_peers(machine: Machine) -> dict[int, str]:
    """Return nvidia-smi index -> a sentence, for GPUs without any NVLink where most GPUs of their product in the machine have some.

    That is no fault by itself (a card without a bridge works), but a reason why a pod is slow.
    """
    up = {gpu.index: (gpu.switch_links or 0) + sum(machine.nvlinks[position]) for position, gpu in enumerate(machine.gpus)}
    sentences = {}
    for gpu in machine.gpus:
        peers = [up[other.index] for other in machine.gpus if other.product == gpu.product and other is not gpu]
        linked = [links for links in peers if links]
        if not up[gpu.index] and not gpu.mig_enabled and 2 * len(linked) > len(peers):
            number = f"{len(linked)} of the other {len(peers)} GPUs have up to {max(linked)}"
            sentences[gpu.index] = f"GPU {gpu.index} has no NVLink up, and {number}: is a bridge missing?"
    return sentences


def _names(machine: Machine) -> dict[str, str]:
    """Name of a GPU's vertex in `Fabric.graph` -> its name here."""
    return {vertex_name(position): f"GPU {gpu.index}" for position, gpu in enumerate(machine.gpus)}


def _vertices(machine: Machine, fabric: Fabric) -> tuple[Vertex, ...]:
    names, index_of = _names(machine), {vertex_name(position): gpu.index for position, gpu in enumerate(machine.gpus)}
    column_of = {vertex_name(position): column for column, position in enumerate(drawing_order(fabric))}
    parents: dict[str, str] = {}
    kinds: dict[str, str] = {name: fabric.graph.nodes[name]["kind"] for name in fabric.graph}
    for name, kind in kinds.items():
        if kind in ("gpu", "nic"):
            chain = [name, *vertices_above(fabric, name)]
            parents |= {below: above for below, above in pairwise(chain) if below not in parents}
    return tuple(
        Vertex(
            id=names.get(name, name),
            kind=kind,
            label=f"PCIe {name}" if kind == "switch" else names.get(name, name),
            parent=parents.get(name),
            gpu=index_of.get(name),
            column=column_of.get(name),
        )
        for name, kind in kinds.items()
    )


def _edges(machine: Machine, fabric: Fabric, faults: dict[int, str]) -> tuple[Edge, ...]:
    names = _names(machine)
    position_of = {vertex_name(position): position for position in range(fabric.size)}
    edges = []
    for first, second, link in fabric.graph.edges(data=True):
        ends = sorted((first, second), key=lambda name: fabric.graph.nodes[name]["kind"] != "gpu")
        gpus = sorted(position_of[name] for name in ends if name in position_of)
        wire = _wire(fabric, ends, gpus, link["kind"])
        links = _links(machine, gpus, wire)
        # An NVLink of two healthy GPUs is not degraded because a third one has fewer links than it should have.
        worse = [faults[index] for position in gpus if (index := machine.gpus[position].index) in faults] if links else []
        edges.append(
            Edge(
                id=edge_id(machine, wire) if wire is not None else f"{names.get(ends[0], ends[0])} - {names.get(ends[1], ends[1])}",
                kind=link["kind"],
                a=names.get(ends[0], ends[0]),
                b=names.get(ends[1], ends[1]),
                links=links,
                gbps=link["gbps"],
                degraded="; ".join(worse) or None,
            )
        )
    return tuple(edges)


def _wire(fabric: Fabric, ends: list[str], gpus: list[int], kind: str) -> Wire | None:
    """Return the wire of an edge; None where none limits traffic, as above a NIC."""
    if kind == "nvlink":
        return nvlink(*gpus) if len(gpus) == 2 else nvswitch_port(gpus[0])
    if kind == "socket":
        return socket_link(*sorted(ends))
    if gpus:
        return pcie_lanes(gpus[0])
    lower = next((end for end in ends if uplink(end).name in fabric.wires and end != _upper(fabric, ends)), None)
    return None if lower is None else uplink(lower)


def _upper(fabric: Fabric, ends: list[str]) -> str:
    """The end of a PCIe edge that is nearer to the socket."""
    return min(ends, key=lambda end: len(vertices_above(fabric, end)))


def _links(machine: Machine, gpus: list[int], wire: Wire | None) -> int | None:
    if wire is not None and wire.kind is WireKind.NVLINK:
        return machine.nvlinks[gpus[0]][gpus[1]]
    return machine.gpus[gpus[0]].switch_links if wire is not None and wire.kind is WireKind.NVSWITCH_PORT else None


class _Readings:
    """The newest telemetry of each GPU of a machine."""

    def __init__(self, machine: Machine, telemetry: NodeTelemetry | None, monotonic_seconds: float | None, tuning: Tuning) -> None:
        conditions = [condition for (_, instance), condition in (telemetry.devices.items() if telemetry else ()) if instance is None]
        self._by_uuid = {condition.reading.uuid: condition for condition in conditions}
        self._by_index = {condition.reading.index: condition for condition in conditions}
        self._monotonic_seconds, self._tuning = monotonic_seconds, tuning

    def of(self, gpu: Gpu) -> DeviceCondition | None:
        """Return the condition of a GPU; None without telemetry."""
        return self._by_uuid.get(gpu.uuid) if gpu.uuid else self._by_index.get(gpu.index)

    def age_seconds(self, condition: DeviceCondition | None) -> float | None:
        """Return the age of a reading; None without one, or where time does not pass."""
        if condition is None or self._monotonic_seconds is None:
            return None
        return round(max(0.0, self._monotonic_seconds - condition.seen_seconds), 1)

    def is_stale(self, condition: DeviceCondition | None) -> bool:
        """Whether there is a reading, and it is too old to count."""
        age = self.age_seconds(condition)
        return age is not None and age > self._tuning.max_age_seconds


def _gpus(
    view: NodeView, machine: Machine, readings: _Readings, awaited: Sequence[Awaited], usable_memory_share: float, faults: dict[int, str]
) -> tuple[GpuNow, ...]:
    states, unplaced = gpu_states(view, awaited, usable_memory_share), unplaced_pods(view)
    fault_of = {index: why for index, why, _ in view.state.faults}
    gpus = []
    for position, gpu in enumerate(machine.gpus):
        state = states.states[position] if states.by_position else GpuState.UNKNOWN
        holders, condition = held_by(view, position), readings.of(gpu)
        reading = condition.reading if condition is not None else None
        gpus.append(
            GpuNow(
                gpu=gpu.index,
                vertex=f"GPU {gpu.index}",
                uuid=gpu.uuid,
                product=gpu.product,
                state=str(state),
                state_why=states.why.get(position),
                pods=tuple(holders or (unplaced if state is GpuState.UNKNOWN else ())),
                pods_are_known=bool(holders) or state is not GpuState.UNKNOWN,
                memory=_memory(gpu, condition, bool(holders), state, may_be_held=bool(unplaced)),
                temperature_celsius=reading.temperature_celsius if reading else None,
                utilization=reading.utilization if reading else None,
                power_watts=reading.power_watts if reading else None,
                telemetry_age_seconds=readings.age_seconds(condition),
                telemetry_is_stale=readings.is_stale(condition),
                faults=(fault_of[gpu.index],) if gpu.index in fault_of else (),
                suspicions=condition.suspicions if condition is not None else (),
                numa_node=gpu.numa_node,
                pci_bus_id=gpu.pci_bus_id,
                missing_links=faults.get(gpu.index),
            )
        )
    return tuple(gpus)


def _memory(gpu: Gpu, condition: DeviceCondition | None, is_held: bool, state: GpuState, may_be_held: bool) -> GpuMemory:
    """Return the memory of a GPU. What a pod that holds it uses, and what other processes use beside it, is not told apart."""
    reading = condition.reading if condition is not None else None
    total = reading.fb_total_bytes if reading is not None and reading.fb_total_bytes else gpu.memory_bytes
    if reading is None or reading.fb_used_bytes is None:
        return GpuMemory(total)
    used, free = reading.fb_used_bytes, reading.fb_free_bytes
    if is_held:
        return GpuMemory(total, used, used, 0, free)
    if state is GpuState.UNKNOWN or (may_be_held and state is not GpuState.FREE):
        return GpuMemory(total, used, None, None, free)
    return GpuMemory(total, used, 0, used, free)
