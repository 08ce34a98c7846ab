"""A GpuTopology as values: the machine of a node, and what its agent observed of the GPUs.

GPUs are named by their nvidia-smi index.
"""

from __future__ import annotations

from dataclasses import dataclass

from topology.machine.hardware import Machine, mask_of


@dataclass(frozen=True, slots=True)
class Allocation:
    """An allocated GPU, and the pod that has it where that is known."""

    index: int
    pod_uid: str | None = None
    pod_namespace: str | None = None
    pod_name: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What the driver reports about the health of a GPU. None = it does not report it."""

    index: int
    ecc_volatile: int | None = None
    """Double-bit errors since the driver was loaded."""
    ecc_aggregate: int | None = None
    """Double-bit errors over the life of the GPU."""
    retirement_pending: bool | None = None
    """Whether memory pages or rows are retired at the next reset."""
    remap_failed: bool | None = None
    """Whether a row could not be remapped: the memory has no spare row left."""
    throttle_reasons: tuple[str, ...] = ()


STEERING_REASONS = frozenset(
    ["mig", "shared", "no_facts", "old_facts", "unknown_device", "too_many_sets", "several_containers", "impossible", "timeout", "error"]
)
"""Reasons for which a steerer forwards an answer; one of another version may have others."""


@dataclass(frozen=True, slots=True)
class SteeringStatus:
    """The steerer that answers for the node's devices; see `topology.devices.steering`."""

    version: str
    resources: tuple[str, ...]
    """Resources that the kubelet asks it about, such as nvidia.com/gpu."""
    messages: str
    """The mix of messages that it weighs bandwidth over."""
    unknown_memory: tuple[tuple[int, int], ...] = ()
    """(index, bytes) per GPU on which processes of no known pod hold memory."""
    pressure: tuple[tuple[int, float], ...] = ()
    """(index, load 0..1) per GPU that no pod holds and that is busy all the same."""
    steered: int = 0
    """Answers of its own since it started."""
    forwarded: tuple[tuple[str, int], ...] = ()
    """(reason, answers of NVIDIA's plugin)."""
    differing: int = 0
    """Allocations of other devices than it answered."""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What the node's agent observed.

    `free` None = the agent does not know which GPUs are free. Then no free count is published, and the devices of bound pods that
    `allocated` does not name are predicted.
    """

    free: tuple[int, ...] | None = None
    allocated: tuple[Allocation, ...] = ()
    unhealthy: tuple[tuple[int, str], ...] = ()
    """(index, reason) per GPU that must not be used."""
    observed_at_seconds: float | None = None
    """Unix time."""
    health: tuple[Health, ...] = ()
    allocations_unknown: str | None = None
    """Why the agent does not know which pod has which GPU. `free` is then None and `allocated` is empty; neither is evidence."""
    steering: SteeringStatus | None = None
    """None = no steerer is known to run."""


@dataclass(frozen=True, slots=True)
class TopologyRecord:
    """A decoded GpuTopology."""

    node: str
    machine: Machine
    status: DeviceStatus | None = None


def free_mask(machine: Machine, status: DeviceStatus | None) -> int:
    """Return the mask of positions that the status leaves free; all of them without a status."""
    whole = mask_of(range(len(machine.gpus)))
    if status is None:
        return whole
    unavailable = {index for index, _ in status.unhealthy} | {allocation.index for allocation in status.allocated}
    free = whole if status.free is None else mask_of(machine.positions(sorted(set(status.free))))
    return free & ~mask_of(machine.positions(sorted(unavailable)))
