"""A node's view, out of what Kubernetes, its agent, its pods and telemetry say of it.

Kubernetes counts devices but does not say which. Where the agent's status names a pod's devices they are taken from
there; for a bound pod it does not name yet, the devices are predicted, so that what is free is a *belief*: masks of
positions with probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache

from extender.decision.annotations import version
from extender.decision.classes import Classes
from extender.decision.cluster import NODE_DEFAULTS, NodeDefaults, NodeFacts, NodeState, NodeView, Snapshot
from extender.decision.demand import Demand
from extender.decision.holdings import BoundPod, Holdings, holdings, released
from extender.decision.objects import Node
from extender.decision.pressure import NO_BURDEN, burden
from extender.decision.quantities import quantity
from extender.decision.sharing import Sharing, Slice, physical_gpus, sharing_of, slice_memory_bytes, slices_of
from extender.decision.standing import NOTHING, Joined, Live, join, live, unplaced_faults
from extender.telemetry.conditions import NodeTelemetry
from topology.hardware import Machine, mask_of, positions_of, with_gpus
from topology.numa_alignment import TopologyManager
from topology.placement import PlacementTable, table_for
from topology.platforms import fallback_platform, machine_of
from topology.prediction import DevicePlugin, Kubelet, Steps
from topology.products import same_product
from topology.record import TopologyRecord

MOST_BELIEFS = 64
"""Free sets kept per node; beyond, the unlikeliest are dropped."""

MEMORY_TOLERANCE = 0.15
"""The agent's and the label's memory may differ by this much: one reserves framebuffer, one does not."""


TOPOLOGY_MANAGER, DEVICE_PLUGIN = "fabricwise.dev/topology-manager-policy", "fabricwise.dev/device-plugin"
"""Node labels that say what the API does not."""


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
) -> NodeView:
    """Derive a node's view from its sources. A topology that contradicts its node is set aside, and said so.

    A node without any is judged as the known platform of its product and GPU count, where there is just one.
    """
    pods = tuple(sorted(pods, key=lambda pod: (pod.created, pod.key)))
    problem = record if isinstance(record, str) else None
    machine = record.machine if isinstance(record, TopologyRecord) else None
    allocatable = count_of(node, resource)
    requested = sum(pod.demand.total for pod in pods)
    labels = node.metadata.labels or {}
    sharing = sharing_of(labels, allocatable, machine)
    if machine is not None:
        problem = contradiction(node, machine, resource, sharing)
    offer = _Offer(sharing, physical_gpus(labels, machine), slices_of(labels, _amounts(node), resource), _pools(labels, classes))
    kubelet = _kubelet(labels, defaults.kubelet)
    assumed = _assumed(labels, allocatable) if record is None and defaults.assume_from_product else None
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
            _product(labels),
            _label_memory(labels),
            None,
            (),
            healthy,
            (),
            note,
            kubelet,
            (),
            _facts(labels, None),
            offer,
        )
        return NodeView(node.metadata.name, state, pods, problem)
    assert isinstance(record, TopologyRecord)
    table = table_for(machine)
    memories = [gpu.memory_bytes for gpu in machine.gpus if gpu.memory_bytes is not None]
    memory = min(memories) if len(memories) == len(machine.gpus) else _label_memory(labels)
    sick = mask_of(machine.positions(sorted({index for index, _ in record.status.unhealthy}))) if record.status else 0
    note = "topology from GpuTopology" + ("" if record.status else " without status: device use predicted")
    stale = stale_since(record, times.now_seconds, defaults.most_status_age_seconds)
    if stale is not None:
        note += f"; status stale since {datetime.fromtimestamp(stale, UTC):%Y-%m-%dT%H:%M:%SZ}: device use predicted"
    if assumed is not None:
        note = f"topology assumed from product: {platform}; device use predicted"
    fenced = _fenced(machine, telemetry)
    withheld = fenced if len(machine.gpus) - allocatable >= (sick | fenced).bit_count() else 0
    held = holdings(record, pods, stale is not None, withheld)
    healthy = min(allocatable, len(machine.gpus) - (sick | fenced).bit_count())
    joined = join(machine, telemetry, held.known, times.steady_seconds, defaults.tuning.max_age_seconds) if telemetry else None
    bare = _shared(
        allocatable, requested, machine.gpus[0].product or _product(labels), memory, table,
        tuple(gpu.index for gpu in machine.gpus), healthy, _beliefs(held, table, kubelet), note, kubelet, _faults(machine, joined),
        _facts(labels, machine), offer, mask_of(range(len(machine.gpus))) & ~(sick | fenced),
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
    memory = slice_memory_bytes(labels, machine) if offer.sharing is Sharing.MIG else min(cards, default=_label_memory(labels))
    note = f"GPUs are shared by {offer.sharing}: {allocatable} on offer of {len(machine.gpus)}"
    bare = _shared(
        allocatable, requested, machine.gpus[0].product or _product(labels), memory, None, tuple(gpu.index for gpu in machine.gpus),
        allocatable, (), note, kubelet, _faults(machine, joined), _facts(labels, machine), offer,
    )  # fmt: skip
    state = _lively(bare, _live(joined, 0))
    return NodeView(node.metadata.name, state, pods, None, telemetry_problems=joined.problems if joined else ())


def _amounts(node: Node) -> tuple[tuple[str, int], ...]:
    """Allocatable resources as whole numbers; what is none is left out."""
    status = node.status
    amounts = (status.allocatable if status.allocatable is not None else status.capacity) if status else None
    return tuple((name, count) for name, value in (amounts or {}).items() if (count := _count(value)))


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
    faults: tuple[tuple[int, str, bool], ...], facts: NodeFacts, offer: _Offer, usable: int = 0,
) -> NodeState:  # fmt: skip
    """One object per distinct state. A cache: dropping an entry costs time, never an answer."""
    return NodeState(
        allocatable, requested, product, memory, table, indices, healthy, beliefs, note, kubelet, faults, facts,
        offer.sharing, offer.physical, offer.slices, offer.pools, usable=usable,
    )  # fmt: skip


def _facts(labels: Mapping[str, str], machine: Machine | None) -> NodeFacts:
    """By the agent, else by GFD's labels: `nvidia.com/cuda.driver-version.full` and its kin, or the older three parts."""
    told = [gpu.compute_capability for gpu in machine.gpus] if machine else []
    known = [one for text in told if text and (one := _numbers(text))]
    capability = min(known) if known and len(known) == len(told) else _parts(labels, "nvidia.com/gpu.compute.", ("major", "minor"))
    driver = _numbers((machine.driver_version if machine else None) or labels.get("nvidia.com/cuda.driver-version.full", ""))
    cuda = _numbers((machine.cuda_version if machine else None) or labels.get("nvidia.com/cuda.runtime-version.full", ""))
    return NodeFacts(
        capability,
        driver or _parts(labels, "nvidia.com/cuda.driver.", ("major", "minor", "rev")),
        cuda or _parts(labels, "nvidia.com/cuda.runtime.", ("major", "minor")),
    )


