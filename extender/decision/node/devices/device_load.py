"""The load and the faults of a node's devices by telemetry, as far as a verdict depends on them; rounded, so that equal nodes share states.

Telemetry and topology are joined by UUID. A topology without UUIDs (imported from a matrix) is joined by nvidia-smi index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from extender.telemetry.conditions import DeviceCondition, NodeTelemetry
from topology.machine.hardware import Machine, positions_of

MEMORY_STEP_BYTES = 256 << 20
"""Free memory is rounded down to a multiple of this."""


class DeviceLoad(msgspec.Struct, frozen=True, gc=False):
    """One device. None = unknown: not exported, blank, or stale."""

    strain: float | None = None
    """0 (idle) .. 1 (no capacity left)."""
    traffic: float | None = None
    """0 .. 1: how much its work slows neighbours down, including the pressure of its serving engine."""
    free_bytes: int | None = None
    total_bytes: int | None = None
    fault: str | None = None
    """Why it is fenced; None where it is not."""
    xid: bool = False
    """Whether an XID is the cause."""

    @property
    def used_share(self) -> float | None:
        """Share of its memory in use, 0 .. 1; None where unknown."""
        return None if self.free_bytes is None or not self.total_bytes else max(0.0, 1.0 - self.free_bytes / self.total_bytes)


class DeviceTelemetry(msgspec.Struct, frozen=True, gc=False):
    """What telemetry adds to the state of a node."""

    device_loads: tuple[DeviceLoad | None, ...] = ()
    """Per position; None = no reading, or a stale one. Empty: there never was telemetry."""
    fenced_but_offered: int = 0
    """Mask of fenced devices that the device plugin may still assign."""
    stale: bool = False
    """Whether a device that was known is not any more."""


NO_TELEMETRY = DeviceTelemetry()


@dataclass(frozen=True, slots=True)
class Joined:
    """Telemetry by position."""

    device_loads: tuple[DeviceLoad | None, ...]
    faulty: int
    """Mask of fenced positions."""
    problems: tuple[str, ...]
    stale: bool
    """Whether a device that was known is not any more."""


def join(
    machine: Machine, telemetry: NodeTelemetry, held: Mapping[str, tuple[int, ...]], monotonic_seconds: float | None, max_age_seconds: float
) -> Joined:
    """Return telemetry by position of the machine.

    `held`: pod key -> masks of the positions that the pod holds; the pressure of its serving engine counts there.
    """
    conditions = {uuid: condition for (uuid, instance), condition in telemetry.devices.items() if instance is None}
    mig_devices = [(uuid, condition) for (uuid, instance), condition in telemetry.devices.items() if instance is not None]
    by_index = {condition.reading.index: condition for condition in conditions.values()}
    engine_pressure = _engine_pressure(telemetry, held, monotonic_seconds, max_age_seconds)
    device_loads: list[DeviceLoad | None] = []
    faulty, stale = 0, False
    for position, gpu in enumerate(machine.gpus):
        condition = conditions.get(gpu.uuid) if gpu.uuid else by_index.get(gpu.index)
        parts = [part for uuid, part in mig_devices if gpu.uuid and uuid == gpu.uuid]
        load = _device_load(condition, parts, engine_pressure.get(position), monotonic_seconds, max_age_seconds)
        stale = stale or any(_is_old(each, monotonic_seconds, max_age_seconds) for each in (condition, *parts) if each)
        faulty |= 1 << position if load and load.fault else 0
        device_loads.append(load)
    known = {gpu.uuid for gpu in machine.gpus}
    unknown = sorted({uuid for uuid, _ in telemetry.devices} - known) if None not in known else []
    problems = tuple(f"telemetry names {uuid}, which the node's GpuTopology does not have" for uuid in unknown)
    return Joined(tuple(device_loads), faulty, problems, stale)


def unplaced_faults(telemetry: NodeTelemetry) -> int:
    """Return the number of fenced devices of a node whose topology is unknown."""
    return len({uuid for (uuid, _), condition in telemetry.devices.items() if condition.fault is not None})


def _is_old(condition: DeviceCondition, monotonic_seconds: float | None, max_age_seconds: float) -> bool:
    return monotonic_seconds is not None and monotonic_seconds - condition.seen_seconds > max_age_seconds


def _device_load(
    condition: DeviceCondition | None, mig_devices: list[DeviceCondition], pressure: float | None, monotonic: float | None, max_age: float
) -> DeviceLoad | None:
    """Return the load of a GPU. A fence remains however old it is; everything else is unknown once it is stale.

    A fault of a MIG device is one of its GPU.
    """
    faults = [each.fault for each in (condition, *mig_devices) if each is not None and each.fault is not None]
    fault = ", ".join(sorted({each.text for each in faults})) if faults else None
    xid = any(each.xid for each in faults)
    if condition is None or _is_old(condition, monotonic, max_age):
        if fault is None and pressure is None:
            return None
        return DeviceLoad(traffic=pressure, fault=fault, xid=xid)
    traffic = condition.traffic.value if condition.traffic else None
    if pressure is not None:
        traffic = max(traffic or 0.0, pressure)
    free = condition.free_bytes
    return DeviceLoad(
        strain=condition.strain.value if condition.strain else None,
        traffic=traffic,
        free_bytes=None if free is None else free // MEMORY_STEP_BYTES * MEMORY_STEP_BYTES,
        total_bytes=condition.reading.fb_total_bytes,
        fault=fault,
        xid=xid,
    )


def _engine_pressure(
    telemetry: NodeTelemetry, held: Mapping[str, tuple[int, ...]], monotonic: float | None, max_age: float
) -> dict[int, float]:
    """Return the pressure of the serving engines by position; stale engines are left out."""
    pressures: dict[int, float] = {}
    for key, engine in telemetry.engines.items():
        fresh = monotonic is None or monotonic - engine.seen_seconds <= max_age
        if engine.pressure is None or not fresh:
            continue
        for mask in held.get(key, ()):
            for position in positions_of(mask):
                pressures[position] = max(engine.pressure.value, pressures.get(position, 0.0))
    return pressures


@lru_cache(maxsize=65_536)
def device_telemetry(device_loads: tuple[DeviceLoad | None, ...], fenced_but_offered: int, stale: bool) -> DeviceTelemetry:
    """Return one object per distinct content. A dropped cache entry costs time but never changes an answer."""
    return DeviceTelemetry(device_loads, fenced_but_offered, stale)
