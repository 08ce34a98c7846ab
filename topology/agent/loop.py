"""The agent's loop: read the hardware and the allocations, publish both, wait.

Intervals are measured with a monotonic clock. Wall-clock time is only what `status.observedAt` says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from topology.agent.gather import Gathered, gather
from topology.agent.nvml import NvmlUnavailableError, read_driver
from topology.agent.pod_resources import AllocatableDevices, AllocatedDevices, PodResources, PodResourcesError, physical_device
from topology.agent.publisher import Publisher
from topology.agent.sysfs import Sysfs
from topology.gputopology import MAX_REASON_LENGTH, Allocation, DeviceStatus, TopologyRecord
from topology.machine.hardware import Machine, TopologyError

log = logging.getLogger("fabricwise.agent")

Hardware = Callable[[], Gathered]

MAX_PAUSE_SECONDS = 60.0
"""Longest pause before the next round after rounds that failed."""


def read_hardware(kernel: Sysfs, allow_no_gpu: bool) -> Gathered:
    """The node's hardware. Raises NvmlUnavailableError; with `allow_no_gpu` a node without NVML has no GPUs instead."""
    try:
        return gather(read_driver(), kernel)
    except NvmlUnavailableError:
        if not allow_no_gpu:
            raise
        return Gathered(Machine((), cpu_model=kernel.cpu_model()))


def allocations(machine: Machine, allocations_of: tuple[AllocatedDevices, ...]) -> tuple[Allocation, ...]:
    """The GPUs that containers hold, one entry per GPU and pod: whole, a MIG instance of it or a shared replica."""
    owner = {gpu.uuid: gpu.index for gpu in machine.gpus if gpu.uuid}
    owner |= {mig.uuid: gpu.index for gpu in machine.gpus for mig in gpu.mig_instances}
    held = {
        (owner[physical_device(device)], holding.namespace, holding.pod)
        for holding in allocations_of
        for device in holding.device_ids
        if physical_device(device) in owner
    }
    return tuple(Allocation(index, None, namespace, pod) for index, namespace, pod in sorted(held))


def placement_record_of(
    node: str,
    hardware: Gathered,
    allocations_of: tuple[AllocatedDevices, ...] | None,
    allocatable: tuple[AllocatableDevices, ...] | None,
    now_seconds: float,
    kubelet_error: str | None = None,
) -> TopologyRecord:
    """The record to publish. With `holdings` None the kubelet did not answer: the status then claims nothing about allocations, and
    says why (`kubelet_error`)."""
    machine, unhealthy = hardware.machine, dict(hardware.unhealthy)
    offered = {physical_device(device) for entry in allocatable or () for device in entry.device_ids}
    for gpu in machine.gpus:
        names = {gpu.uuid, *(mig.uuid for mig in gpu.mig_instances)}
        if offered & {g.uuid for g in machine.gpus} and not names & offered:
            unhealthy.setdefault(gpu.index, "the device plugin does not offer it")
    sick = tuple(sorted(unhealthy.items()))
    if allocations_of is None:
        reason = (kubelet_error or "the kubelet did not answer")[:MAX_REASON_LENGTH]
        status = DeviceStatus(None, (), sick, now_seconds, hardware.health, allocations_unknown=reason)
    else:
        held = allocations(machine, allocations_of)
        taken = {entry.index for entry in held} | set(unhealthy)
        free = tuple(gpu.index for gpu in machine.gpus if gpu.index not in taken)
        status = DeviceStatus(free, held, sick, now_seconds, hardware.health)
    return TopologyRecord(node, machine, status)


@dataclass(slots=True)
class State:
    """What the loop has done, for health and metrics. The loop's thread writes it, the HTTP server's threads read it."""

    rounds: int = 0
    """Rounds that came to their end, whether or not the API server took the result."""
    failed_rounds: int = 0
    """Rounds that ended in an exception."""
    publications: int = 0
    gpus: int = 0
    unhealthy: int = 0
    kubelet_error: str | None = None
    hardware_error: str | None = None
    publish_error: str | None = None
    round_error: str | None = None
    """Why the last round ended in an exception; None when it did not."""
    last_round_seconds: float | None = None
    """Unix time."""
    last_round_monotonic_seconds: float | None = None
    stop: Event = field(default_factory=Event)

    def problems(self) -> tuple[str, ...]:
        """Why the agent is not ready, one sentence per part; empty when it is ready."""
        parts = {"round": self.round_error, "hardware": self.hardware_error, "kubelet": self.kubelet_error, "publish": self.publish_error}
        if self.round_error == self.hardware_error:  # one cause is said once
            del parts["round"]
        found = tuple(f"{part}: {error}" for part, error in parts.items() if error is not None)
        return found or (() if self.rounds else ("no round yet",))


