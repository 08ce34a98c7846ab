"""The kubelet's Topology Manager: the NUMA nodes that a container's GPUs can come from.

Masks of NUMA nodes are bit masks over the machine's distinct node numbers, ascending. GPUs are the only hint provider
here: aligned CPUs and memory of a pod can narrow the choice further, which is not modelled.

Source: kubernetes 1.36 `pkg/kubelet/cm/devicemanager/topology_hints.go`, `pkg/kubelet/cm/topologymanager/policy.go`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TopologyManager(StrEnum):
    """The kubelet's topologyManagerPolicy."""

    NONE = "none"
    BEST_EFFORT = "best-effort"
    RESTRICTED = "restricted"
    SINGLE_NUMA_NODE = "single-numa-node"


@dataclass(frozen=True, slots=True)
class Alignment:
    """The decision of the Topology Manager for one container."""

    admitted: bool
    aligned: int
    """Mask of the GPUs on the chosen NUMA nodes, free or not; 0 where there is nothing to align."""


NOT_ALIGNED = Alignment(True, 0)


def align(policy: TopologyManager, numa: tuple[int | None, ...], free: int, reusable: int, size: int) -> Alignment:
    """Return the decision for a container that requests `size` GPUs of `free`, or of the `reusable` ones of an init container.

    `numa` is the NUMA node per position. Where no GPU reports one, there is nothing to align. The preferred choice has the fewest
    nodes whose GPUs, allocated or free, suffice; of equally few, the lowest numbers.
    """
    nodes = sorted({node for node in numa if node is not None})
    if policy is TopologyManager.NONE or not nodes or not size:
        return NOT_ALIGNED
    fewest_nodes = len(nodes)
    fitting: list[tuple[int, int, int]] = []
    for chosen in range(1, 1 << len(nodes)):
        wanted = {node for place, node in enumerate(nodes) if chosen >> place & 1}
        on_nodes = sum(1 << position for position, node in enumerate(numa) if node in wanted)
        unplaced = sum(1 << position for position, node in enumerate(numa) if node is None)
        if on_nodes.bit_count() >= size:
            fewest_nodes = min(fewest_nodes, chosen.bit_count())
        if reusable & ~(on_nodes | unplaced):
            continue
        if ((free | reusable) & on_nodes).bit_count() >= size:
            fitting.append((chosen.bit_count(), chosen, on_nodes))
    if not fitting:
        return Alignment(policy is TopologyManager.BEST_EFFORT, 0)
    count, _, on_nodes = min(fitting)
    preferred = count == fewest_nodes
    if policy is TopologyManager.RESTRICTED and not preferred:
        return Alignment(False, 0)
    if policy is TopologyManager.SINGLE_NUMA_NODE and (not preferred or count > 1):
        return Alignment(False, 0)
    return Alignment(True, on_nodes)
