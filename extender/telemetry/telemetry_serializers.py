"""Readings and conditions as plain data, for `fabricwise telemetry` and `/v1/nodes/NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from extender.telemetry import dcgm, engines
from extender.telemetry.conditions import TUNING, DeviceCondition, EngineCondition, NodeTelemetry, Tuning, healthy
from extender.telemetry.exposition import parse, seen
from extender.telemetry.readings import DeviceReading, EngineReading
from extender.telemetry.signals import FIELDS

_HEAD = ("uuid", "mig_instance", "mig_profile", "index", "product", "pci_bus_id")
_ENGINE_VALUES = ("kv_cache_usage", "requests_waiting", "requests_running")


def read(text: str, tuning: Tuning = TUNING) -> dict[str, Any]:
    """Return the readings of an exposition, its problems, and the metric families that are not read."""
    exposition = parse(text, lambda metric: dcgm.wanted(metric) or engines.wanted(metric))
    return {
        "devices": [device_answer(reading, tuning) for reading in dcgm.devices(exposition.samples)],
        "engines": [engine_answer(reading) for reading in engines.engines(exposition.samples)],
        "problems": list(exposition.problems),
        "not_read": {"families": exposition.other_family_count, "first": list(exposition.other_families)},
    }


SUPPORTED = f"dcgm-exporter 2.0 and newer (DCGM_FI_*), {', '.join(engines.SUPPORTED_ENGINES.values())}"
"""The supported exporters, for people."""


def not_understood(text: str) -> str:
    """Return why an exposition has no device and no engine: its content, the supported exporters and the remedy."""
    exposition = parse(text, lambda metric: dcgm.wanted(metric) or engines.wanted(metric))
    unsure = {sample.name for sample in exposition.samples}
    words = f"; {', '.join(sorted(unsure)[:3])} alone names no device and no engine" if unsure else ""
    for engine in dict.fromkeys(engine for family in exposition.other_families if (engine := engines.engine_of(family))):
        read_names = ", ".join(signal.metric for signal in engines.ENGINE_SIGNALS if signal.engine == engine)
        words += f"; of {engines.SUPPORTED_ENGINES[engine]}, what is read is {read_names}"
    problems = f"; {exposition.problems[0]}" if exposition.problems else ""
    return (
        f"no GPU and no serving engine is in it: {seen(exposition)}{words}{problems}. Supported: {SUPPORTED}. "
        "Give the metrics page of one of these, mostly http://HOST:PORT/metrics"
    )


def device_answer(reading: DeviceReading, tuning: Tuning = TUNING) -> dict[str, Any]:
    """Return every field of a reading, and the names of the unknown ones."""
    answer: dict[str, Any] = {name: getattr(reading, name) for name in _HEAD + FIELDS}
    answer["fb_total_bytes"] = reading.fb_total_bytes
    answer["recent_xids"], answer["pods"] = list(reading.recent_xids), list(reading.pods)
    answer["healthy"] = healthy(reading, tuning)
    answer["unknown"] = [name for name in FIELDS if getattr(reading, name) is None]
    return answer


def engine_answer(reading: EngineReading) -> dict[str, Any]:
    """Return every field of an engine's reading, and the names of the unknown ones."""
    answer = {name: getattr(reading, name) for name in ("engine", "model", *_ENGINE_VALUES)}
    return answer | {"unknown": [name for name in _ENGINE_VALUES if getattr(reading, name) is None]}


def telemetry_answer(
    telemetry: NodeTelemetry | None, monotonic_seconds: float | None, names: dict[str, str], tuning: Tuning = TUNING
) -> dict[str, Any]:
    """Return the telemetry of a node, every value with its age; `names` are the pods' full names by key."""
    telemetry = telemetry or NodeTelemetry()
    devices: Sequence[DeviceCondition] = sorted(telemetry.devices.values(), key=lambda c: (c.reading.uuid, c.reading.mig_instance or -1))
    return {
        "devices": [_condition(device, monotonic_seconds, tuning) for device in devices],
        "engines": [_engines(names.get(key, key), engine, monotonic_seconds, tuning) for key, engine in sorted(telemetry.engines.items())],
        "problems": list(telemetry.problems),
    }


def _condition(condition: DeviceCondition, monotonic_seconds: float | None, tuning: Tuning) -> dict[str, Any]:
    fault = condition.fault
    return device_answer(condition.reading, tuning) | {
        **_age(condition.seen_seconds, monotonic_seconds, tuning),
        "free_bytes_held": condition.free_bytes,
        "strain": condition.strain.value if condition.strain else None,
        "traffic": condition.traffic.value if condition.traffic else None,
        "fenced": {
            "why": fault.text,
            "seconds_since_first_seen": _since(fault.first_seconds, monotonic_seconds),
            "seconds_since_last_seen": _since(fault.last_seconds, monotonic_seconds),
        }
        if fault
        else None,
        "suspicions": list(condition.suspicions),
    }


def _engines(pod: str, condition: EngineCondition, monotonic_seconds: float | None, tuning: Tuning) -> dict[str, Any]:
    return {
        "pod": pod,
        **_age(condition.seen_seconds, monotonic_seconds, tuning),
        "pressure": condition.pressure.value if condition.pressure else None,
        "engines": [msgspec.to_builtins(engine_answer(reading)) for reading in condition.readings],
    }


def _age(seen_seconds: float, monotonic_seconds: float | None, tuning: Tuning) -> dict[str, Any]:
    age = _since(seen_seconds, monotonic_seconds)
    return {"age_seconds": age, "stale": age is not None and age > tuning.max_age_seconds}


def _since(then_seconds: float, monotonic_seconds: float | None) -> float | None:
    return None if monotonic_seconds is None else round(max(0.0, monotonic_seconds - then_seconds), 3)
