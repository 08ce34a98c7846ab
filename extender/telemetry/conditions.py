"""Readings over time -> the condition of a device, an engine, a node. One fold step each; times are arguments.

All times here are monotonic seconds, so that a corrected clock changes the age of no value.

Three steps reduce noise: a value is smoothed unless it jumps; decisions see a value that changes only when the smoothed value has left
it by a margin; and a device whose memory jumps in both directions counts with its least free memory until it has been quiet.

There are tens of thousands of conditions, without reference cycles: `gc=False` keeps the garbage collector from traversing them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from extender.telemetry import xids
from extender.telemetry.readings import DeviceReading, EngineReading
from extender.telemetry.signals import POWER_BRAKE, THERMAL

STEPS = 8
"""Decisions see a pressure in so many steps from 0 to 1."""

WARM_CELSIUS, HOT_CELSIUS = 70.0, 90.0
"""Strain by heat rises from 0 to 1 between the two: data-centre GPUs slow down at 87 to 95 degrees (their product briefs)."""

PCIE_BYTES_PER_SECOND = 25e9
"""Bandwidth of a PCIe 4 x16 link; traffic is a share of it."""

FULL_KV_FROM = 0.5
"""KV cache usage at which pressure begins; at a usage of 1 it is 1."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The operator's settings; `settings.Telemetry` has their meaning and defaults."""

    half_life_seconds: float = 30.0
    jump_share: float = 0.10
    hold_share: float = 0.08
    restless_seconds: float = 300.0
    quiet_seconds: float = 600.0
    max_age_seconds: float = 60.0
    fatal_xids: tuple[int, ...] = xids.DEFAULT_FATAL


TUNING = Tuning()
_MAX_REVERSALS = 3
"""Changes of direction within `restless_seconds` from which a device counts with its least free memory."""

SLEW = 0.25
"""The most that one reading moves a smoothed pressure."""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why a device is fenced."""

    text: str
    xid: bool
    """Whether an XID is the reason; else ECC or row remapping."""
    first_seconds: float
    last_seconds: float
    """Of the newest reading that showed it."""


class Smoothed(msgspec.Struct, frozen=True, gc=False):
    """A gauge: its running mean, and the step that decisions see."""

    mean: float
    step: int
    """0..`STEPS`."""

    @property
    def value(self) -> float:
        """0..1."""
        return self.step / STEPS


class FreeMemory(msgspec.Struct, frozen=True, gc=False):
    """Free framebuffer as a share of the total: its running mean `mean`, and `held`, the value that decisions see."""

    mean: float
    held: float
    rising: bool | None = None
    """Whether the last jump was upwards; None before the first."""
    reversals_seconds: tuple[float, ...] = ()
    """Times when jumps changed direction, newest last."""


class DeviceCondition(msgspec.Struct, frozen=True, gc=False):
    """A device as decisions see it. None = unknown."""

    reading: DeviceReading
    """The newest."""
    seen_seconds: float
    memory: FreeMemory | None = None
    strain: Smoothed | None = None
    """How little headroom the device has for new work, 0..1: heat, throttling, errors, utilization."""
    traffic: Smoothed | None = None
    """How much its PCIe traffic delays neighbouring devices, 0..1."""
    fault: Fault | None = None
    suspicions: tuple[str, ...] = ()

    @property
    def free_bytes(self) -> int | None:
        """Free framebuffer in bytes as decisions see it; None where unknown."""
        total = self.reading.fb_total_bytes
        return int(self.memory.held * total) if self.memory is not None and total else None


def vacated(condition: DeviceCondition) -> DeviceCondition:
    """Return the condition after the device's pod is gone: its free memory is unknown until the next reading."""
    return msgspec.structs.replace(condition, memory=None) if condition.memory is not None else condition


def emptied(condition: DeviceCondition) -> DeviceCondition:
    """Return the condition that the device would have without its pod: all memory is free."""
    return msgspec.structs.replace(condition, memory=FreeMemory(1.0, 1.0))


class EngineCondition(msgspec.Struct, frozen=True, gc=False):
    """The serving engines of one pod."""

    readings: tuple[EngineReading, ...]
    seen_seconds: float
    pressure: Smoothed | None = None


DeviceKey = tuple[str, int | None]
_NO_DEVICES: Mapping[DeviceKey, DeviceCondition] = MappingProxyType({})
_NO_ENGINES: Mapping[str, EngineCondition] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class NodeTelemetry:
    """All telemetry of a node."""

    devices: Mapping[DeviceKey, DeviceCondition] = field(default_factory=lambda: _NO_DEVICES)
    engines: Mapping[str, EngineCondition] = field(default_factory=lambda: _NO_ENGINES)
    """By pod key."""
    troubles: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(source, problems of its last scrape), by source."""
    seen_seconds: frozenset[float] = frozenset()
    """Times of its parts: mostly a single one."""

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems of the last scrape of every source."""
        return tuple(text for _, texts in self.troubles for text in texts)

    def ages_between(self, before_seconds: float | None, now_seconds: float | None, max_age_seconds: float) -> bool:
        """Whether a part of the telemetry became too old between the two times."""
        if now_seconds is None:
            return False
        for seen in self.seen_seconds:  # noqa: SIM110 - a tick asks every node, and `any` over a generator takes twice as long
            if now_seconds - seen > max_age_seconds >= (before_seconds or seen) - seen:
                return True
        return False


