"""What a Node object states: labels of GPU feature discovery (GFD) and of Fabricwise, and the resources on offer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache

from extender.decision.node.devices.gpu_sharing import Sharing
from extender.decision.node.node_state import NodeFacts
from extender.decision.request.annotations import version
from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.quantity import quantity
from topology.devices.numa_alignment import TopologyManager
from topology.devices.prediction import DevicePlugin, Kubelet
from topology.machine.hardware import Machine, with_gpus, with_uuids
from topology.machine.products import same_product
from topology.platforms import fallback_platform, machine_of

MEMORY_TOLERANCE = 0.15
"""Largest relative difference between the memory sizes of agent and label: only one of them includes the reserved framebuffer."""

TOPOLOGY_MANAGER, DEVICE_PLUGIN = "fabricwise.dev/topology-manager-policy", "fabricwise.dev/device-plugin"
"""Node labels that state the kubelet's configuration, which the API does not have."""


_MANAGERS = {str(manager.value): manager for manager in TopologyManager}
_PLUGINS = {str(plugin.value): plugin for plugin in DevicePlugin}


def amounts_of(node: Node) -> tuple[tuple[str, int], ...]:
    """Return (resource, allocatable) for the resources with a whole number above 0."""
    status = node.status
    amounts = (status.allocatable if status.allocatable is not None else status.capacity) if status else None
    return tuple((name, count) for name, value in (amounts or {}).items() if (count := _count(value)))


def facts_of(labels: Mapping[str, str], machine: Machine | None) -> NodeFacts:
    """Return the versions of a node, by the agent, else by GFD's labels: `nvidia.com/cuda.driver-version.full` and
    `nvidia.com/cuda.runtime-version.full`, or the older labels with one part each.
    """
    texts = [gpu.compute_capability for gpu in machine.gpus] if machine else []
    known = [numbers for text in texts if text and (numbers := _numbers(text))]
    capability = min(known) if known and len(known) == len(texts) else _parts(labels, "nvidia.com/gpu.compute.", ("major", "minor"))
    driver = _numbers((machine.driver_version if machine else None) or labels.get("nvidia.com/cuda.driver-version.full", ""))
    cuda = _numbers((machine.cuda_version if machine else None) or labels.get("nvidia.com/cuda.runtime-version.full", ""))
    return NodeFacts(
        compute_capability=capability,
        driver=driver or _parts(labels, "nvidia.com/cuda.driver.", ("major", "minor", "rev")),
        cuda=cuda or _parts(labels, "nvidia.com/cuda.runtime.", ("major", "minor")),
    )


def _numbers(text: str) -> tuple[int, ...] | None:
    try:
        return version(text)
    except ValueError:
        return None


def _parts(labels: Mapping[str, str], prefix: str, names: tuple[str, ...]) -> tuple[int, ...] | None:
    """Return a version whose parts are labels of their own, as many as there are; None without the first."""
    texts = [labels.get(prefix + name, "") for name in names]
    whole = [text for text in texts if text.isascii() and text.isdigit()]
    return tuple(map(int, whole)) if texts[0] in whole and whole else None


def kubelet_of(labels: Mapping[str, str], usual: Kubelet) -> Kubelet:
    """Return the kubelet's configuration by the node's labels; `usual` where they are absent or unknown."""
    manager, plugin = _MANAGERS.get(labels.get(TOPOLOGY_MANAGER, "")), _PLUGINS.get(labels.get(DEVICE_PLUGIN, ""))
    return _kubelet(usual.topology_manager if manager is None else manager, usual.device_plugin if plugin is None else plugin)


@cache
def _kubelet(manager: TopologyManager, plugin: DevicePlugin) -> Kubelet:
    return Kubelet(manager, plugin)


def assumed_platform(labels: Mapping[str, str], allocatable: int) -> tuple[str, Machine] | None:
    """Return (name, machine) of the one known platform that GFD's labels describe; None where there is none, or GPUs are shared."""
    product, counted = product_of(labels), labels.get("nvidia.com/gpu.count", "")
    whole = labels.get("nvidia.com/mig.strategy", "none") in ("none", "") and not (product or "").endswith("-SHARED")
    if product is None or not whole or not (counted.isascii() and counted.isdigit()) or int(counted) < allocatable:
        return None
    name = fallback_platform(product, int(counted))
    if name is None:
        return None
    return name, _platform_machine(name, product, labelled_memory_bytes(labels))


@lru_cache(maxsize=1_024)
def _platform_machine(name: str, product: str, memory_bytes: int | None) -> Machine:
    """Return the machine of a platform with the product and the memory of each GPU by label: one object for all such nodes."""
    machine = with_gpus(machine_of(name), product=product, memory_bytes=memory_bytes)
    return with_uuids(machine, [gpu.uuid for gpu in machine.gpus])


def contradiction(node: Node, machine: Machine, resource: str, sharing: Sharing | None = None) -> str | None:
    """Return how a GpuTopology contradicts its node; else None. Fewer units than GPUs are no contradiction: some may be unhealthy."""
    labels = node.metadata.labels or {}
    gpu_count = len(machine.gpus)
    capacity = node.status.capacity if node.status else None
    offered = max(count_of(node, resource), _count((capacity or {}).get(resource)) or 0)
    if offered > gpu_count and sharing in (None, Sharing.NONE):
        return f"GpuTopology has {gpu_count} GPUs but the node offers {offered} {resource}"
    counted = labels.get("nvidia.com/gpu.count", "")
    if counted.isascii() and counted.isdigit() and int(counted) != gpu_count and sharing is not Sharing.MIG:
        return f"GpuTopology has {gpu_count} GPUs but label nvidia.com/gpu.count says {counted}"
    label, product = product_of(labels), machine.gpus[0].product if machine.gpus else None
    if label and product and not same_product(label, product):
        return f"GpuTopology says {product} but label nvidia.com/gpu.product says {label}"
    memory, labelled = machine.gpus[0].memory_bytes if machine.gpus else None, labelled_memory_bytes(labels)
    if memory and labelled and sharing is not Sharing.MIG and abs(memory - labelled) > MEMORY_TOLERANCE * max(memory, labelled):
        return f"GpuTopology says {memory >> 20} MiB per GPU but label nvidia.com/gpu.memory says {labelled >> 20} MiB"
    return None


def count_of(node: Node, resource: str) -> int:
    """Return the allocatable GPUs, which default to the capacity as in the API server; 0 where they are absent or malformed."""
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
    """Return the product by GFD's label, such as NVIDIA-H100-80GB-HBM3."""
    return labels.get("nvidia.com/gpu.product") or None


def labelled_memory_bytes(labels: Mapping[str, str]) -> int | None:
    """Return the memory of one GPU by GFD's label nvidia.com/gpu.memory, which is in MiB."""
    text = labels.get("nvidia.com/gpu.memory", "")
    return (int(text) << 20) or None if text.isascii() and text.isdigit() else None
