"""The shape of a machine for drawing: its vertices in columns, and its links. Pure.

Names use nvidia-smi indices; `Fabric.graph` has positions.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from topology.bandwidth.fabric import Fabric
from topology.bandwidth.wires import Wire, WireKind, nvlink, nvswitch_port, pcie_lanes, socket_link, uplink
from topology.machine.hardware import Machine


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


def vertices(machine: Machine, fabric: Fabric) -> tuple[Vertex, ...]:
    """Return the parts of a machine, in the order of `Fabric.graph`."""
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


def edges(machine: Machine, fabric: Fabric, faults: dict[int, str]) -> tuple[Edge, ...]:
    """Return the links of a machine. `faults`: nvidia-smi index -> why the GPU has fewer NVLinks than it should have."""
    names = _names(machine)
    position_of = {vertex_name(position): position for position in range(fabric.size)}
    drawn = []
    for first, second, link in fabric.graph.edges(data=True):
        ends = sorted((first, second), key=lambda name: fabric.graph.nodes[name]["kind"] != "gpu")
        gpus = sorted(position_of[name] for name in ends if name in position_of)
        wire = _wire(fabric, ends, gpus, link["kind"])
        links = _links(machine, gpus, wire)
        # An NVLink of two healthy GPUs is not degraded because a third one has fewer links than it should have.
        worse = [faults[index] for position in gpus if (index := machine.gpus[position].index) in faults] if links else []
        drawn.append(
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
    return tuple(drawn)


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


def _names(machine: Machine) -> dict[str, str]:
    """Name of a GPU's vertex in `Fabric.graph` -> its name here."""
    return {vertex_name(position): f"GPU {gpu.index}" for position, gpu in enumerate(machine.gpus)}


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
