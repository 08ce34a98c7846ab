"""The agent's loop: read the hardware and the allocations, publish both, wait.

Intervals are measured with a monotonic clock. Wall-clock time is used for `status.observedAt` only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event

from topology.agent.gather import Gathered, gather
from topology.agent.nvml import NvmlUnavailableError, read_driver
from topology.agent.pod_resources import AllocatableDevices, AllocatedDevices, PodResources, PodResourcesError, physical_device
from topology.agent.publisher import Publisher
from topology.agent.steerer import SteererFolder
from topology.agent.sysfs import Sysfs
from topology.gputopology.manifest_fields import MAX_REASON_LENGTH
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.machine.hardware import Machine, TopologyError

log = logging.getLogger("fabricwise.agent")

Hardware = Callable[[], Gathered]

MAX_PAUSE_SECONDS = 60.0
"""Longest pause before the next round after rounds that failed."""


def read_hardware(kernel: Sysfs, allow_no_gpu: bool) -> Gathered:
    """Return the node's hardware. Raises NvmlUnavailableError; with `allow_no_gpu` a node without NVML has no GPUs instead."""
    try:
        return gather(read_driver(), kernel)
    except NvmlUnavailableError:
        if not allow_no_gpu:
            raise
        return Gathered(Machine((), cpu_model=kernel.cpu_model()))


def allocations(machine: Machine, allocated: tuple[AllocatedDevices, ...]) -> tuple[Allocation, ...]:
    """Return the allocated GPUs, one entry per GPU and pod. A MIG instance and a shared replica count as their GPU."""
    index_of = {gpu.uuid: gpu.index for gpu in machine.gpus if gpu.uuid}
    index_of |= {mig.uuid: gpu.index for gpu in machine.gpus for mig in gpu.mig_instances}
    entries = {
        (index_of[physical_device(device)], devices.namespace, devices.pod)
        for devices in allocated
        for device in devices.device_ids
        if physical_device(device) in index_of
    }
    return tuple(Allocation(index, None, namespace, pod) for index, namespace, pod in sorted(entries))


def topology_record(
    node: str,
    hardware: Gathered,
    allocated: tuple[AllocatedDevices, ...] | None,
    allocatable: tuple[AllocatableDevices, ...] | None,
    now_seconds: float,
    kubelet_error: str | None = None,
) -> TopologyRecord:
    """Return the record to publish; `now_seconds` is Unix time.

    `allocated` None = the kubelet did not answer: the status then states no allocations and why (`kubelet_error`).
    """
    machine, unhealthy = hardware.machine, dict(hardware.unhealthy)
    offered = {physical_device(device) for entry in allocatable or () for device in entry.device_ids}
    for gpu in machine.gpus:
        names = {gpu.uuid, *(mig.uuid for mig in gpu.mig_instances)}
        if offered & {g.uuid for g in machine.gpus} and not names & offered:
            unhealthy.setdefault(gpu.index, "the device plugin does not offer it")
    observed = DeviceStatus(unhealthy=tuple(sorted(unhealthy.items())), observed_at_seconds=now_seconds, health=hardware.health)
    if allocated is None:
        status = replace(observed, allocations_unknown=(kubelet_error or "the kubelet did not answer")[:MAX_REASON_LENGTH])
    else:
        gpu_allocations = allocations(machine, allocated)
        unavailable = {allocation.index for allocation in gpu_allocations} | set(unhealthy)
        free = tuple(gpu.index for gpu in machine.gpus if gpu.index not in unavailable)
        status = replace(observed, free=free, allocated=gpu_allocations)
    return TopologyRecord(node, machine, status)


@dataclass(slots=True)
class State:
    """Counters and errors of the loop, for health and metrics. The loop's thread writes them, the HTTP server's threads read them."""

    rounds: int = 0
    """Rounds that completed, whether or not the API server accepted the result."""
    failed_rounds: int = 0
    """Rounds that ended in an exception."""
    publications: int = 0
    gpus: int = 0
    unhealthy: int = 0
    kubelet_error: str | None = None
    hardware_error: str | None = None
    publish_error: str | None = None
    round_error: str | None = None
    """Why the last round ended in an exception; None where it did not."""
    last_round_seconds: float | None = None
    """Unix time."""
    last_round_monotonic_seconds: float | None = None
    stop: Event = field(default_factory=Event)

    def problems(self) -> tuple[str, ...]:
        """Return why the agent is not ready, one sentence per part; empty when it is ready."""
        parts = {"round": self.round_error, "hardware": self.hardware_error, "kubelet": self.kubelet_error, "publish": self.publish_error}
        if self.round_error == self.hardware_error:  # the same cause is reported once
            del parts["round"]
        sentences = tuple(f"{part}: {error}" for part, error in parts.items() if error is not None)
        return sentences or (() if self.rounds else ("no round yet",))


