"""The GPUs of a machine now: their state, the pods that hold them, their telemetry and their memory. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from extender.decision.node.node_state import NodeView
from extender.decision.report.live.device_states import Awaited, GpuState, gpu_states, held_by, unplaced_pods
from extender.telemetry.conditions import DeviceCondition, NodeTelemetry, Tuning
from topology.machine.hardware import Gpu, Machine


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


def gpus_now(
    view: NodeView, machine: Machine, readings: Readings, awaited: Sequence[Awaited], usable_memory_share: float, faults: dict[int, str]
) -> tuple[GpuNow, ...]:
    """Return the GPUs of a machine, by position. `faults`: nvidia-smi index -> why the GPU has fewer NVLinks than it should have."""
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


class Readings:
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
