"""The kubelet's Topology Manager: the NUMA nodes that a container's GPUs can come from.

Masks of NUMA nodes are bit masks over the machine's distinct node numbers, ascending. GPUs are the only hint provider
here: aligned CPUs and memory of a pod can narrow the choice further, which is not modelled.

Source: kubernetes 1.36 `pkg/kubelet/cm/devicemanager/topology_hints.go`, `pkg/kubelet/cm/topologymanager/policy.go`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from topology.machine.hardware import union_of


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
    if policy is TopologyManager.NONE or not size:
        return NOT_ALIGNED
    choices, unplaced = _choices(numa)
    if not choices:
        return NOT_ALIGNED
    fewest_nodes = min((count for count, _, on_nodes in choices if on_nodes.bit_count() >= size), default=choices[-1][0])
    fitting = [
        choice for choice in choices if not reusable & ~(choice[2] | unplaced) and ((free | reusable) & choice[2]).bit_count() >= size
    ]
    if not fitting:
        return Alignment(policy is TopologyManager.BEST_EFFORT, 0)
    count, _, on_nodes = min(fitting)
    preferred = count == fewest_nodes
    if policy is TopologyManager.RESTRICTED and not preferred:
        return Alignment(False, 0)
    if policy is TopologyManager.SINGLE_NUMA_NODE and (not preferred or count > 1):
        return Alignment(False, 0)
    return Alignment(True, on_nodes)


@lru_cache(maxsize=256)
def _choices(numa: tuple[int | None, ...]) -> tuple[tuple[tuple[int, int, int], ...], int]:
    """Return the choices of NUMA nodes and the mask of the GPUs without one.

    A choice is (number of nodes, mask of nodes, mask of the GPUs on them); the last one has all nodes.
    """
    nodes = sorted({node for node in numa if node is not None})
    masks = [sum(1 << position for position, node in enumerate(numa) if node == each) for each in nodes]
    choices = [
        (chosen.bit_count(), chosen, union_of(mask for place, mask in enumerate(masks) if chosen >> place & 1))
        for chosen in range(1, 1 << len(nodes))
    ]
    return tuple(choices), sum(1 << position for position, node in enumerate(numa) if node is None)
