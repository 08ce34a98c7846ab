"""The state of each GPU of a node for people: free, taken, assumed, excluded, or unknown. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from extender.decision.cycle.assumed_pods import AssumedPod, AssumedPods
from extender.decision.node.devices.device_load import MEMORY_STEP_BYTES, DeviceLoad
from extender.decision.node.devices.gpu_sharing import Sharing
from extender.decision.node.node_state import NodeView
from extender.decision.state.snapshot import Snapshot
from topology.machine.hardware import positions_of, union_of


class GpuState(StrEnum):
    """What can be said of one GPU."""

    FREE = "free"
    TAKEN = "taken"
    ASSUMED = "assumed"
    """Decided for a pod that is not seen as bound yet; which GPU that is, is a prediction."""
    EXCLUDED = "excluded"
    """Unhealthy, fenced, not on offer, or its memory is in use by a process that Kubernetes does not know."""
    UNKNOWN = "unknown"
    """Probably held by a pod whose devices are only predicted, or not on offer."""


LETTERS = {GpuState.FREE: "f", GpuState.TAKEN: "t", GpuState.ASSUMED: "a", GpuState.EXCLUDED: "x", GpuState.UNKNOWN: "?"}


class Awaited(msgspec.Struct, frozen=True):
    """The part of an assumed pod that the snapshot does not show yet."""

    pod: str
    """namespace/name."""
    total: int
    """GPUs by number."""
    likely: tuple[int, ...]
    """nvidia-smi indices of the likeliest set."""


class GpuStates(msgspec.Struct, frozen=True):
    """The states of a node's GPUs."""

    states: tuple[GpuState, ...]
    by_position: bool
    """Whether the states are in the order of the machine's GPUs; else only their numbers are known."""
    why: dict[int, str] = {}
    """Position -> why it is excluded or unknown, where `by_position`."""

    def count(self, state: GpuState) -> int:
        """Return the number of GPUs in a state."""
        return self.states.count(state)

    @property
    def letters(self) -> str:
        """One letter of `LETTERS` per GPU."""
        return "".join(map(LETTERS.__getitem__, self.states))


def awaited_by_node(snapshot: Snapshot, assumed_pods: AssumedPods, monotonic_seconds: float) -> dict[str, tuple[Awaited, ...]]:
    """Return node -> its assumed pods in force, as far as the snapshot does not show them, in the order of the decisions."""
    by_node: dict[str, tuple[Awaited, ...]] = {}
    for assumed_pod in assumed_pods.by_pod.values():
        if monotonic_seconds >= assumed_pod.until_monotonic_seconds or assumed_pod.unseen(snapshot) is None:
            continue
        by_node[assumed_pod.node] = (*by_node.get(assumed_pod.node, ()), _awaited(assumed_pod))
    return by_node


def _awaited(assumed_pod: AssumedPod) -> Awaited:
    prospects = assumed_pod.evidence.prospects
    likely = prospects[0].gpus if prospects else ()
    return Awaited(f"{assumed_pod.namespace}/{assumed_pod.name}", assumed_pod.demand.total or len(likely), tuple(likely))


def gpu_states(view: NodeView, awaited: Sequence[Awaited], usable_memory_share: float) -> GpuStates:
    """Return the states of a node's GPUs.

    `usable_memory_share`: share of a GPU's memory that must be free for a pod that states no need (`filtering.usable_memory_share`).
    """
    if view.machine is None or not view.state.free_sets:
        return _by_count(view, awaited)
    states, why = _by_position(view, usable_memory_share)
    position_of = {index: position for position, index in enumerate(view.state.indices)}
    for pod in awaited:
        free = [position for position, state in enumerate(states) if state is GpuState.FREE]
        likely = [position for index in pod.likely if (position := position_of.get(index)) in free and position is not None]
        for position in [*likely, *(position for position in free if position not in likely)][: pod.total]:
            states[position] = GpuState.ASSUMED
            why[position] = f"decided for {pod.pod}, which is not seen there yet; which GPU it gets is a prediction"
    return GpuStates(tuple(states), True, why)


def _by_position(view: NodeView, usable_memory_share: float) -> tuple[list[GpuState], dict[int, str]]:
    state = view.state
    held, free = union_of(mask for masks in view.known.values() for mask in masks), state.free_sets[0][0]
    faults = {index: why for index, why, _ in state.faults}
    loads = state.device_telemetry.device_loads
    states: list[GpuState] = []
    why: dict[int, str] = {}
    for position, index in enumerate(state.indices):
        load = loads[position] if position < len(loads) else None
        if not state.usable >> position & 1:
            states.append(GpuState.EXCLUDED)
            why[position] = faults.get(index, "reported as unhealthy, or not on offer")
        elif held >> position & 1:
            states.append(GpuState.TAKEN)
        elif not free >> position & 1:
            states.append(GpuState.UNKNOWN)
            why[position] = "probably held by a pod whose devices are not known"
        elif load is not None and (used := _unknown_use(load, usable_memory_share)) is not None:
            states.append(GpuState.EXCLUDED)
            why[position] = used
        else:
            states.append(GpuState.FREE)
    beyond = (free & state.usable).bit_count() - max(0, state.allocatable - state.requested)
    last_free = [position for position, each in enumerate(states) if each is GpuState.FREE][::-1]
    for position in last_free[: max(0, beyond)]:
        states[position] = GpuState.UNKNOWN
        why[position] = "the node offers fewer GPUs than it has, or a pod holds more than is known; which GPU that is, is not known"
    return states, why


def _unknown_use(load: DeviceLoad, usable_memory_share: float) -> str | None:
    """Return why the memory of a GPU without a pod does not suffice for a usual pod; None where it does or is unknown."""
    if load.free_bytes is None or not load.total_bytes or load.free_bytes + MEMORY_STEP_BYTES > usable_memory_share * load.total_bytes:
        return None
    used_gib = (load.total_bytes - load.free_bytes) / 2**30
    return f"{used_gib:.1f} GiB of its memory are in use by processes that Kubernetes does not know"


def _by_count(view: NodeView, awaited: Sequence[Awaited]) -> GpuStates:
    """The states where it is not known which GPU is which: by the API server's counts alone."""
    state = view.state
    is_whole = state.sharing in (None, Sharing.NONE)
    total = max(state.allocatable, state.physical or 0) if is_whole else state.allocatable
    healthy = min(state.healthy, state.allocatable) if is_whole else state.allocatable
    taken = min(state.requested, healthy)
    assumed = min(sum(pod.total for pod in awaited), healthy - taken)
    numbers = (
        (GpuState.TAKEN, taken),
        (GpuState.ASSUMED, assumed),
        (GpuState.FREE, healthy - taken - assumed),
        (GpuState.EXCLUDED, total - healthy),
    )
    return GpuStates(tuple(each for each, number in numbers for _ in range(number)), False)


def held_by(view: NodeView, position: int) -> list[str]:
    """Return namespace/name of the pods that are known to hold a position."""
    return [pod.full_name for pod in view.pods if union_of(view.known.get(pod.key, ())) >> position & 1]


def unplaced_pods(view: NodeView) -> list[str]:
    """Return namespace/name of the pods that hold more GPUs than are known."""
    return [pod.full_name for pod in view.pods if pod.demand.total > len(positions_of(union_of(view.known.get(pod.key, ()))))]
