"""A node's view, out of what Kubernetes, its agent, its pods and telemetry say of it.

Kubernetes counts devices but does not say which. Where the agent's status names a pod's devices they are taken from
there; for a bound pod it does not name yet, the devices are predicted, so that what is free is a *belief*: masks of
positions with probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

from extender.decision.beliefs import beliefs_of, taken
from extender.decision.classes import Classes
from extender.decision.cluster import NODE_DEFAULTS, NodeDefaults, NodeFacts, NodeState, NodeView, Snapshot
from extender.decision.demand import Demand
from extender.decision.dra.node import DraNode, dra_node
from extender.decision.dra.state import DraState
from extender.decision.ended import EndedPod
from extender.decision.holdings import BoundPod, Holdings, holdings, released
from extender.decision.node_labels import (
    amounts_of,
    assumed_platform,
    contradiction,
    count_of,
    facts_of,
    kubelet_of,
    labelled_memory_bytes,
    product_of,
)
from extender.decision.objects import Node
from extender.decision.pressure import NO_BURDEN, burden
from extender.decision.sharing import Sharing, Slice, physical_gpus, sharing_of, slice_memory_bytes, slices_of
from extender.decision.standing import NOTHING, Joined, Live, join, live, unplaced_faults
from extender.telemetry.conditions import DeviceCondition, NodeTelemetry, emptied
from topology.hardware import MAX_GPUS, Machine, mask_of, positions_of, union_of
from topology.placement import PlacementTable, table_for
from topology.prediction import Asks, Kubelet
from topology.record import TopologyRecord


@dataclass(frozen=True, slots=True)
class Times:
    """Now, on both clocks; None where time does not pass, as in a dump."""

    now_seconds: float | None = None
    """Unix time."""
    steady_seconds: float | None = None
    """A clock that never goes back."""


NO_TIMES = Times()
NO_CLASSES: Classes = {}


def node_view(
    node: Node,
    record: TopologyRecord | str | None,
    pods: tuple[BoundPod, ...],
    resource: str,
    defaults: NodeDefaults = NODE_DEFAULTS,
    times: Times = NO_TIMES,
    telemetry: NodeTelemetry | None = None,
    classes: Classes = NO_CLASSES,
    ended: tuple[EndedPod, ...] = (),
    dra: DraNode | None = None,
) -> NodeView:
    """Derive a node's view from its sources. A topology that contradicts its node is set aside, and said so.

    A node without any is judged as the known platform of its product and GPU count, where there is just one.
    `ended`: pods that the topology's status may still name although they have ended. `dra`: its GPUs, where Dynamic Resource Allocation
    serves them.
    """
    pods = tuple(sorted(pods, key=lambda pod: pod.turn))
    if dra is not None:
        return _dra_view(node, record, dra, pods, defaults, times, telemetry, classes)
    pods = tuple(pod for pod in pods if pod.demand.total)  # a pod with claims alone holds nothing that a device plugin hands out
    problem = record if isinstance(record, str) else None
    machine = record.machine if isinstance(record, TopologyRecord) else None
    allocatable = count_of(node, resource)
    requested = sum(pod.demand.total for pod in pods)
    labels = node.metadata.labels or {}
    sharing = sharing_of(labels, allocatable, machine)
    if machine is not None:
        problem = contradiction(node, machine, resource, sharing)
    offer = _Offer(sharing, physical_gpus(labels, machine), slices_of(labels, amounts_of(node), resource), _pools(labels, classes))
    kubelet = kubelet_of(labels, defaults.kubelet)
    assumed = assumed_platform(labels, allocatable) if record is None and defaults.assume_from_product else None
    if assumed is not None:
        platform, machine = assumed
        record = TopologyRecord(node.metadata.name, machine)
    if machine is not None and problem is None and sharing not in (None, Sharing.NONE):
        return _shared_view(node, machine, pods, allocatable, requested, kubelet, offer, telemetry, times, defaults)
    if machine is None or problem is not None or not machine.gpus:
        note = f"topology unknown: {problem}" if problem else "topology unknown: no GpuTopology, using labels and counts"
        healthy = _healthy_without_topology(allocatable, telemetry)
        state = _shared(
            allocatable,
            requested,
            product_of(labels),
            labelled_memory_bytes(labels),
            None,
            (),
            healthy,
            (),
            note,
            kubelet,
            (),
            facts_of(labels, None),
            offer,
        )
        return NodeView(node.metadata.name, state, pods, problem)
    assert isinstance(record, TopologyRecord)
    table = table_for(machine)
    memories = [gpu.memory_bytes for gpu in machine.gpus if gpu.memory_bytes is not None]
    memory = min(memories) if len(memories) == len(machine.gpus) else labelled_memory_bytes(labels)
    sick = mask_of(machine.positions(sorted({index for index, _ in record.status.unhealthy}))) if record.status else 0
    note = "topology from GpuTopology" + ("" if record.status else " without status: device use predicted")
    stale = stale_since(record, times.now_seconds, defaults.most_status_age_seconds)
    if stale is not None:
        note += f"; status stale since {datetime.fromtimestamp(stale, UTC):%Y-%m-%dT%H:%M:%SZ}: device use predicted"
    elif record.status is not None and record.status.allocations_unknown is not None:
        note += f"; allocations unknown ({record.status.allocations_unknown}): device use predicted"
    if assumed is not None:
        note = f"topology assumed from product: {platform}; device use predicted"
    fenced = _fenced(machine, telemetry)
    withheld = fenced if len(machine.gpus) - allocatable >= (sick | fenced).bit_count() else 0
    held = holdings(record, pods, stale is not None, withheld, ended, times.steady_seconds)
    healthy = min(allocatable, len(machine.gpus) - (sick | fenced).bit_count())
    joined = join(machine, telemetry, held.known, times.steady_seconds, defaults.tuning.max_age_seconds) if telemetry else None
    bare = _shared(
        allocatable, requested, machine.gpus[0].product or product_of(labels), memory, table,
        tuple(gpu.index for gpu in machine.gpus), healthy, beliefs_of(held, table, kubelet), note, kubelet, _faults(machine, joined),
        facts_of(labels, machine), offer, mask_of(range(len(machine.gpus))) & ~(sick | fenced),
    )  # fmt: skip
    state = _lively(bare, _live(joined, fenced & ~withheld & ~sick))
    problems = joined.problems + telemetry.problems if joined and telemetry else ()
    return NodeView(
        node.metadata.name, state, pods, None, held.known, held.disagreements, stale, machine, fenced, fenced & ~withheld & ~sick, problems
    )


@dataclass(frozen=True, slots=True)
class _Offer:
    """What a node's GPUs are offered as."""

    sharing: Sharing | None
    physical: int | None
    slices: tuple[Slice, ...]
    pools: frozenset[str]


