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

from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.pod_request import Demand
from extender.decision.request.workload_classes import Classes
from extender.decision.state.allocations import BoundPod, allocations_of, released
from extender.decision.state.device_load import NO_TELEMETRY, DeviceTelemetry, Joined, device_telemetry, join, unplaced_faults
from extender.decision.state.ended_pods import EndedPod
from extender.decision.state.free_sets import free_sets_of, taken
from extender.decision.state.gpu_sharing import Sharing, Slice, physical_gpus, sharing_of, slice_memory_bytes, slices_of
from extender.decision.state.node_labels import (
    amounts_of,
    assumed_platform,
    contradiction,
    count_of,
    facts_of,
    kubelet_of,
    labelled_memory_bytes,
    product_of,
)
from extender.decision.state.pressure import NO_LOAD, load_by_gpu
from extender.decision.state.snapshot import NODE_DEFAULTS, NodeDefaults, NodeFacts, NodeState, NodeView, Snapshot
from extender.telemetry.conditions import DeviceCondition, NodeTelemetry, emptied
from topology.devices.prediction import DevicePlugin, Kubelet, Steps
from topology.devices.steering import KnownDevices, Steering
from topology.gputopology import TopologyRecord
from topology.machine.hardware import Machine, mask_of, positions_of, union_of
from topology.placement import PlacementTable, table_for


@dataclass(frozen=True, slots=True)
class Times:
    """Now, on both clocks; None where time does not pass, as in a dump."""

    now_seconds: float | None = None
    """Unix time."""
    monotonic_seconds: float | None = None
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
) -> NodeView:
    """Derive a node's view from its sources. A topology that contradicts its node is set aside, and said so.

    A node without any is judged as the known platform of its product and GPU count, where there is just one.
    `ended`: pods that the topology's status may still name although they have ended.
    """
    pods = tuple(sorted(pods, key=lambda pod: pod.admission_order))
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
        state = _intern(
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
    kubelet = _steered(kubelet, record, resource, stale is not None)
    if kubelet.device_plugin is DevicePlugin.STEERED:
        note += "; devices are steered"
    fenced = _fenced(machine, telemetry)
    withheld = fenced if len(machine.gpus) - allocatable >= (sick | fenced).bit_count() else 0
    held = allocations_of(record, pods, stale is not None, withheld, ended, times.monotonic_seconds)
    healthy = min(allocatable, len(machine.gpus) - (sick | fenced).bit_count())
    joined = join(machine, telemetry, held.known, times.monotonic_seconds, defaults.tuning.max_age_seconds) if telemetry else None
    without_telemetry = _intern(
        allocatable,
        requested,
        machine.gpus[0].product or product_of(labels),
        memory,
        table,
        tuple(gpu.index for gpu in machine.gpus),
        healthy,
        free_sets_of(held, table, kubelet),
        note,
        kubelet,
        _faults(machine, joined),
        facts_of(labels, machine),
        offer,
        mask_of(range(len(machine.gpus))) & ~(sick | fenced),
    )
    state = _with_telemetry(without_telemetry, _device_telemetry(joined, fenced & ~withheld & ~sick))
    problems = joined.problems + telemetry.problems if joined and telemetry else ()
    return NodeView(
        node.metadata.name, state, pods, None, held.known, held.disagreements, stale, machine, fenced, fenced & ~withheld & ~sick, problems
    )


def _steered(kubelet: Kubelet, record: TopologyRecord, resource: str, is_stale: bool) -> Kubelet:
    """The kubelet of a node where, by the agent's status, a steerer answers which devices of the resource a container gets.

    It answers by the same function as the prediction, from what the agent published: the prediction is certain.
    """
    steering = record.status.steering if record.status is not None and not is_stale else None
    if steering is None or record.status is None or resource not in steering.resources or kubelet.device_plugin is not DevicePlugin.NVIDIA:
        return kubelet
    memory, machine = dict(steering.unknown_memory), record.machine
    known = KnownDevices(
        mask_of(machine.positions(sorted({index for index, _ in record.status.unhealthy}))),
        tuple(memory.get(gpu.index, 0) for gpu in machine.gpus),
    )
    return replace(kubelet, device_plugin=DevicePlugin.STEERED, steering=Steering(known, steering.messages))


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
    node: Node,
    machine: Machine,
    pods: tuple[BoundPod, ...],
    allocatable: int,
    requested: int,
    kubelet: Kubelet,
    offer: _Offer,
    telemetry: NodeTelemetry | None,
    times: Times,
    defaults: NodeDefaults,
) -> NodeView:
    """A node whose units are slices or turns: links are not judged, memory is the slice's or, live, the card's."""
    labels = node.metadata.labels or {}
    joined = join(machine, telemetry, {}, times.monotonic_seconds, defaults.tuning.max_age_seconds) if telemetry else None
    cards = [gpu.memory_bytes for gpu in machine.gpus if gpu.memory_bytes is not None]
    memory = slice_memory_bytes(labels, machine) if offer.sharing is Sharing.MIG else min(cards, default=labelled_memory_bytes(labels))
    note = f"GPUs are shared by {offer.sharing}: {allocatable} on offer of {len(machine.gpus)}"
    without_telemetry = _intern(
        allocatable,
        requested,
        machine.gpus[0].product or product_of(labels),
        memory,
        None,
        tuple(gpu.index for gpu in machine.gpus),
        allocatable,
        (),
        note,
        kubelet,
        _faults(machine, joined),
        facts_of(labels, machine),
        offer,
    )
    state = _with_telemetry(without_telemetry, _device_telemetry(joined, 0))
    return NodeView(node.metadata.name, state, pods, None, telemetry_problems=joined.problems if joined else ())


