"""Readings over time -> the condition of a device, an engine, a node. One fold step each; times are given, never asked.

All times here are steady seconds (a clock that never goes back), so that a corrected clock neither ages nor rejuvenates a value.

Noise is met three times: a value is smoothed unless it jumps; what a decision sees is held until the smoothed value has left it
by a margin; and a device whose memory keeps jumping to and fro is taken at its fullest until it has been quiet.

There are tens of thousands of conditions, none in a cycle: structs that the garbage collector need not walk.
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
"""Pressures are seen in eighths."""

WARM_CELSIUS, HOT_CELSIUS = 70.0, 90.0
"""Heat counts from the first and fully from the second: data-centre GPUs slow down at 87 to 95 (their product briefs)."""

PCIE_BYTES_PER_SECOND = 25e9
"""What a x16 link of generation 4 carries; traffic is a share of it."""

FULL_KV_FROM = 0.5
"""KV cache usage from which an engine presses; at 1 it presses fully."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The operator's numbers; `settings.Telemetry` has their meaning and defaults."""

    half_life_seconds: float = 30.0
    jump_share: float = 0.10
    hold_share: float = 0.08
    restless_seconds: float = 300.0
    quiet_seconds: float = 600.0
    max_age_seconds: float = 60.0
    fatal_xids: tuple[int, ...] = xids.DEFAULT_FATAL


TUNING = Tuning()
_MOST_TURNS = 3
"""Changes of direction within `restless_seconds` from which a device's memory is taken at its fullest."""

SLEW = 0.25
"""A smoothed pressure moves by so much per reading at most."""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why a device is fenced."""

    text: str
    xid: bool
    """Whether an XID says so; else ECC or row remapping."""
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
    """Free framebuffer as a share of the card's: its running mean, and what decisions see."""

    mean: float
    held: float
    rising: bool | None = None
    """Which way the last jump went."""
    turns_seconds: tuple[float, ...] = ()
    """When jumps changed direction, newest last."""


class DeviceCondition(msgspec.Struct, frozen=True, gc=False):
    """A device as decisions see it. None = unknown."""

    reading: DeviceReading
    """The newest."""
    seen_seconds: float
    memory: FreeMemory | None = None
    strain: Smoothed | None = None
    """How little the device itself has left for new work: heat, throttling, errors, somebody's computing."""
    traffic: Smoothed | None = None
    """How much it makes its neighbours wait."""
    fault: Fault | None = None
    suspicions: tuple[str, ...] = ()

    @property
    def free_bytes(self) -> int | None:
        """Free framebuffer as decisions see it."""
        total = self.reading.fb_total_bytes
        return int(self.memory.held * total) if self.memory is not None and total else None


def vacated(condition: DeviceCondition) -> DeviceCondition:
    """The condition once the device's holder has left: how much of its memory is free is not known until the next look."""
    return msgspec.structs.replace(condition, memory=None) if condition.memory is not None else condition


def emptied(condition: DeviceCondition) -> DeviceCondition:
    """The condition as it would be if the device's holder left: all he is not known to share the memory with is free."""
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
    """All that telemetry says of a node."""

    devices: Mapping[DeviceKey, DeviceCondition] = field(default_factory=lambda: _NO_DEVICES)
    engines: Mapping[str, EngineCondition] = field(default_factory=lambda: _NO_ENGINES)
    """By pod key."""
    troubles: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(source, what was wrong with its last look), by source."""
    seen_seconds: frozenset[float] = frozenset()
    """When its parts were seen: mostly one moment."""

    @property
    def problems(self) -> tuple[str, ...]:
        """What was wrong with the last look of any source."""
        return tuple(text for _, texts in self.troubles for text in texts)

    def ages_between(self, before_seconds: float | None, now_seconds: float | None, max_age_seconds: float) -> bool:
        """Whether a part has become too old in that time."""
        if now_seconds is None:
            return False
        return any(now_seconds - seen > max_age_seconds >= (before_seconds or seen) - seen for seen in self.seen_seconds)


def observe_device(before: DeviceCondition | None, reading: DeviceReading, now_seconds: float, tuning: Tuning = TUNING) -> DeviceCondition:
    """The condition after one more reading. One that is no newer than the last (a server repeating itself) changes nothing."""
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
    """The condition of a pod's engines after one more look."""
    past = before.seen_seconds if before else now_seconds
    share = 1.0 - 0.5 ** (max(0.0, now_seconds - past) / tuning.half_life_seconds) if before else 1.0
    known = [pressure for reading in readings if (pressure := engine_pressure(reading)) is not None]
    return EngineCondition(readings, now_seconds, _smooth(before.pressure if before else None, max(known) if known else None, share))


FORGOTTEN_AGES = 10
"""After so many times the greatest age, what was neither seen again nor fenced is forgotten."""