def _numbers(text: str) -> tuple[int, ...] | None:
    try:
        return version(text)
    except ValueError:
        return None


def _parts(labels: Mapping[str, str], prefix: str, names: tuple[str, ...]) -> tuple[int, ...] | None:
    """Label values that go together, as many as there are; None without the first."""
    found = [labels.get(prefix + name, "") for name in names]
    whole = [text for text in found if text.isascii() and text.isdigit()]
    return tuple(map(int, whole)) if found[0] in whole and whole else None


def _kubelet(labels: Mapping[str, str], usual: Kubelet) -> Kubelet:
    """The node's own word, where it makes sense."""
    manager, plugin = labels.get(TOPOLOGY_MANAGER), labels.get(DEVICE_PLUGIN)
    return Kubelet(
        TopologyManager(manager) if manager in set(TopologyManager) else usual.topology_manager,
        DevicePlugin(plugin) if plugin in set(DevicePlugin) else usual.device_plugin,
    )


def _assumed(labels: Mapping[str, str], allocatable: int) -> tuple[str, Machine] | None:
    """The platform that GFD's labels describe, with its name; None where they fit none, or the node shares or splits GPUs."""
    product, counted = _product(labels), labels.get("nvidia.com/gpu.count", "")
    whole = labels.get("nvidia.com/mig.strategy", "none") in ("none", "") and not (product or "").endswith("-SHARED")
    if product is None or not whole or not counted.isdigit() or int(counted) < allocatable:
        return None
    name = fallback_platform(product, int(counted))
    if name is None:
        return None
    return name, with_gpus(machine_of(name), product=product, memory_bytes=_label_memory(labels))


def _beliefs(held: Holdings, table: PlacementTable, kubelet: Kubelet) -> tuple[tuple[int, float], ...]:
    """Free masks: what nobody is known to hold, less the predicted devices of pods whose devices nobody names."""
    return _taken({held.free: 1.0}, table, [pod.demand.steps for pod in held.predicted], kubelet)


def _taken(beliefs: dict[int, float], table: PlacementTable, pods: Sequence[Steps], kubelet: Kubelet) -> tuple[tuple[int, float], ...]:
    """What is believed free after each of the pods has been given its devices, in order."""
    for steps in pods:
        beliefs = _take(beliefs, table, steps, kubelet)
    kept = sorted(beliefs.items(), key=lambda item: (-item[1], item[0]))[:MOST_BELIEFS]
    total = sum(chance for _, chance in kept)
    return tuple((mask, round(chance / total, 9)) for mask, chance in kept)