def _pools(labels: Mapping[str, str], classes: Classes) -> frozenset[str]:
    return frozenset(name for name, one in classes.items() if one.has_pool(labels))


def _shared_view(
    node: Node, machine: Machine, pods: tuple[BoundPod, ...], allocatable: int, requested: int, kubelet: Kubelet, offer: _Offer,
    telemetry: NodeTelemetry | None, times: Times, defaults: NodeDefaults,
) -> NodeView:  # fmt: skip
    """A node whose units are slices or turns: links are not judged, memory is the slice's or, live, the card's."""
    labels = node.metadata.labels or {}
    joined = join(machine, telemetry, {}, times.steady_seconds, defaults.tuning.max_age_seconds) if telemetry else None
    cards = [gpu.memory_bytes for gpu in machine.gpus if gpu.memory_bytes is not None]
    memory = slice_memory_bytes(labels, machine) if offer.sharing is Sharing.MIG else min(cards, default=labelled_memory_bytes(labels))
    note = f"GPUs are shared by {offer.sharing}: {allocatable} on offer of {len(machine.gpus)}"
    bare = _shared(
        allocatable, requested, machine.gpus[0].product or product_of(labels), memory, None, tuple(gpu.index for gpu in machine.gpus),
        allocatable, (), note, kubelet, _faults(machine, joined), facts_of(labels, machine), offer,
    )  # fmt: skip
    state = _lively(bare, _live(joined, 0))
    return NodeView(node.metadata.name, state, pods, None, telemetry_problems=joined.problems if joined else ())