def with_telemetry(view: NodeView, telemetry: NodeTelemetry | None, times: Times, defaults: NodeDefaults) -> NodeView | None:
    """The view with newer telemetry and all else as it was; None where more than that must be derived anew: a device was fenced,
    or is free again, or the topology is unknown."""
    if view.machine is None or telemetry is None:
        return None
    joined = join(view.machine, telemetry, view.known, times.monotonic_seconds, defaults.tuning.max_age_seconds)
    if joined.faulty != view.fenced:
        return None
    problems = joined.problems + telemetry.problems
    state = _with_telemetry(view.state.without_telemetry or view.state, _device_telemetry(joined, view.fenced_but_offered))
    if _faults(view.machine, joined) != state.faults:
        return None
    if state is view.state and problems == view.telemetry_problems:
        return view
    return replace(view, state=state, telemetry_problems=problems)


def _device_telemetry(joined: Joined | None, fenced_but_offered: int) -> DeviceTelemetry:
    return device_telemetry(joined.device_loads, fenced_but_offered, joined.stale) if joined else NO_TELEMETRY


def _fenced(machine: Machine, telemetry: NodeTelemetry | None) -> int:
    """Mask of the positions that telemetry has fenced."""
    if telemetry is None or not any(one.fault for one in telemetry.devices.values()):
        return 0
    return join(machine, telemetry, {}, None, 0.0).faulty


def _faults(machine: Machine, joined: Joined | None) -> tuple[tuple[int, str, bool], ...]:
    if joined is None or not joined.faulty:
        return ()
    found = [(machine.gpus[p].index, joined.device_loads[p]) for p in positions_of(joined.faulty)]
    return tuple((index, standing.fault, standing.xid) for index, standing in found if standing and standing.fault)


def _healthy_without_topology(allocatable: int, telemetry: NodeTelemetry | None) -> int:
    """Where nobody says which devices there are, the fenced ones are taken off those that telemetry counts."""
    if telemetry is None or not telemetry.devices:
        return allocatable
    seen = len({uuid for uuid, _ in telemetry.devices})
    return max(0, min(allocatable, seen - unplaced_faults(telemetry))) if seen >= allocatable else allocatable


@lru_cache(maxsize=65_536)
def _with_telemetry(without_telemetry: NodeState, alive: DeviceTelemetry) -> NodeState:
    """One object per distinct state, telemetry included."""
    if alive is NO_TELEMETRY:
        return without_telemetry
    found = (
        load_by_gpu(without_telemetry.table, _held(without_telemetry), alive.device_loads)
        if without_telemetry.table is not None
        else NO_LOAD
    )
    return replace(without_telemetry, device_telemetry=alive, load_by_gpu=found, without_telemetry=without_telemetry)


def _held(state: NodeState) -> tuple[float, ...]:
    """Per position the chance that somebody has it."""
    return tuple(sum(chance for free, chance in state.free_sets if not free >> position & 1) for position in range(len(state.indices)))


@lru_cache(maxsize=16_384)
def _intern(
    allocatable: int,
    requested: int,
    product: str | None,
    memory: int | None,
    table: PlacementTable | None,
    indices: tuple[int, ...],
    healthy: int,
    free_sets: tuple[tuple[int, float], ...],
    note: str,
    kubelet: Kubelet,
    faults: tuple[tuple[int, str, bool], ...],
    facts: NodeFacts,
    offer: _Offer,
    usable: int = 0,
) -> NodeState:
    """One object per distinct state. A cache: dropping an entry costs time, never an answer."""
    return NodeState(
        allocatable,
        requested,
        product,
        memory,
        table,
        indices,
        healthy,
        free_sets,
        note,
        kubelet,
        faults,
        facts,
        offer.sharing,
        offer.physical,
        offer.slices,
        offer.pools,
        usable=usable,
    )


def with_extra_pods(state: NodeState, extra_pods: tuple[Demand, ...]) -> NodeState:
    """The state with further pods on the node whose devices nobody names: the same object as if they were bound there."""
    placed = tuple((demand.steps, demand.total) for demand in extra_pods if demand.total)
    return _with_telemetry(_with_extra_pods(state.without_telemetry or state, placed), state.device_telemetry) if placed else state


@lru_cache(maxsize=16_384)
def _with_extra_pods(without_telemetry: NodeState, placed: tuple[tuple[Steps, int], ...]) -> NodeState:
    free_sets = without_telemetry.free_sets
    if without_telemetry.table is not None:
        free_sets = taken(dict(free_sets), without_telemetry.table, [steps for steps, _ in placed], without_telemetry.kubelet)
    return _intern(
        without_telemetry.allocatable,
        without_telemetry.requested + sum(total for _, total in placed),
        without_telemetry.product,
        without_telemetry.gpu_memory_bytes,
        without_telemetry.table,
        without_telemetry.indices,
        without_telemetry.healthy,
        free_sets,
        without_telemetry.note,
        without_telemetry.kubelet,
        without_telemetry.faults,
        without_telemetry.facts,
        _Offer(without_telemetry.sharing, without_telemetry.physical, without_telemetry.slices, without_telemetry.pools),
        without_telemetry.usable,
    )


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
    times, telemetry = Times(snapshot.agent_seconds(name), snapshot.monotonic_seconds), snapshot.telemetry.get(name)
    if telemetry is not None and leaving:
        telemetry = as_left(telemetry, view, leaving, emptied)
    ended = snapshot.ended.get(name, ())
    return node_view(node, record, staying, resource, defaults, times, telemetry, snapshot.classes, ended).state


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