class Agent:
    """Reads allocations and publishes every `interval_seconds`. Reading the hardware costs tens of milliseconds per GPU, so that is done
    every `hardware_seconds` only."""

    def __init__(
        self,
        node: str,
        hardware: Hardware,
        kubelet: PodResources,
        publisher: Publisher | None,
        interval_seconds: float,
        hardware_seconds: float = 60.0,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        steerer: SteererFolder | None = None,
    ) -> None:
        """`clock` returns Unix time, `monotonic` the time that intervals are measured with; both in seconds. `steerer`: the folder that a
        steerer on this node shares with the agent."""
        self._steerer = steerer
        self._node, self._hardware, self._kubelet, self._publisher = node, hardware, kubelet, publisher
        self._interval_seconds, self._hardware_seconds = interval_seconds, hardware_seconds
        self._clock, self._monotonic = clock, monotonic
        self._known: Gathered | None = None
        self._read_at_monotonic_seconds = 0.0
        self._consecutive_failures = 0
        self.state = State()

    def round(self) -> TopologyRecord:
        """Read the node once, publish if there is a publisher, and return the record. Raises TopologyError if hardware was never read."""
        now = self._monotonic()
        if self._known is None or now >= self._read_at_monotonic_seconds + self._hardware_seconds:
            self._read_hardware(now)
        assert self._known is not None
        allocated, allocatable = self._read_kubelet()
        record = topology_record(self._node, self._known, allocated, allocatable, self._clock(), self.state.kubelet_error)
        if self._steerer is not None and record.status is not None:
            steering = self._steerer.steering(record.machine, record.status)
            record = replace(record, status=replace(record.status, steering=steering))
        state = self.state
        state.gpus = len(record.machine.gpus)
        state.unhealthy = len(record.status.unhealthy) if record.status else 0
        if self._publisher is not None:
            state.publications += self._publisher.publish(record)
            state.publish_error = self._publisher.last_error
        state.rounds, state.last_round_seconds, state.last_round_monotonic_seconds = state.rounds + 1, self._clock(), now
        return record

    def _read_hardware(self, now_monotonic_seconds: float) -> None:
        try:
            self._known = self._hardware()
        except TopologyError as error:
            self.state.hardware_error = str(error)
            if self._known is None:
                raise
            log.warning("%s; the last reading stays in use", error)
        else:
            self.state.hardware_error = None
        self._read_at_monotonic_seconds = now_monotonic_seconds

    def _read_kubelet(self) -> tuple[tuple[AllocatedDevices, ...] | None, tuple[AllocatableDevices, ...] | None]:
        """Allocated and allocatable devices, each None where the kubelet does not report them."""
        try:
            allocated = self._kubelet.list()
        except PodResourcesError as error:
            if self.state.kubelet_error != str(error):
                log.warning("%s; the published status says that the allocations are unknown", error)
            self.state.kubelet_error = str(error)
            return None, None
        if self.state.kubelet_error is not None:
            log.info("the kubelet answers again")
        self.state.kubelet_error = None
        try:
            return allocated, self._kubelet.allocatable()
        except PodResourcesError as error:  # the allocations are known nevertheless
            log.debug("%s", error)
            return allocated, None

    def run(self) -> None:
        """Run rounds until `state.stop` is set. A failed round is logged, counted, and repeated after a growing pause."""
        while not self.state.stop.is_set():
            self.state.stop.wait(self._guarded_round())

    def _guarded_round(self) -> float:
        """Run one round and return the seconds to wait before the next. Raises only exceptions that end a process."""
        try:
            self.round()
        except TopologyError as error:
            self._count_failure(str(error))
            log.error("%s", error)
        except Exception as error:
            self._count_failure(f"unexpected {type(error).__name__}: {error}")
            log.exception("a round ended in an unexpected exception; the next one follows")
        else:
            self._consecutive_failures, self.state.round_error = 0, None
            return self._interval_seconds
        growing = self._interval_seconds * 2.0 ** min(self._consecutive_failures - 1, 16)
        return max(self._interval_seconds, min(MAX_PAUSE_SECONDS, growing))

    def _count_failure(self, why: str) -> None:
        self._consecutive_failures += 1
        self.state.failed_rounds, self.state.round_error = self.state.failed_rounds + 1, why
