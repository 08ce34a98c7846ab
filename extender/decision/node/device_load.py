"""How the devices of a node stand, by telemetry: the little of it that a verdict depends on, in steps, so that states stay shared.

Joined by UUID. A topology without UUIDs (imported from a matrix) is joined by the scrape target and the index there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from extender.telemetry.conditions import DeviceCondition, NodeTelemetry
from topology.machine.hardware import Machine, positions_of

MEMORY_STEP_BYTES = 256 << 20
"""Free memory is seen in so large steps, rounded down."""


class DeviceLoad(msgspec.Struct, frozen=True, gc=False):
    """One device. None = unknown: never exported, blank, or too old."""

    strain: float | None = None
    """0 (fresh) .. 1 (nothing left for new work)."""
    traffic: float | None = None
    """0 .. 1: how much its own work makes neighbours wait, its serving engine's pressure included."""
    free_bytes: int | None = None
    total_bytes: int | None = None
    fault: str | None = None
    """Why it is fenced."""
    xid: bool = False
    """Whether an XID says so."""

    @property
    def used_share(self) -> float | None:
        """Of its memory; None where unknown."""
        return None if self.free_bytes is None or not self.total_bytes else max(0.0, 1.0 - self.free_bytes / self.total_bytes)


class DeviceTelemetry(msgspec.Struct, frozen=True, gc=False):
    """What telemetry adds to a node's state."""

    device_loads: tuple[DeviceLoad | None, ...] = ()
    """Per position; None = nothing known or all of it stale. Empty: no telemetry was ever seen."""
    fenced_but_offered: int = 0
    """Mask of fenced devices that the device plugin may still hand out."""
    stale: bool = False
    """Whether a device that was known is not any more."""


NO_TELEMETRY = DeviceTelemetry()


@dataclass(frozen=True, slots=True)
class Joined:
    """Telemetry laid over a machine."""

    device_loads: tuple[DeviceLoad | None, ...]
    faulty: int
    """Mask of fenced positions."""
    problems: tuple[str, ...]
    stale: bool
    """Whether a device that was known is not any more."""


def join(
    machine: Machine, telemetry: NodeTelemetry, held: Mapping[str, tuple[int, ...]], monotonic_seconds: float | None, max_age_seconds: float
) -> Joined:
    """Telemetry by position. `held`: pod key -> masks of the positions it holds, for what its engine says."""
    conditions = {uuid: one for (uuid, instance), one in telemetry.devices.items() if instance is None}
    instances = [(uuid, one) for (uuid, instance), one in telemetry.devices.items() if instance is not None]
    by_index = {one.reading.index: one for one in conditions.values()}
    pressed = _pressed(telemetry, held, monotonic_seconds, max_age_seconds)
    device_loads: list[DeviceLoad | None] = []
    faulty, stale = 0, False
    for position, gpu in enumerate(machine.gpus):
        found = conditions.get(gpu.uuid) if gpu.uuid else by_index.get(gpu.index)
        parts = [one for uuid, one in instances if gpu.uuid and uuid == gpu.uuid]
        standing = _standing(found, parts, pressed.get(position), monotonic_seconds, max_age_seconds)
        stale = stale or any(_old(one, monotonic_seconds, max_age_seconds) for one in (found, *parts) if one)
        faulty |= 1 << position if standing and standing.fault else 0
        device_loads.append(standing)
    known = {gpu.uuid for gpu in machine.gpus}
    strangers = sorted({uuid for uuid, _ in telemetry.devices} - known) if None not in known else []
    problems = tuple(f"telemetry names {uuid}, which the node's GpuTopology does not have" for uuid in strangers)
    return Joined(tuple(device_loads), faulty, problems, stale)


def unplaced_faults(telemetry: NodeTelemetry) -> int:
    """How many devices are fenced, on a node whose topology nobody knows."""
    return len({uuid for (uuid, _), one in telemetry.devices.items() if one.fault is not None})


def _old(condition: DeviceCondition, monotonic_seconds: float | None, max_age_seconds: float) -> bool:
    return monotonic_seconds is not None and monotonic_seconds - condition.seen_seconds > max_age_seconds


def _standing(
    found: DeviceCondition | None, instances: list[DeviceCondition], pressure: float | None, monotonic: float | None, max_age: float
) -> DeviceLoad | None:
    """A fence stands however old it is; all else is unknown once it is too old. An instance's fault is its card's."""
    faults = [one.fault for one in (found, *instances) if one is not None and one.fault is not None]
    fault, xid = (", ".join(sorted({one.text for one in faults})), any(one.xid for one in faults)) if faults else (None, False)
    if found is None or _old(found, monotonic, max_age):
        if fault is None and pressure is None:
            return None
        return DeviceLoad(traffic=pressure, fault=fault, xid=xid)
    traffic = found.traffic.value if found.traffic else None
    if pressure is not None:
        traffic = max(traffic or 0.0, pressure)
    free = found.free_bytes
    return DeviceLoad(
        found.strain.value if found.strain else None,
        traffic,
        None if free is None else free // MEMORY_STEP_BYTES * MEMORY_STEP_BYTES,
        found.reading.fb_total_bytes,
        fault,
        xid,
    )


def _pressed(telemetry: NodeTelemetry, held: Mapping[str, tuple[int, ...]], monotonic: float | None, max_age: float) -> dict[int, float]:
    """Position -> pressure of the engine that runs there."""
    found: dict[int, float] = {}
    for key, engine in telemetry.engines.items():
        fresh = monotonic is None or monotonic - engine.seen_seconds <= max_age
        if engine.pressure is None or not fresh:
            continue
        for mask in held.get(key, ()):
            for position in positions_of(mask):
                found[position] = max(engine.pressure.value, found.get(position, 0.0))
    return found


@lru_cache(maxsize=65_536)
def device_telemetry(device_loads: tuple[DeviceLoad | None, ...], fenced_but_offered: int, stale: bool) -> DeviceTelemetry:
    """One object per distinct content. A cache: dropping an entry costs time, never an answer."""
    return DeviceTelemetry(device_loads, fenced_but_offered, stale)
