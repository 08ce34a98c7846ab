"""How a node shares its GPUs, held against what it offers: labels alone can be wrong (`gpu.replicas` is, under time-slicing).

Sources: NVIDIA k8s-device-plugin README, "Shared Access to GPUs" (resource and product names) and "MIG strategies"; GFD's labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from extender.decision.request.resource_names import SHARED_SUFFIX, mig_prefix
from topology.machine.hardware import Machine


class Sharing(StrEnum):
    """What one unit of a resource is: a whole GPU, a slice, or a turn on one. The words of annotation `sharing`."""

    NONE = "none"
    MIG = "mig"
    TIME_SLICING = "time-slicing"
    MPS = "mps"

    @property
    def replicated(self) -> bool:
        """Whether several units are one and the same device."""
        return self in (Sharing.TIME_SLICING, Sharing.MPS)


class Slice(msgspec.Struct, frozen=True, gc=False):
    """A resource of shared or divided GPUs that a node offers beside whole ones."""

    resource: str
    sharing: Sharing
    allocatable: int
    memory_bytes: int | None = None
    """Of one MIG device; of the whole card where it is shared."""


def physical_gpus(labels: Mapping[str, str], machine: Machine | None) -> int | None:
    """GPUs of the node: by the agent, else by GFD; None = nobody says."""
    if machine is not None and machine.gpus:
        return len(machine.gpus)
    counted = labels.get("nvidia.com/gpu.count", "")
    return int(counted) if counted.isascii() and counted.isdigit() and int(counted) else None


def sharing_of(labels: Mapping[str, str], offered: int, machine: Machine | None) -> Sharing | None:
    """What one unit of the GPU resource is, of which the node offers so many; None = nobody says anything about its GPUs.

    More on offer than GFD counts is sharing, whatever else the labels say; more than the agent alone saw may as well be an old
    GpuTopology, and is a contradiction.
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
    """Memory of a MIG device under the single strategy: the smallest the agent saw, else GFD's, whose labels then speak of the slice."""
    known = [mig.memory_bytes for gpu in machine.gpus for mig in gpu.mig_instances] if machine else []
    told = [memory for memory in known if memory is not None]
    if told and len(told) == len(known):
        return min(told)
    return _mib(labels.get("nvidia.com/gpu.memory", "")) if "-MIG-" in labels.get("nvidia.com/gpu.product", "") else None


def slices_of(labels: Mapping[str, str], amounts: Sequence[tuple[str, int]], gpus: str) -> tuple[Slice, ...]:
    """The slices a node offers; `amounts` are its allocatable resources."""
    found = []
    for resource, count in sorted(amounts):
        if resource == gpus + SHARED_SUFFIX and count:
            found.append(Slice(resource, _replicas(labels), count, _mib(labels.get("nvidia.com/gpu.memory", ""))))
        elif resource.startswith(mig_prefix(gpus)) and count:
            profile = resource.removeprefix(mig_prefix(gpus)).removesuffix(SHARED_SUFFIX)
            kind = _replicas(labels) if resource.endswith(SHARED_SUFFIX) else Sharing.MIG
            found.append(Slice(resource, kind, count, _mib(labels.get(f"nvidia.com/mig-{profile}.memory", ""))))
    return tuple(found)


def _mib(text: str) -> int | None:
    return int(text) << 20 if text.isascii() and text.isdigit() else None
