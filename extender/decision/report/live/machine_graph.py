"""A machine as a graph for drawing: its shape, and what is known of each GPU. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extender.decision.node.node_state import NodeView
from extender.decision.report.live.cluster_rows import fabric_kind, topology_source
from extender.decision.report.live.device_states import Awaited
from extender.decision.report.live.gpus_now import GpuNow, Readings, gpus_now
from extender.decision.report.live.machine_shape import Edge, Vertex, edges, vertices
from extender.telemetry.conditions import NodeTelemetry, Tuning
from topology.bandwidth.fabric import assumptions, fabric_name
from topology.contradictions import contradictions
from topology.machine.hardware import Machine
from topology.nvlink_faults import LinkFault, link_faults


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
        vertices=vertices(machine, fabric),
        edges=edges(machine, fabric, faults),
        gpus=gpus_now(view, machine, Readings(machine, telemetry, monotonic_seconds, tuning), awaited, usable_memory_share, faults),
    )


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