def dra_of(
    dra: DraState,
    node: Node,
    record: TopologyRecord | str | None,
    resource: str,
    leaving: Collection[str] = (),
    ended: Collection[str] = (),
) -> DraNode | None:
    """The node's GPUs where Dynamic Resource Allocation serves them: its allocatable has none of the resource, and its slices name some.

    Source: kubernetes 1.36 `plugins/dynamicresources/extendeddynamicresources.go` (filterExtendedResources).
    `leaving`: uids of pods that are taken as gone. `ended`: uids of pods that are gone or end now.
    """
    name = node.metadata.name
    devices = dra.devices_of(name)
    if (not devices.devices and not devices.is_incomplete) or count_of(node, resource):
        return None
    machine = record.machine if isinstance(record, TopologyRecord) else None
    found = dra_node(devices, dra.held_on(name), dra.class_of(resource), machine, leaving, ended)
    has_gpus = bool(found.order) or any(bit < MAX_GPUS for bit in found.bits.values())
    return found if has_gpus or found.unknown is not None else None


def _dra_view(
    node: Node, record: TopologyRecord | str | None, dra: DraNode, pods: tuple[BoundPod, ...], defaults: NodeDefaults, times: Times,
    telemetry: NodeTelemetry | None, classes: Classes,
) -> NodeView:  # fmt: skip
    """A node whose devices kube-scheduler chooses itself: claims say who holds which; a pod whose claim is not seen yet is predicted."""
    labels, machine = node.metadata.labels or {}, dra.machine
    name, kubelet = node.metadata.name, Kubelet(order=dra.order)
    by_agent = record.status if isinstance(record, TopologyRecord) and dra.source == "GpuTopology" else None
    offered = mask_of([bit for bit in dra.bits.values() if bit < MAX_GPUS])
    sick = dra.tainted | (mask_of(machine.positions(sorted({index for index, _ in by_agent.unhealthy}))) if by_agent else 0)
    known = {pod.key: dra.by_pod[pod.key] for pod in pods if pod.key in dra.by_pod}
    pods = tuple(_as_held(pod, known.get(pod.key, ())) for pod in pods)
    predicted = tuple(pod for pod in pods if pod.demand.total and pod.key not in known)
    table = table_for(machine) if dra.source and machine.gpus else None
    fenced = _fenced(machine, telemetry) if table is not None else 0
    fit = offered & ~sick
    held = Holdings(fit & ~dra.held, known, predicted, leaving=tuple(mask & fit for mask in dra.ending if mask & fit))
    unavailable = dra.held if table is not None else dra.held | sick
    requested = (unavailable & offered).bit_count() + sum(pod.demand.total for pod in predicted)
    memories = [gpu.memory_bytes for gpu in machine.gpus if gpu.memory_bytes is not None]
    memory = min(memories) if memories and len(memories) == len(machine.gpus) else labelled_memory_bytes(labels)
    joined = join(machine, telemetry, known, times.steady_seconds, defaults.tuning.max_age_seconds) if telemetry and table else None
    product = (machine.gpus[0].product if machine.gpus else None) or product_of(labels)
    offer = _Offer(Sharing.NONE, len(machine.gpus), (), _pools(labels, classes))
    bare = _shared(
        offered.bit_count(), requested, product, memory, table, tuple(gpu.index for gpu in machine.gpus),
        (offered & ~(sick | fenced)).bit_count(), beliefs_of(held, table, kubelet) if table is not None else (), _dra_note(dra, record),
        kubelet, _faults(machine, joined), facts_of(labels, machine), offer, offered & ~(sick | fenced), dra.unknown,
    )  # fmt: skip
    shunned = fenced & offered & ~sick
    state = _lively(bare, _live(joined, shunned))
    problems = joined.problems + telemetry.problems if joined and telemetry else ()
    return NodeView(
        name, state, pods, record if isinstance(record, str) else None, known, (), None, machine if table is not None else None, fenced,
        shunned, problems, dra,
    )  # fmt: skip


