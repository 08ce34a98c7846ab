"""dcgm-exporter's samples -> device readings: whole GPUs, MIG instances, shared devices; joined by UUID alone.

The label `Hostname` is the exporter pod's own name and is ignored. A GPU that several pods share is exported once per pod with
the same values; of differing values the largest is used, for free memory the smallest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from extender.telemetry.exposition import Labels, Sample
from extender.telemetry.readings import DeviceReading
from extender.telemetry.signals import BY_METRIC, CLOCK_EVENT_BITS, CLOCK_EVENTS, FB_TOTAL, MEMORY, XID_COUNT, Signal, blank

_Key = tuple[str, int | None]


def wanted(metric: str) -> bool:
    """Whether a metric fills a field."""
    return metric in BY_METRIC or metric in (XID_COUNT, CLOCK_EVENTS, FB_TOTAL)


def devices(samples: Sequence[Sample]) -> tuple[DeviceReading, ...]:
    """Return one reading per GPU or MIG instance, by index, UUID and instance. Samples without a UUID are ignored."""
    drafts: dict[_Key, _Draft] = {}
    keys: dict[int, _Key | None] = {}  # a label block is one object for all metrics of a device
    for sample in samples:
        place = id(sample.labels)
        key = keys[place] if place in keys else keys.setdefault(place, device_key(sample.labels))
        if key is None:
            continue
        draft = drafts.get(key)
        if draft is None:
            draft = drafts[key] = _Draft(key)
        draft.add(sample)
    readings = (draft.reading() for draft in drafts.values())
    return tuple(
        sorted(readings, key=lambda reading: (reading.index is None, reading.index or 0, reading.uuid, reading.mig_instance or -1))
    )


def _order(reading: DeviceReading) -> tuple[bool, int, str, int]:
    return reading.index is None, reading.index or 0, reading.uuid, reading.mig_instance or -1


def device_key(labels: Labels) -> _Key | None:
    """Return (UUID, MIG instance); None without a UUID."""
    uuid = labels.get("UUID") or labels.get("uuid")
    if not uuid:
        return None
    return uuid, _whole(labels.get("GPU_I_ID"))


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


class _Draft:
    """A reading under construction."""

    def __init__(self, key: _Key) -> None:
        self._key = key
        self._values: dict[str, Any] = {}
        self._ranks: dict[str, int] = {}
        self._parts: dict[str, dict[str, int]] = {}
        self._labels: dict[str, str] = {}
        self._seen: int | None = None
        self._pods: set[str] = set()
        self._xids: set[int] = set()
        self._oldest_seconds: float | None = None
        self._total_bytes: int | None = None

    def add(self, sample: Sample) -> None:
        if id(sample.labels) != self._seen:
            self._seen = id(sample.labels)
            self._labels = {**sample.labels, **{k: v for k, v in self._labels.items() if v}}
            pod = sample.labels.get("exported_pod") or sample.labels.get("pod")
            if pod and self._names_workload(sample.labels):
                self._pods.add(f"{sample.labels.get('exported_namespace') or sample.labels.get('namespace') or 'default'}/{pod}")
        if blank(sample.value):
            return
        if sample.timestamp_seconds is not None:
            self._oldest_seconds = min(sample.timestamp_seconds, self._oldest_seconds or sample.timestamp_seconds)
        if sample.name == XID_COUNT:
            code = _whole(sample.labels.get("xid"))
            if code and sample.value > 0:
                self._xids.add(code)
        elif sample.name == CLOCK_EVENTS:
            bit = CLOCK_EVENT_BITS.get(sample.labels.get("clock_event", ""), 0) if sample.value > 0 else 0
            self._values["throttle_reasons"] = self._values.get("throttle_reasons", 0) | bit
        elif sample.name == FB_TOTAL:
            self._total_bytes = MEMORY(sample.value)
        else:
            self._take(BY_METRIC[sample.name], sample.value)

    @staticmethod
    def _names_workload(labels: Mapping[str, str]) -> bool:
        """Whether label `pod` names the workload. A Prometheus server that overrides labels puts the exporter's pod there, and the
        workload in `exported_pod`."""
        return "exported_pod" in labels or "instance" not in labels

    def _take(self, signal: Signal, value: float) -> None:
        amount, field = signal.read(value), signal.field
        if amount is None:
            return
        if signal.adds:
            parts = self._parts.setdefault(field, {})
            parts[signal.metric] = max(int(amount), parts.get(signal.metric, 0))
            self._values[field] = sum(parts.values())
            return
        rank = self._ranks.get(field, -1)
        if signal.rank < rank:
            return
        if signal.rank == rank:
            amount = min(amount, self._values[field]) if field == "fb_free_bytes" else max(amount, self._values[field])
        self._ranks[field], self._values[field] = signal.rank, amount

    def _free_from_total(self) -> None:
        """Compute free memory from the total, where the metric list has the total instead of the free memory."""
        used = self._values.get("fb_used_bytes")
        if self._total_bytes is not None and used is not None and "fb_free_bytes" not in self._values:
            free = self._total_bytes - used - self._values.get("fb_reserved_bytes", 0)
            if free >= 0:
                self._values["fb_free_bytes"] = free

    def reading(self) -> DeviceReading:
        """Return the reading of all samples so far."""
        self._free_from_total()
        uuid, instance = self._key
        labels = self._labels
        return DeviceReading(
            uuid,
            instance,
            labels.get("GPU_I_PROFILE") or None,
            _whole(labels.get("gpu")),
            labels.get("modelName") or None,
            labels.get("pci_bus_id") or None,
            labels.get("instance") or None,
            labels.get("node") or None,
            self._oldest_seconds,
            recent_xids=tuple(sorted(self._xids)),
            pods=tuple(sorted(self._pods)),
            **self._values,
        )