class Agent:
    """Reads and publishes every `interval_seconds`. Reading the hardware costs tens of milliseconds per GPU, so it is read less often."""

    def __init__(
        self,
        node: str,
        hardware: Hardware,
        kubelet: PodResources,
        publisher: Publisher | None,
        interval_seconds: float,
        hardware_seconds: float = 60.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives Unix time, `monotonic` the time that intervals are measured with; both in seconds."""
        self._node, self._hardware, self._kubelet, self._publisher = node, hardware, kubelet, publisher
        self._interval_seconds, self._hardware_seconds = interval_seconds, hardware_seconds
        self._clock, self._monotonic = clock, monotonic
        self._known: Gathered | None = None
        self._read_at_monotonic_seconds = 0.0
        self._consecutive_failures = 0
        self.state = State()

    def round(self) -> TopologyRecord:
        """Read the node once, and publish if there is a publisher. Raises TopologyError if the hardware was never read."""
        now = self._monotonic()
        if self._known is None or now >= self._read_at_monotonic_seconds + self._hardware_seconds:
            self._read(now)
        assert self._known is not None
        allocations_of, allocatable = self._ask_kubelet()
        record = placement_record_of(self._node, self._known, allocations_of, allocatable, self._clock(), self.state.kubelet_error)
        state = self.state
        state.gpus = len(record.machine.gpus)
        state.unhealthy = len(record.status.unhealthy) if record.status else 0
        if self._publisher is not None:
            state.publications += self._publisher.publish(record)
            state.publish_error = self._publisher.last_error
        state.rounds, state.last_round_seconds, state.last_round_monotonic_seconds = state.rounds + 1, self._clock(), now
        return record

    def _read(self, now_monotonic_seconds: float) -> None:
        try:
            self._known = self._hardware()
        except TopologyError as error:
            self.state.hardware_error = str(error)
            if self._known is None:
                raise
            log.warning("%s; keeping what was last read", error)
        else:
            self.state.hardware_error = None
        self._read_at_monotonic_seconds = now_monotonic_seconds

    def _ask_kubelet(self) -> tuple[tuple[AllocatedDevices, ...] | None, tuple[AllocatableDevices, ...] | None]:
        """What containers hold and what the kubelet could hand out, each None where the kubelet does not say."""
        try:
            allocations_of = self._kubelet.list()
        except PodResourcesError as error:
            if self.state.kubelet_error != str(error):
                log.warning("%s: publishing that the allocations are unknown", error)
            self.state.kubelet_error = str(error)
            return None, None
        if self.state.kubelet_error is not None:
            log.info("the kubelet answers again")
        self.state.kubelet_error = None
        try:
            return allocations_of, self._kubelet.allocatable()
        except PodResourcesError as error:  # the allocations are known all the same
            log.debug("%s", error)
            return allocations_of, None

    def run(self) -> None:
        """Rounds until `state.stop` is set. A round that fails is logged and counted, and tried again after a growing pause."""
        while not self.state.stop.is_set():
            self.state.stop.wait(self._guarded_round())

    def _guarded_round(self) -> float:
        """One round; return the seconds to wait before the next. No exception but those that end a process leaves here."""
        try:
            self.round()
        except TopologyError as error:
            self._failed(str(error))
            log.error("%s", error)
        except Exception as error:
            self._failed(f"unexpected {type(error).__name__}: {error}")
            log.exception("a round ended in an unexpected exception; the next one follows")
        else:
            self._consecutive_failures, self.state.round_error = 0, None
            return self._interval_seconds
        growing = self._interval_seconds * 2.0 ** min(self._consecutive_failures - 1, 16)
        return max(self._interval_seconds, min(MAX_PAUSE_SECONDS, growing))

    def _failed(self, why: str) -> None:
        self._consecutive_failures += 1
        self.state.failed_rounds, self.state.round_error = self.state.failed_rounds + 1, why
