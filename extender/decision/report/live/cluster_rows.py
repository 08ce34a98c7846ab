"""The cluster as rows for people: one compact row per node with GPUs, and their totals. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from weakref import WeakKeyDictionary

import msgspec

from extender.decision.node.devices.gpu_sharing import Sharing
from extender.decision.node.node_state import NodeView
from extender.decision.report.live.device_states import Awaited, GpuState, gpu_states
from extender.decision.request.kubernetes_objects import Node
from topology.bandwidth.fabric import fabric_name
from topology.machine.hardware import Machine
from topology.placement.placement_table import PlacementTable

POOL_LABELS = (
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
    "agentpool",
    "node-pool",
    "nodepool",
)
"""Labels that name a node's pool, of which the first that a node has counts: Karpenter's, those of three clouds, and usual own ones."""

ZONE_LABELS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")

PRESSURE_STEPS = 20
"""A row has the pressure in so many steps, so that small changes change no row."""


class NodeRow(msgspec.Struct, frozen=True, gc=False):
    """One node in a list."""

    name: str
    product: str | None
    gpu_memory_bytes: int | None
    fabric: str
    """NVSwitch, NVLink mesh, NVLink bridges, PCIe, or unknown."""
    fabric_detail: str | None
    """Such as `NVSwitch NV18`."""
    gpus: int
    """GPUs, or the units on offer where GPUs are shared; the sum of the five numbers that follow."""
    free: int
    taken: int
    assumed: int
    excluded: int
    unknown: int
    """Held by pods whose devices are only predicted."""
    states: str
    """One letter per GPU: f free, t taken, a assumed, x excluded, ? unknown."""
    states_by_position: bool
    """Whether the letters are in the machine's order; else only their numbers are known."""
    pressure: float | None
    """0 (idle) .. 1: the mean of the GPUs with telemetry; None where none has fresh telemetry."""
    pods: int
    """Pods that hold GPUs."""
    problems: int
    topology: str
    """reported, assumed (from the product), contradicted, unknown, or shared."""
    topology_note: str
    sharing: str | None
    zone: str | None
    pool: str | None
    schedulable: bool
    why_unschedulable: str | None
    """cordoned, or not ready."""


class Totals(msgspec.Struct, frozen=True, gc=False):
    """The sums over all rows."""

    nodes: int = 0
    gpus: int = 0
    free: int = 0
    taken: int = 0
    assumed: int = 0
    excluded: int = 0
    unknown: int = 0


def node_row(view: NodeView, node: Node, awaited: Sequence[Awaited], notes: int, usable_memory_share: float) -> NodeRow:
    """Return the row of a node.

    `awaited`: its assumed pods that are not seen there yet. `notes`: objects of the node that are set aside because of an error.
    """
    state, labels = view.state, node.metadata.labels or {}
    gpus = gpu_states(view, awaited, usable_memory_share)
    detail = _fabric_name(state.table, view.machine) if state.table is not None and view.machine is not None else None
    sick = sum(1 for position in range(len(state.indices)) if not state.usable >> position & 1) if gpus.by_position else len(state.faults)
    problems = sick + len(view.disagreements) + len(view.telemetry_problems) + notes
    problems += (view.problem is not None) + (view.stale_since_seconds is not None)
    why = _why_unschedulable(node)
    return NodeRow(
        name=view.name,
        product=state.product,
        gpu_memory_bytes=state.gpu_memory_bytes,
        fabric=fabric_kind(detail),
        fabric_detail=detail,
        gpus=len(gpus.states),
        free=gpus.count(GpuState.FREE),
        taken=gpus.count(GpuState.TAKEN),
        assumed=gpus.count(GpuState.ASSUMED),
        excluded=gpus.count(GpuState.EXCLUDED),
        unknown=gpus.count(GpuState.UNKNOWN),
        states=gpus.letters,
        states_by_position=gpus.by_position,
        pressure=_pressure(view),
        pods=len(view.pods),
        problems=problems,
        topology=topology_source(view),
        topology_note=state.note,
        sharing=None if state.sharing in (None, Sharing.NONE) else str(state.sharing),
        zone=_first(labels, ZONE_LABELS),
        pool=_first(labels, POOL_LABELS),
        schedulable=why is None,
        why_unschedulable=why,
    )


def totals_of(rows: Iterable[NodeRow]) -> Totals:
    """Return the sums over rows."""
    nodes = gpus = free = taken = assumed = excluded = unknown = 0
    for row in rows:
        nodes += 1
        gpus += row.gpus
        free += row.free
        taken += row.taken
        assumed += row.assumed
        excluded += row.excluded
        unknown += row.unknown
    return Totals(nodes, gpus, free, taken, assumed, excluded, unknown)


def topology_source(view: NodeView) -> str:
    """Return where a node's topology comes from, in one word; see `NodeRow.topology`."""
    if view.problem is not None:
        return "contradicted"
    if view.state.sharing not in (None, Sharing.NONE):
        return "shared"
    if view.state.table is None:
        return "unknown"
    return "assumed" if "assumed from product" in view.state.note else "reported"


def fabric_kind(detail: str | None) -> str:
    """Return the kind of a fabric by its name (`topology.bandwidth.fabric.fabric_name`); None: unknown."""
    if detail is None:
        return "unknown"
    if detail.startswith("NVSwitch"):
        return "NVSwitch"
    if detail == "PCIe":
        return "PCIe"
    return "NVLink mesh" if detail.endswith("mesh") else "NVLink bridges"


_NAMES: WeakKeyDictionary[PlacementTable, str] = WeakKeyDictionary()
"""The names of fabrics. A cache: equal nodes share their table."""


def _fabric_name(table: PlacementTable, machine: Machine) -> str:
    name = _NAMES.get(table)
    if name is None:
        name = _NAMES[table] = fabric_name(machine)
    return name


def _pressure(view: NodeView) -> float | None:
    known = [own for own in view.state.load_by_gpu.own if own is not None]
    return round(round(sum(known) / len(known) * PRESSURE_STEPS) / PRESSURE_STEPS, 2) if known else None


def _first(labels: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((labels[name] for name in names if labels.get(name)), None)


def _why_unschedulable(node: Node) -> str | None:
    if node.spec is not None and node.spec.unschedulable:
        return "cordoned"
    conditions = node.status.conditions or () if node.status is not None else ()
    return "not ready" if any(each.type == "Ready" and each.status != "True" for each in conditions) else None