def _as_held(pod: BoundPod, masks: tuple[int, ...]) -> BoundPod:
    """A pod with claims alone asks for what its claims hold."""
    if pod.demand.total or not masks:
        return pod
    sizes = tuple(mask.bit_count() for mask in masks)
    return replace(pod, demand=replace(pod.demand, steps=tuple((size, False) for size in sizes), total=union_of(masks).bit_count()))


def _dra_note(dra: DraNode, record: TopologyRecord | str | None) -> str:
    if dra.source == "GpuTopology":
        return "topology from GpuTopology, devices from ResourceSlices"
    if dra.source:
        return f"topology assumed from product: {dra.source}, devices from ResourceSlices"
    why = record if isinstance(record, str) else "no GpuTopology" if record is None else "GpuTopology and ResourceSlices differ"
    return f"topology unknown: {why}, devices from ResourceSlices"


def with_telemetry(view: NodeView, telemetry: NodeTelemetry | None, times: Times, defaults: NodeDefaults) -> NodeView | None:
    """The view with newer telemetry and all else as it was; None where more than that must be derived anew: a device was fenced,
    or is free again, or the topology is unknown."""
    if view.machine is None or telemetry is None:
        return None
    joined = join(view.machine, telemetry, view.known, times.steady_seconds, defaults.tuning.max_age_seconds)
    if joined.faulty != view.fenced:
        return None
    problems = joined.problems + telemetry.problems
    state = _lively(view.state.bare or view.state, _live(joined, view.shunned))
    if _faults(view.machine, joined) != state.faults:
        return None
    if state is view.state and problems == view.telemetry_problems:
        return view
    return replace(view, state=state, telemetry_problems=problems)


def _live(joined: Joined | None, shunned: int) -> Live:
    return live(joined.standings, shunned, joined.stale) if joined else NOTHING


def _fenced(machine: Machine, telemetry: NodeTelemetry | None) -> int:
    """Mask of the positions that telemetry has fenced."""
    if telemetry is None or not any(one.fault for one in telemetry.devices.values()):
        return 0
    return join(machine, telemetry, {}, None, 0.0).faulty


def _faults(machine: Machine, joined: Joined | None) -> tuple[tuple[int, str, bool], ...]:
    if joined is None or not joined.faulty:
        return ()
    found = [(machine.gpus[p].index, joined.standings[p]) for p in positions_of(joined.faulty)]
    return tuple((index, standing.fault, standing.xid) for index, standing in found if standing and standing.fault)


def _healthy_without_topology(allocatable: int, telemetry: NodeTelemetry | None) -> int:
    """Where nobody says which devices there are, the fenced ones are taken off those that telemetry counts."""
    if telemetry is None or not telemetry.devices:
        return allocatable
    seen = len({uuid for uuid, _ in telemetry.devices})
    return max(0, min(allocatable, seen - unplaced_faults(telemetry))) if seen >= allocatable else allocatable


@lru_cache(maxsize=65_536)
def _lively(bare: NodeState, alive: Live) -> NodeState:
    """One object per distinct state, telemetry included."""
    if alive is NOTHING:
        return bare
    found = burden(bare.table, _held(bare), alive.standings) if bare.table is not None else NO_BURDEN
    return replace(bare, live=alive, burden=found, bare=bare)


def _held(state: NodeState) -> tuple[float, ...]:
    """Per position the chance that somebody has it."""
    return tuple(sum(chance for free, chance in state.beliefs if not free >> position & 1) for position in range(len(state.indices)))


