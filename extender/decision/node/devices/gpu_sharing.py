"""How a node shares its GPUs. Labels are compared with what the node offers, because some are wrong (`gpu.replicas` under time-slicing).

Sources: NVIDIA k8s-device-plugin README, "Shared Access to GPUs" (resource and product names) and "MIG strategies"; GFD's labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from extender.decision.request.resource_names import SHARED_SUFFIX, mig_prefix
from topology.machine.hardware import Machine


class Sharing(StrEnum):
    """What one unit of a resource is: a whole GPU, a MIG device, or a replica. The values are those of annotation `sharing`."""

    NONE = "none"
    MIG = "mig"
    TIME_SLICING = "time-slicing"
    MPS = "mps"

    @property
    def replicated(self) -> bool:
        """Whether several units can be the same device."""
        return self in (Sharing.TIME_SLICING, Sharing.MPS)


class Slice(msgspec.Struct, frozen=True, gc=False):
    """A resource of MIG devices or replicas that a node offers besides whole GPUs."""

    resource: str
    sharing: Sharing
    allocatable: int
    memory_bytes: int | None = None
    """Memory of one MIG device; of the whole GPU where it is replicated."""


def physical_gpus(labels: Mapping[str, str], machine: Machine | None) -> int | None:
    """Return the number of GPUs in the node, by the agent, else by GFD; None where it is unknown."""
    if machine is not None and machine.gpus:
        return len(machine.gpus)
    counted = labels.get("nvidia.com/gpu.count", "")
    return int(counted) if counted.isascii() and counted.isdigit() and int(counted) else None


def sharing_of(labels: Mapping[str, str], offered: int, machine: Machine | None) -> Sharing | None:
    """Return what one unit of the GPU resource is; None where nothing is known about the node's GPUs. `offered`: units on offer.

    More units than GFD counts GPUs are shared GPUs, whatever other labels say. More units than only the agent counts GPUs may come from an
    outdated GpuTopology: `node_labels.contradiction` reports that.
    """
    product, physical = labels.get("nvidia.com/gpu.product", ""), physical_gpus(labels, machine)
    counted = physical_gpus(labels, None)
    sliced = "-MIG-" in product or (labels.get("nvidia.com/mig.strategy") == "single" and _divided(machine))
    if product.endswith("-SHARED") or labels.get("nvidia.com/gpu.sharing-strategy", "none") not in ("none", ""):
        return _replicas(labels) if offered else Sharing.NONE
    if sliced:
        return Sharing.MIG
    if _divided(machine) and physical is not None and offered > physical:
        return Sharing.MIG
    if counted is not None and physical is not None and offered > max(counted, physical):
        return _replicas(labels)
    return Sharing.NONE if physical is not None or product else None


def _divided(machine: Machine | None) -> bool:
    return machine is not None and any(gpu.mig_enabled or gpu.mig_instances for gpu in machine.gpus)


def _replicas(labels: Mapping[str, str]) -> Sharing:
    mps = labels.get("nvidia.com/gpu.sharing-strategy") == "mps" or labels.get("nvidia.com/sharing.mps.enabled") == "true"
    return Sharing.MPS if mps else Sharing.TIME_SLICING


def slice_memory_bytes(labels: Mapping[str, str], machine: Machine | None) -> int | None:
    """Return the memory of a MIG device under the single strategy: the smallest by the agent, else by GFD, whose label is then that of the
    device. None where unknown.
    """
    known = [mig.memory_bytes for gpu in machine.gpus for mig in gpu.mig_instances] if machine else []
    sizes = [size for size in known if size is not None]
    if sizes and len(sizes) == len(known):
        return min(sizes)
    return _mib(labels.get("nvidia.com/gpu.memory", "")) if "-MIG-" in labels.get("nvidia.com/gpu.product", "") else None


def slices_of(labels: Mapping[str, str], amounts: Sequence[tuple[str, int]], gpus: str) -> tuple[Slice, ...]:
    """Return the MIG devices and replicas that a node offers under resource names of their own.

    `amounts`: (resource, allocatable). `gpus`: the resource that counts GPUs.
    """
    slices = []
    for resource, count in sorted(amounts):
        if resource == gpus + SHARED_SUFFIX and count:
            slices.append(Slice(resource, _replicas(labels), count, _mib(labels.get("nvidia.com/gpu.memory", ""))))
        elif resource.startswith(mig_prefix(gpus)) and count:
            profile = resource.removeprefix(mig_prefix(gpus)).removesuffix(SHARED_SUFFIX)
            kind = _replicas(labels) if resource.endswith(SHARED_SUFFIX) else Sharing.MIG
            slices.append(Slice(resource, kind, count, _mib(labels.get(f"nvidia.com/mig-{profile}.memory", ""))))
    return tuple(slices)


def _mib(text: str) -> int | None:
    return int(text) << 20 if text.isascii() and text.isdigit() else None
