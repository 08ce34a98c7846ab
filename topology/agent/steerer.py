"""The agent's side of the steerer on its node: what it is told about the devices, and what it reports. Both are files in one folder."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import pynvml as _pynvml
from msgspec import Meta

from topology.devices.facts_file import encode_facts
from topology.devices.steering import CROWDED_BYTES, KnownDevices, Steering, known_devices
from topology.devices.steering_table import ValueTable, table_of
from topology.gputopology.manifest_fields import MAX_COUNT, MAX_STEERING_REASONS, MAX_STEERING_RESOURCES
from topology.gputopology.topology_record import DeviceStatus, SteeringStatus
from topology.machine.hardware import Machine
from topology.placement.shared_tables import table_for

pynvml: Any = _pynvml  # it has no types

log = logging.getLogger("fabricwise.agent")

DEFAULT_FOLDER = Path("/run/fabricwise")
_RENEW_SECONDS = 30.0
_MOST_REPORT_AGE_SECONDS = 10.0
"""A report that is older is of a steerer that has ended: it writes one every two seconds."""
_MOST_REPORT_BYTES = 1 << 16

PRESSURE_STEPS = 4
"""Pressure is told in quarters, rounded down: a set is preferred to an equal one for a real difference, and seldom changes."""

Reading = TypeVar("Reading")

LoadReader = Callable[[], Mapping[int, float]]
"""Load per GPU, by nvidia-smi index, 0..1; a GPU that does not say is left out."""

MemoryReader = Callable[[], Mapping[int, int]]
"""Memory in use per GPU, by nvidia-smi index, in bytes; a GPU that does not say is left out."""

_Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
_Name = Annotated[str, Meta(min_length=1, max_length=256)]


class _Report(msgspec.Struct, frozen=True, rename="camel"):
    version: Annotated[str, Meta(max_length=64)]
    written_at_seconds: float
    resources: Annotated[list[_Name], Meta(max_length=MAX_STEERING_RESOURCES)]
    steered: _Count
    forwarded: Annotated[dict[_Name, _Count], Meta(max_length=MAX_STEERING_REASONS)]
    differing: _Count


def used_memory() -> dict[int, int]:
    """What NVML says is in use on each GPU, without what the driver reserves for itself where the driver tells the two apart."""
    return _per_gpu(_used)


def _per_gpu(read: Callable[[Any], Reading]) -> dict[int, Reading]:
    """A reading of each GPU by nvidia-smi index, without those that do not answer."""
    found: dict[int, Reading] = {}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):
                found[index] = read(pynvml.nvmlDeviceGetHandleByIndex(index))
    except pynvml.NVMLError:
        return found
    finally:
        pynvml.nvmlShutdown()
    return found


def _used(handle: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used)
    except pynvml.NVMLError:  # a driver before 510
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)


def device_load() -> dict[int, float]:
    """The larger of the share of time in which each GPU ran something and the share in which it used its memory, by NVML."""

    def read(handle: Any) -> float:
        rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
        percent = float(max(rates.gpu, rates.memory))
        return min(1.0, max(0.0, percent / 100))

    return _per_gpu(read)


class Lasting:
    """Levels that change no further than two readings in a row agree on: a change for a moment changes nothing."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}
        self._told: dict[int, float] = {}

    def after(self, found: Mapping[int, float]) -> dict[int, float]:
        """The levels after one more reading, without those that are 0."""
        told = {}
        for index, level in found.items():
            low, high = sorted((self._last.get(index, 0.0), level))
            told[index] = min(max(self._told.get(index, 0.0), low), high)
        self._last, self._told = dict(found), told
        return {index: level for index, level in told.items() if level}


class SteererFolder:
    """Writes the facts for the steerer and reads its reports. Not safe for several threads: the agent's loop owns it."""

    def __init__(
        self,
        folder: Path = DEFAULT_FOLDER,
        memory: MemoryReader = used_memory,
        clock: Callable[[], float] = time.time,
        load: LoadReader = device_load,
    ) -> None:
        """`clock` gives Unix time."""
        self._folder, self._memory, self._clock, self._load = folder, memory, clock, load
        self._pressure = Lasting()
        self._crowded_before: set[int] = set()
        self._table: tuple[Machine, ValueTable | None] | None = None
        self._written: tuple[Machine, KnownDevices] | None = None
        self._written_at_seconds = 0.0

    def steering(self, machine: Machine, status: DeviceStatus) -> SteeringStatus | None:
        """What to publish of the steerer, None where none runs. Tells the steerer what is known of the devices now."""
        if not self._folder.is_dir() or not machine.gpus:
            return None
        memory, pressure = self._unknown_memory(machine, status), self._pressure.after(self._levels(machine, status))
        self._tell(machine, known_devices(machine, [index for index, _ in status.unhealthy], memory, pressure))
        report = self._report()
        if report is None or not report.resources:
            return None
        return SteeringStatus(
            report.version,
            tuple(report.resources),
            Steering().messages,
            tuple((index, held) for index, held in sorted(memory.items())),
            tuple(sorted(pressure.items())),
            report.steered,
            tuple(sorted(report.forwarded.items())),
            report.differing,
        )

    def _unknown_memory(self, machine: Machine, status: DeviceStatus) -> dict[int, int]:
        """Whole GiB in use on GPUs that no pod holds, by index. Twice in a row: a pod that ends leaves its memory for a moment."""
        held = {entry.index for entry in status.allocated}
        used = self._memory() if status.free is not None else {}
        found = {
            gpu.index: used[gpu.index] // CROWDED_BYTES * CROWDED_BYTES
            for gpu in machine.gpus
            if gpu.index not in held and used.get(gpu.index, 0) >= CROWDED_BYTES
        }
        lasting = {index: size for index, size in found.items() if index in self._crowded_before}
        self._crowded_before = set(found)
        return lasting

    def _levels(self, machine: Machine, status: DeviceStatus) -> dict[int, float]:
        """Load of the GPUs that no pod holds, in steps: that of a pod's own GPUs leaves with the pod."""
        if status.free is None:
            return {}
        held, load = {entry.index for entry in status.allocated}, self._load()
        free = [gpu.index for gpu in machine.gpus if gpu.index not in held and gpu.index in load]
        return {index: int(load[index] * PRESSURE_STEPS) / PRESSURE_STEPS for index in free}

    def _tell(self, machine: Machine, known: KnownDevices) -> None:
        now = self._clock()
        if self._written == (machine, known) and 0 <= now - self._written_at_seconds < _RENEW_SECONDS:
            return
        if self._table is None or self._table[0] != machine:
            self._table = machine, table_of(table_for(machine), Steering())
        table = self._table[1]
        path = self._folder / "devices.json"
        try:
            if table is None:  # too many kinds of sets: the steerer forwards NVIDIA's answers
                path.unlink(missing_ok=True)
            else:
                partial = path.with_name(f".devices.json.{os.getpid()}")
                partial.write_bytes(encode_facts(machine, table, Steering(known), now))
                partial.replace(path)
        except OSError as error:
            log.warning("the steerer is not told about the devices: %s", error)
            return
        self._written, self._written_at_seconds = (machine, known), now

    def _report(self) -> _Report | None:
        try:
            with (self._folder / "steering.json").open("rb") as file:
                report = msgspec.json.decode(file.read(_MOST_REPORT_BYTES), type=_Report)
        except (OSError, RecursionError, msgspec.DecodeError):
            return None
        return report if abs(self._clock() - report.written_at_seconds) <= _MOST_REPORT_AGE_SECONDS else None