@lru_cache(maxsize=16_384)
def _shared(
    allocatable: int, requested: int, product: str | None, memory: int | None, table: PlacementTable | None,
    indices: tuple[int, ...], healthy: int, beliefs: tuple[tuple[int, float], ...], note: str, kubelet: Kubelet,
    faults: tuple[tuple[int, str, bool], ...], facts: NodeFacts, offer: _Offer, usable: int = 0, unjudged: str | None = None,
) -> NodeState:  # fmt: skip
    """One object per distinct state. A cache: dropping an entry costs time, never an answer."""
    return NodeState(
        allocatable, requested, product, memory, table, indices, healthy, beliefs, note, kubelet, faults, facts,
        offer.sharing, offer.physical, offer.slices, offer.pools, usable=usable, unjudged=unjudged,
    )  # fmt: skip


def with_guests(state: NodeState, guests: tuple[Demand, ...]) -> NodeState:
    """The state with further pods on the node whose devices nobody names: the same object as if they were bound there."""
    placed = tuple((demand.asks, demand.total) for demand in guests if demand.total)
    return _lively(_with_guests(state.bare or state, placed), state.live) if placed else state


@lru_cache(maxsize=16_384)
def _with_guests(bare: NodeState, placed: tuple[tuple[Asks, int], ...]) -> NodeState:
    beliefs = bare.beliefs
    if bare.table is not None:
        beliefs = taken(dict(beliefs), bare.table, [steps for steps, _ in placed], bare.kubelet)
    return _shared(
        bare.allocatable, bare.requested + sum(total for _, total in placed), bare.product, bare.gpu_memory_bytes, bare.table, bare.indices,
        bare.healthy, beliefs, bare.note, bare.kubelet, bare.faults, bare.facts,
        _Offer(bare.sharing, bare.physical, bare.slices, bare.pools), bare.usable, bare.unjudged,
    )  # fmt: skip


def without_pods(
    snapshot: Snapshot, name: str, leaving: frozenset[str], resource: str, defaults: NodeDefaults, strangers_left: bool = False
) -> NodeState | None:
    """The state of a node when some of its pods have left and their devices are free; None where the node is not known.

    `strangers_left`: devices that the agent's status gives to pods which the API server no longer has are free too: the status lags.
    """
    node, view = snapshot.nodes.get(name), snapshot.views.get(name)
    if node is None or view is None:
        return None
    staying = tuple(pod for pod in view.pods if pod.key not in leaving)
    record = snapshot.topologies.get(name)
    if isinstance(record, TopologyRecord):
        record = released(record, tuple(pod for pod in view.pods if pod.key in leaving), view.pods if strangers_left else None)
    times, telemetry = Times(snapshot.agent_seconds(name), snapshot.steady_seconds), snapshot.telemetry.get(name)
    if telemetry is not None and leaving:
        telemetry = as_left(telemetry, view, leaving, emptied)
    ended = snapshot.ended.get(name, ())
    dra = dra_of(snapshot.dra, node, record, resource, leaving)
    return node_view(node, record, staying, resource, defaults, times, telemetry, snapshot.classes, ended, dra).state


def as_left(
    telemetry: NodeTelemetry, view: NodeView, leaving: Collection[str], then: Callable[[DeviceCondition], DeviceCondition]
) -> NodeTelemetry:
    """A node's telemetry when pods have left it: `then` says what becomes of their devices.

    Where nobody knew which they are, that may be any that nobody else is known to hold.
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
    devices = {name: then(one) if name[0] in uuids or one.reading.index in indices else one for name, one in telemetry.devices.items()}
    return replace(telemetry, devices=devices)


def stale_since(record: TopologyRecord | str | None, now_seconds: float | None, most_age_seconds: float | None) -> float | None:
    """Since when the record's status is too old to say who holds what (Unix time); None while it is fresh, or says no time."""
    status = record.status if isinstance(record, TopologyRecord) else None
    if status is None or status.observed_at_seconds is None or now_seconds is None or most_age_seconds is None:
        return None
    limit = status.observed_at_seconds + most_age_seconds
    return limit if now_seconds > limit else None