def with_guests(state: NodeState, guests: tuple[Demand, ...]) -> NodeState:
    """The state with further pods on the node whose devices nobody names: the same object as if they were bound there."""
    taken = tuple((demand.steps, demand.total) for demand in guests if demand.total)
    return _lively(_with_guests(state.bare or state, taken), state.live) if taken else state


@lru_cache(maxsize=16_384)
def _with_guests(bare: NodeState, taken: tuple[tuple[Steps, int], ...]) -> NodeState:
    beliefs = bare.beliefs
    if bare.table is not None:
        beliefs = _taken(dict(beliefs), bare.table, [steps for steps, _ in taken], bare.kubelet)
    return _shared(
        bare.allocatable, bare.requested + sum(total for _, total in taken), bare.product, bare.gpu_memory_bytes, bare.table, bare.indices,
        bare.healthy, beliefs, bare.note, bare.kubelet, bare.faults, bare.facts,
        _Offer(bare.sharing, bare.physical, bare.slices, bare.pools), bare.usable,
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
    times = Times(snapshot.now_seconds, snapshot.steady_seconds)
    return node_view(node, record, staying, resource, defaults, times, snapshot.telemetry.get(name), snapshot.classes).state


def stale_since(record: TopologyRecord | str | None, now_seconds: float | None, most_age_seconds: float | None) -> float | None:
    """Since when the record's status is too old to say who holds what (Unix time); None while it is fresh, or says no time."""
    status = record.status if isinstance(record, TopologyRecord) else None
    if status is None or status.observed_at_seconds is None or now_seconds is None or most_age_seconds is None:
        return None
    limit = status.observed_at_seconds + most_age_seconds
    return limit if now_seconds > limit else None


def _take(beliefs: dict[int, float], table: PlacementTable, steps: Steps, kubelet: Kubelet) -> dict[int, float]:
    left: dict[int, float] = {}
    for mask, chance in beliefs.items():
        outcomes = table.predictor.predict(mask, steps, kubelet).outcomes
        if not outcomes:  # more is bound than the status leaves free: nothing is left here
            left[0] = left.get(0, 0.0) + chance
        for outcome in outcomes:
            rest = mask & ~outcome.taken
            left[rest] = left.get(rest, 0.0) + chance * outcome.probability
    if len(left) > MOST_BELIEFS:
        left = dict(sorted(left.items(), key=lambda item: (-item[1], item[0]))[:MOST_BELIEFS])
    return left


def contradiction(node: Node, machine: Machine, resource: str, sharing: Sharing | None = None) -> str | None:
    """How a GpuTopology contradicts its node, or None. Fewer allocatable than GPUs is no contradiction: some may be sick."""
    labels = node.metadata.labels or {}
    have = len(machine.gpus)
    capacity = node.status.capacity if node.status else None
    offered = max(count_of(node, resource), _count((capacity or {}).get(resource)) or 0)
    if offered > have and sharing in (None, Sharing.NONE):
        return f"GpuTopology has {have} GPUs but the node offers {offered} {resource}"
    counted = labels.get("nvidia.com/gpu.count", "")
    if counted.isdigit() and int(counted) != have and sharing is not Sharing.MIG:
        return f"GpuTopology has {have} GPUs but label nvidia.com/gpu.count says {counted}"
    label, product = _product(labels), machine.gpus[0].product if machine.gpus else None
    if label and product and not same_product(label, product):
        return f"GpuTopology says {product} but label nvidia.com/gpu.product says {label}"
    memory, labelled = machine.gpus[0].memory_bytes if machine.gpus else None, _label_memory(labels)
    if memory and labelled and sharing is not Sharing.MIG and abs(memory - labelled) > MEMORY_TOLERANCE * max(memory, labelled):
        return f"GpuTopology says {memory >> 20} MiB per GPU but label nvidia.com/gpu.memory says {labelled >> 20} MiB"
    return None


def count_of(node: Node, resource: str) -> int:
    """Allocatable GPUs, which default to the capacity as in the API server. Nothing said, or nonsense, is none."""
    if node.status is None:
        return 0
    amounts = node.status.allocatable if node.status.allocatable is not None else node.status.capacity
    return _count((amounts or {}).get(resource)) or 0


def _count(value: object) -> int | None:
    try:
        return max(0, int(quantity(value))) if value is not None else None
    except ValueError:
        return None


def _product(labels: Mapping[str, str]) -> str | None:
    return labels.get("nvidia.com/gpu.product") or None


def _label_memory(labels: Mapping[str, str]) -> int | None:
    """GFD's nvidia.com/gpu.memory is in MiB."""
    text = labels.get("nvidia.com/gpu.memory", "")
    return int(text) << 20 if text.isdigit() else None