def observe_device(before: DeviceCondition | None, reading: DeviceReading, now_seconds: float, tuning: Tuning = TUNING) -> DeviceCondition:
    """Return the condition after one more reading. A reading that is no newer than the last (a repeated scrape) changes nothing."""
    if before is not None and now_seconds <= before.seen_seconds:
        return before
    past = before.seen_seconds if before else now_seconds
    share = 1.0 - 0.5 ** (max(0.0, now_seconds - past) / tuning.half_life_seconds) if before else 1.0
    suspicions = _suspicions(before.reading if before else None, reading, tuning)
    return DeviceCondition(
        reading,
        now_seconds,
        _memory(before.memory if before else None, reading, share, now_seconds, tuning),
        _smooth(before.strain if before else None, _strain(reading, suspicions), share),
        _smooth(before.traffic if before else None, _traffic(reading), share),
        _fault(before.fault if before else None, reading, now_seconds, tuning),
        tuple(text for text, _ in suspicions),
    )


def observe_engines(
    before: EngineCondition | None, readings: tuple[EngineReading, ...], now_seconds: float, tuning: Tuning = TUNING
) -> EngineCondition:
    """Return the condition of a pod's engines after one more reading."""
    past = before.seen_seconds if before else now_seconds
    share = 1.0 - 0.5 ** (max(0.0, now_seconds - past) / tuning.half_life_seconds) if before else 1.0
    known = [pressure for reading in readings if (pressure := engine_pressure(reading)) is not None]
    return EngineCondition(readings, now_seconds, _smooth(before.pressure if before else None, max(known) if known else None, share))


FORGOTTEN_AGES = 10
"""A condition is dropped after so many times the maximum age without a new reading, unless the device is fenced."""


def observe(
    before: NodeTelemetry,
    devices: tuple[DeviceReading, ...],
    engines: tuple[tuple[str, tuple[EngineReading, ...]], ...],
    problems: tuple[str, tuple[str, ...]],
    now_seconds: float,
    tuning: Tuning = TUNING,
) -> NodeTelemetry:
    """Return a node's telemetry after one more scrape of a part of it. Conditions without a new reading stay, and become stale.

    `problems` is (source, problems of this scrape).
    """
    known, running = dict(before.devices), dict(before.engines)
    for reading in devices:
        key = (reading.uuid, reading.mig_instance)
        seen = now_seconds - (reading.age_seconds or 0.0)
        known[key] = observe_device(known.get(key), reading, seen, tuning)
    for pod, readings in engines:
        running[pod] = observe_engines(running.get(pod), readings, now_seconds, tuning)
    limit = now_seconds - FORGOTTEN_AGES * tuning.max_age_seconds
    known = {key: device for key, device in known.items() if device.seen_seconds > limit or device.fault is not None}
    running = {key: engine for key, engine in running.items() if engine.seen_seconds > limit}
    seen_seconds = frozenset([device.seen_seconds for device in known.values()] + [engine.seen_seconds for engine in running.values()])
    source, sentences = problems
    troubles = {name: texts for name, texts in before.troubles if name != source} | ({source: sentences} if sentences else {})
    return NodeTelemetry(known, running, tuple(sorted(troubles.items())), seen_seconds)


def engine_pressure(reading: EngineReading) -> float | None:
    """Return the pressure of an engine, 0..1, by its KV cache or by the share of waiting requests; None where both are unknown."""
    parts = []
    if reading.kv_cache_usage is not None:
        parts.append(max(0.0, (reading.kv_cache_usage - FULL_KV_FROM) / (1.0 - FULL_KV_FROM)))
    if reading.requests_waiting is not None:
        parts.append(reading.requests_waiting / (reading.requests_waiting + (reading.requests_running or 0.0) + 1.0))
    return min(1.0, max(parts)) if parts else None


def healthy(reading: DeviceReading, tuning: Tuning = TUNING) -> bool | None:
    """Whether a reading shows a device without faults; None where it has no data on errors."""
    if _faults(reading, tuning):
        return False
    error_fields = (reading.xid, reading.ecc_double_bit, reading.row_remap_failed)
    return True if any(value is not None for value in error_fields) or reading.recent_xids else None


def _faults(reading: DeviceReading, tuning: Tuning) -> list[tuple[str, bool]]:
    """(text, whether an XID says so) of every fault."""
    codes = [*reading.recent_xids, *([reading.xid] if reading.xid else [])]
    faults = [(xids.described(code), True) for code in sorted(set(codes)) if xids.severity(code, tuning.fatal_xids) is xids.Severity.FATAL]
    if reading.ecc_double_bit:
        faults.append((f"{reading.ecc_double_bit} double-bit ECC errors", False))
    if reading.row_remap_failed:
        faults.append(("row remapping failed", False))
    return faults