def observe(
    before: NodeTelemetry,
    devices: tuple[DeviceReading, ...],
    engines: tuple[tuple[str, tuple[EngineReading, ...]], ...],
    problems: tuple[str, tuple[str, ...]],
    now_seconds: float,
    tuning: Tuning = TUNING,
) -> NodeTelemetry:
    """A node's telemetry after one more look at some of it. A look that found nothing keeps what is known: it grows old.

    `problems`: the source, and what was wrong with this look.
    """
    known, running = dict(before.devices), dict(before.engines)
    for reading in devices:
        key = (reading.uuid, reading.mig_instance)
        seen = now_seconds - (reading.age_seconds or 0.0)
        known[key] = observe_device(known.get(key), reading, seen, tuning)
    for pod, readings in engines:
        running[pod] = observe_engines(running.get(pod), readings, now_seconds, tuning)
    limit = now_seconds - FORGOTTEN_AGES * tuning.max_age_seconds
    known = {key: one for key, one in known.items() if one.seen_seconds > limit or one.fault is not None}
    running = {key: one for key, one in running.items() if one.seen_seconds > limit}
    seen_seconds = frozenset([one.seen_seconds for one in known.values()] + [one.seen_seconds for one in running.values()])
    source, words = problems
    troubles = {name: told for name, told in before.troubles if name != source} | ({source: words} if words else {})
    return NodeTelemetry(known, running, tuple(sorted(troubles.items())), seen_seconds)


def engine_pressure(reading: EngineReading) -> float | None:
    """How hard an engine is pressed, 0..1: by its KV cache, or by requests waiting beside those running."""
    parts = []
    if reading.kv_cache_usage is not None:
        parts.append(max(0.0, (reading.kv_cache_usage - FULL_KV_FROM) / (1.0 - FULL_KV_FROM)))
    if reading.requests_waiting is not None:
        parts.append(reading.requests_waiting / (reading.requests_waiting + (reading.requests_running or 0.0) + 1.0))
    return min(1.0, max(parts)) if parts else None


def healthy(reading: DeviceReading, tuning: Tuning = TUNING) -> bool | None:
    """Whether a reading shows a device fit for work; None where it has no word on errors."""
    if _faults(reading, tuning):
        return False
    told = (reading.xid, reading.ecc_double_bit, reading.row_remap_failed)
    return True if any(word is not None for word in told) or reading.recent_xids else None


def _faults(reading: DeviceReading, tuning: Tuning) -> list[tuple[str, bool]]:
    codes = [*reading.recent_xids, *([reading.xid] if reading.xid else [])]
    found = [(xids.said(code), True) for code in sorted(set(codes)) if xids.severity(code, tuning.fatal_xids) is xids.Severity.FATAL]
    if reading.ecc_double_bit:
        found.append((f"{reading.ecc_double_bit} double-bit ECC errors", False))
    if reading.row_remap_failed:
        found.append(("row remapping failed", False))
    return found


def _fault(before: Fault | None, reading: DeviceReading, now_seconds: float, tuning: Tuning) -> Fault | None:
    """Fenced at once; free again when a reading shows the device well, and none has shown it ill for the quiet time."""
    found = _faults(reading, tuning)
    if found:
        text = ", ".join(text for text, _ in found)
        return Fault(text, any(xid for _, xid in found), before.first_seconds if before else now_seconds, now_seconds)
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
        turns = tuple(turn for turn in before.turns_seconds if now_seconds - turn < tuning.restless_seconds)
        restless = len(turns) >= _MOST_TURNS and mean > before.held
        held = mean if abs(mean - before.held) > tuning.hold_share and not restless else before.held
        return FreeMemory(mean, held, before.rising, turns)
    rising = free > before.mean
    turns = before.turns_seconds + ((now_seconds,) if before.rising is not None and before.rising is not rising else ())
    turns = tuple(turn for turn in turns if now_seconds - turn < tuning.restless_seconds)[-2 * _MOST_TURNS :]
    held = min(before.held, free) if len(turns) >= _MOST_TURNS else free
    return FreeMemory(free, held, rising, turns)


def _suspicions(before: DeviceReading | None, reading: DeviceReading, tuning: Tuning) -> list[tuple[str, float]]:
    """What is worth a look but keeps nobody away, each with its strain."""
    codes = sorted({*reading.recent_xids, *([reading.xid] if reading.xid else [])})
    unsorted = [code for code in codes if xids.severity(code, tuning.fatal_xids) is xids.Severity.UNSORTED]
    found: list[tuple[str, float]] = [(xids.said(code), 0.25) for code in unsorted]
    if reading.row_remap_pending or reading.retirement_pending:
        found.append(("row remapping or page retirement pending: needs a reset", 0.5))
    rising = (
        ("nvlink_recovery_errors", "NVLink recovery errors rise", 0.75),
        ("nvlink_crc_errors", "NVLink CRC errors rise", 0.5),
        ("nvlink_replay_errors", "NVLink replays rise", 0.25),
        ("pcie_replays", "PCIe replays rise", 0.25),
    )
    for name, text, strain in rising:
        now, past = getattr(reading, name), getattr(before, name, None)
        if now is not None and past is not None and now > past:
            found.append((text, strain))
    return found


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
    """A running mean, and its step: held until the mean is nearer to another step's middle than by half a step and a bit."""
    if value is None:
        return None
    if before is None:
        return Smoothed(value, round(value * STEPS))
    moved = max(-SLEW, min(SLEW, share * (value - before.mean)))
    mean = before.mean + moved
    step = before.step if abs(mean * STEPS - before.step) <= 0.75 else round(mean * STEPS)
    return Smoothed(mean, step)
