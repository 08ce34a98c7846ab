"""The agent's loop: read hardware and holders, publish, wait."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from topology.agent.gather import Gathered, gather
from topology.agent.nvml import NvmlUnavailableError, read_driver
from topology.agent.pod_resources import Allocatable, Holding, PodResources, PodResourcesError, physical
from topology.agent.publisher import Publisher
from topology.agent.sysfs import Sysfs
from topology.hardware import Machine
from topology.record import Allocation, DeviceStatus, TopologyRecord

log = logging.getLogger("fabricwise.agent")

Hardware = Callable[[], Gathered]


def read_hardware(kernel: Sysfs, allow_no_gpu: bool) -> Gathered:
    """The node's hardware. Raises NvmlUnavailableError; with `allow_no_gpu` a node without NVML has no GPUs instead."""
    try:
        return gather(read_driver(), kernel)
    except NvmlUnavailableError:
        if not allow_no_gpu:
            raise
        return Gathered(Machine((), cpu_model=kernel.cpu_model()))


def allocations(machine: Machine, holdings: tuple[Holding, ...]) -> tuple[Allocation, ...]:
    """The GPUs that containers hold, one entry per GPU and pod: whole, a MIG instance of it or a shared replica."""
    owner = {gpu.uuid: gpu.index for gpu in machine.gpus if gpu.uuid}
    owner |= {mig.uuid: gpu.index for gpu in machine.gpus for mig in gpu.mig_instances}
    held = {
        (owner[physical(device)], holding.namespace, holding.pod)
        for holding in holdings
        for device in holding.device_ids
        if physical(device) in owner
    }
    return tuple(Allocation(index, None, namespace, pod) for index, namespace, pod in sorted(held))


def record_of(
    node: str, hardware: Gathered, holdings: tuple[Holding, ...] | None, allocatable: tuple[Allocatable, ...] | None, now_seconds: float
) -> TopologyRecord:
    """What to publish. Holdings None = the kubelet does not say: then nothing is claimed about who holds what."""
    machine, unhealthy = hardware.machine, dict(hardware.unhealthy)
    offered = {physical(device) for entry in allocatable or () for device in entry.device_ids}
    for gpu in machine.gpus:
        names = {gpu.uuid, *(mig.uuid for mig in gpu.mig_instances)}
        if offered & {g.uuid for g in machine.gpus} and not names & offered:
            unhealthy.setdefault(gpu.index, "the device plugin does not offer it")
    held = allocations(machine, holdings or ())
    free: tuple[int, ...] | None = None
    if holdings is not None:
        taken = {entry.index for entry in held} | set(unhealthy)
        free = tuple(gpu.index for gpu in machine.gpus if gpu.index not in taken)
    return TopologyRecord(node, machine, DeviceStatus(free, held, tuple(sorted(unhealthy.items())), now_seconds, hardware.health))


@dataclass(slots=True)
class State:
    """What the loop has done, for health and metrics."""

    rounds: int = 0
    publications: int = 0
    gpus: int = 0
    unhealthy: int = 0
    kubelet_error: str | None = None
    hardware_error: str | None = None
    publish_error: str | None = None
    last_round_seconds: float | None = None
    """Unix time."""
    stop: Event = field(default_factory=Event)


class Agent:
    """Gathers and publishes every `interval_seconds`, hardware less often: reading it costs tens of milliseconds per GPU."""

    def __init__(
        self, node: str, hardware: Hardware, kubelet: PodResources, publisher: Publisher | None, interval_seconds: float,
        hardware_seconds: float = 60.0, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._node, self._hardware, self._kubelet, self._publisher = node, hardware, kubelet, publisher
        self._interval_seconds, self._hardware_seconds, self._clock = interval_seconds, hardware_seconds, clock
        self._known: Gathered | None = None
        self._read_at = 0.0
        self.state = State()

    def round(self) -> TopologyRecord:
        """One look at the node, published if there is a publisher. Raises NvmlUnavailableError if hardware was never read."""
        now = self._clock()
        if self._known is None or now >= self._read_at + self._hardware_seconds:
            self._read(now)
        assert self._known is not None
        record = record_of(self._node, self._known, *self._ask_kubelet(), now)
        state = self.state
        state.rounds, state.last_round_seconds = state.rounds + 1, now
        state.gpus = len(record.machine.gpus)
        state.unhealthy = len(record.status.unhealthy) if record.status else 0
        if self._publisher is not None:
            state.publications += self._publisher.publish(record)
            state.publish_error = self._publisher.last_error
        return record

    def _read(self, now: float) -> None:
        try:
            self._known, self._read_at, self.state.hardware_error = self._hardware(), now, None
        except NvmlUnavailableError as error:
            self.state.hardware_error = str(error)
            if self._known is None:
                raise
            log.warning("%s; keeping what was last read", error)
            self._read_at = now

    def _ask_kubelet(self) -> tuple[tuple[Holding, ...] | None, tuple[Allocatable, ...] | None]:
        try:
            found = self._kubelet.list(), self._kubelet.allocatable()
        except PodResourcesError as error:
            if self.state.kubelet_error != str(error):
                log.warning("%s: publishing hardware only", error)
            self.state.kubelet_error = str(error)
            return None, None
        self.state.kubelet_error = None
        return found

    def run(self) -> None:
        """Rounds until `state.stop` is set. What goes wrong in one is logged, and the next tried."""
        while not self.state.stop.is_set():
            try:
                self.round()
            except NvmlUnavailableError as error:
                log.error("%s", error)
            self.state.stop.wait(self._interval_seconds)