def _fault(before: Fault | None, reading: DeviceReading, now_seconds: float, tuning: Tuning) -> Fault | None:
    """A faulty device is fenced at once. The fence ends with a healthy reading, after no reading showed a fault for `quiet_seconds`."""
    faults = _faults(reading, tuning)
    if faults:
        text = ", ".join(text for text, _ in faults)
        return Fault(text, any(is_xid for _, is_xid in faults), before.first_seconds if before else now_seconds, now_seconds)
    if before is None or (healthy(reading, tuning) and now_seconds - before.last_seconds >= tuning.quiet_seconds):
        return None
    return before


def _memory(before: FreeMemory | None, reading: DeviceReading, share: float, now_seconds: float, tuning: Tuning) -> FreeMemory | None:
    total = reading.fb_total_bytes
    if not total or reading.fb_free_bytes is None:
        return None
    free = reading.fb_free_bytes / total
    if before is None:
        return FreeMemory(free, free)
    if abs(free - before.mean) < tuning.jump_share:
        mean = before.mean + share * (free - before.mean)
        reversals = tuple(time for time in before.reversals_seconds if now_seconds - time < tuning.restless_seconds)
        restless = len(reversals) >= _MAX_REVERSALS and mean > before.held
        held = mean if abs(mean - before.held) > tuning.hold_share and not restless else before.held
        return FreeMemory(mean, held, before.rising, reversals)
    rising = free > before.mean
    reversals = before.reversals_seconds + ((now_seconds,) if before.rising is not None and before.rising is not rising else ())
    reversals = tuple(time for time in reversals if now_seconds - time < tuning.restless_seconds)[-2 * _MAX_REVERSALS :]
    held = min(before.held, free) if len(reversals) >= _MAX_REVERSALS else free
    return FreeMemory(free, held, rising, reversals)


def _suspicions(before: DeviceReading | None, reading: DeviceReading, tuning: Tuning) -> list[tuple[str, float]]:
    """(text, strain) of every sign of trouble that does not fence the device."""
    codes = sorted({*reading.recent_xids, *([reading.xid] if reading.xid else [])})
    unsorted = [code for code in codes if xids.severity(code, tuning.fatal_xids) is xids.Severity.UNSORTED]
    suspicions: list[tuple[str, float]] = [(xids.described(code), 0.25) for code in unsorted]
    if reading.row_remap_pending or reading.retirement_pending:
        suspicions.append(("row remapping or page retirement pending: needs a reset", 0.5))
    rising = (
        ("nvlink_recovery_errors", "NVLink recovery errors rise", 0.75),
        ("nvlink_crc_errors", "NVLink CRC errors rise", 0.5),
        ("nvlink_replay_errors", "NVLink replays rise", 0.25),
        ("pcie_replays", "PCIe replays rise", 0.25),
    )
    for name, text, strain in rising:
        now, past = getattr(reading, name), getattr(before, name, None)
        if now is not None and past is not None and now > past:
            suspicions.append((text, strain))
    return suspicions


def _strain(reading: DeviceReading, suspicions: list[tuple[str, float]]) -> float | None:
    parts = [strain for _, strain in suspicions]
    temperature = reading.temperature_celsius
    if temperature is not None:
        parts.append(max(0.0, min(1.0, (temperature - WARM_CELSIUS) / (HOT_CELSIUS - WARM_CELSIUS))))
    if reading.throttle_reasons is not None:
        parts.append(1.0 if reading.throttle_reasons & (THERMAL | POWER_BRAKE) else 0.0)
    if reading.power_watts is not None and reading.power_limit_watts:
        parts.append(0.5 * max(0.0, min(1.0, reading.power_watts / reading.power_limit_watts - 0.5) * 2))
    busy = [share for share in (reading.utilization, reading.engine_active) if share is not None]
    parts += busy[:1]
    return max(parts) if parts else None


def _traffic(reading: DeviceReading) -> float | None:
    parts = []
    flows = [flow for flow in (reading.pcie_tx_bytes_per_second, reading.pcie_rx_bytes_per_second) if flow is not None]
    if flows:
        parts.append(min(1.0, max(flows) / PCIE_BYTES_PER_SECOND))
    if reading.memory_utilization is not None:
        parts.append(0.5 * reading.memory_utilization)
    busy = reading.utilization if reading.utilization is not None else reading.engine_active
    if busy is not None:
        parts.append(0.5 * busy)
    return max(parts) if parts else None


def _smooth(before: Smoothed | None, value: float | None, share: float) -> Smoothed | None:
    """The next running mean and its step. The step changes only when the mean is more than 0.75 steps away from it."""
    if value is None:
        return None
    if before is None:
        return Smoothed(value, round(value * STEPS))
    moved = max(-SLEW, min(SLEW, share * (value - before.mean)))
    mean = before.mean + moved
    step = before.step if abs(mean * STEPS - before.step) <= 0.75 else round(mean * STEPS)
    return Smoothed(mean, step)
