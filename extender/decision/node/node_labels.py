"""What a Node object says of itself: labels of GPU feature discovery and of ours, and what it offers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from extender.decision.node.gpu_sharing import Sharing
from extender.decision.node.node_state import NodeFacts
from extender.decision.request.annotations import version
from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.quantity import quantity
from topology.devices.numa_alignment import TopologyManager
from topology.devices.prediction import DevicePlugin, Kubelet
from topology.machine.hardware import Machine, with_gpus
from topology.machine.products import same_product
from topology.platforms import fallback_platform, machine_of

MEMORY_TOLERANCE = 0.15
"""The agent's and the label's memory may differ by this much: one reserves framebuffer, one does not."""


TOPOLOGY_MANAGER, DEVICE_PLUGIN = "fabricwise.dev/topology-manager-policy", "fabricwise.dev/device-plugin"
"""Node labels that say what the API does not."""


def amounts_of(node: Node) -> tuple[tuple[str, int], ...]:
    """Allocatable resources as whole numbers; what is none is left out."""
    status = node.status
    amounts = (status.allocatable if status.allocatable is not None else status.capacity) if status else None
    return tuple((name, count) for name, value in (amounts or {}).items() if (count := _count(value)))


def facts_of(labels: Mapping[str, str], machine: Machine | None) -> NodeFacts:
    """By the agent, else by GFD's labels: `nvidia.com/cuda.driver-version.full` and its kin, or the older three parts."""
    told = [gpu.compute_capability for gpu in machine.gpus] if machine else []
    known = [one for text in told if text and (one := _numbers(text))]
    capability = min(known) if known and len(known) == len(told) else _parts(labels, "nvidia.com/gpu.compute.", ("major", "minor"))
    driver = _numbers((machine.driver_version if machine else None) or labels.get("nvidia.com/cuda.driver-version.full", ""))
    cuda = _numbers((machine.cuda_version if machine else None) or labels.get("nvidia.com/cuda.runtime-version.full", ""))
    return NodeFacts(
        capability,
        driver or _parts(labels, "nvidia.com/cuda.driver.", ("major", "minor", "rev")),
        cuda or _parts(labels, "nvidia.com/cuda.runtime.", ("major", "minor")),
    )


def _numbers(text: str) -> tuple[int, ...] | None:
    try:
        return version(text)
    except ValueError:
        return None


def _parts(labels: Mapping[str, str], prefix: str, names: tuple[str, ...]) -> tuple[int, ...] | None:
    """Label values that go together, as many as there are; None without the first."""
    found = [labels.get(prefix + name, "") for name in names]
    whole = [text for text in found if text.isascii() and text.isdigit()]
    return tuple(map(int, whole)) if found[0] in whole and whole else None


def kubelet_of(labels: Mapping[str, str], usual: Kubelet) -> Kubelet:
    """The node's own word, where it makes sense."""
    manager, plugin = labels.get(TOPOLOGY_MANAGER), labels.get(DEVICE_PLUGIN)
    return Kubelet(
        TopologyManager(manager) if manager in set(TopologyManager) else usual.topology_manager,
        DevicePlugin(plugin) if plugin in set(DevicePlugin) else usual.device_plugin,
    )


def assumed_platform(labels: Mapping[str, str], allocatable: int) -> tuple[str, Machine] | None:
    """The platform that GFD's labels describe, with its name; None where they fit none, or the node shares or splits GPUs."""
    product, counted = product_of(labels), labels.get("nvidia.com/gpu.count", "")
    whole = labels.get("nvidia.com/mig.strategy", "none") in ("none", "") and not (product or "").endswith("-SHARED")
    if product is None or not whole or not (counted.isascii() and counted.isdigit()) or int(counted) < allocatable:
        return None
    name = fallback_platform(product, int(counted))
    if name is None:
        return None
    return name, with_gpus(machine_of(name), product=product, memory_bytes=labelled_memory_bytes(labels))


def contradiction(node: Node, machine: Machine, resource: str, sharing: Sharing | None = None) -> str | None:
    """How a GpuTopology contradicts its node, or None. Fewer allocatable than GPUs is no contradiction: some may be sick."""
    labels = node.metadata.labels or {}
    have = len(machine.gpus)
    capacity = node.status.capacity if node.status else None
    offered = max(count_of(node, resource), _count((capacity or {}).get(resource)) or 0)
    if offered > have and sharing in (None, Sharing.NONE):
        return f"GpuTopology has {have} GPUs but the node offers {offered} {resource}"
    counted = labels.get("nvidia.com/gpu.count", "")
    if counted.isascii() and counted.isdigit() and int(counted) != have and sharing is not Sharing.MIG:
        return f"GpuTopology has {have} GPUs but label nvidia.com/gpu.count says {counted}"
    label, product = product_of(labels), machine.gpus[0].product if machine.gpus else None
    if label and product and not same_product(label, product):
        return f"GpuTopology says {product} but label nvidia.com/gpu.product says {label}"
    memory, labelled = machine.gpus[0].memory_bytes if machine.gpus else None, labelled_memory_bytes(labels)
    if memory and labelled and sharing is not Sharing.MIG and abs(memory - labelled) > MEMORY_TOLERANCE * max(memory, labelled):
        return f"GpuTopology says {memory >> 20} MiB per GPU but label nvidia.com/gpu.memory says {labelled >> 20} MiB"
    return None


def count_of(node: Node, resource: str) -> int:
    """Allocatable GPUs, which default to the capacity as in the API server. Nothing said, or nonsense, is none."""
    if node.status is None:
        return 0
    amounts = node.status.allocatable if node.status.allocatable is not None else node.status.capacity
    return _count((amounts or {}).get(resource)) or 0


def _count(value: object) -> int | None:
    try:
        return max(0, int(quantity(value))) if value is not None else None
    except ValueError:
        return None


def product_of(labels: Mapping[str, str]) -> str | None:
    """GFD's product, such as NVIDIA-H100-80GB-HBM3."""
    return labels.get("nvidia.com/gpu.product") or None


def labelled_memory_bytes(labels: Mapping[str, str]) -> int | None:
    """Memory of one GPU. GFD's nvidia.com/gpu.memory is in MiB."""
    text = labels.get("nvidia.com/gpu.memory", "")
    return (int(text) << 20) or None if text.isascii() and text.isdigit() else None
