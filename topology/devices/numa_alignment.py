"""The kubelet's Topology Manager: from which NUMA nodes a container's GPUs may come.

Masks of NUMA nodes are bit masks over the machine's distinct node numbers, ascending. GPUs are the only hint provider
here: CPUs and memory that a pod also wants aligned can narrow the choice further, which is not modelled.

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
    """What the Topology Manager decided for one container."""

    admitted: bool
    aligned: int
    """GPUs (mask of positions) on the NUMA nodes it chose, free or not; 0 where it has no say."""


NO_SAY = Alignment(True, 0)


def align(policy: TopologyManager, numa: tuple[int | None, ...], free: int, reusable: int, size: int) -> Alignment:
    """The decision for a container that asks for `size` GPUs out of `free` and those it may take over (`reusable`).

    `numa` is the NUMA node per position. Where no GPU reports one, there is nothing to align. Preferred is the fewest
    nodes whose GPUs, held or free, could ever be enough; of equally few the lowest numbered.
    """
    nodes = sorted({node for node in numa if node is not None})
    if policy is TopologyManager.NONE or not nodes or not size:
        return NO_SAY
    least = len(nodes)
    fitting: list[tuple[int, int, int]] = []
    for chosen in range(1, 1 << len(nodes)):
        wanted = {node for place, node in enumerate(nodes) if chosen >> place & 1}
        on_them = sum(1 << position for position, node in enumerate(numa) if node in wanted)
        unplaced = sum(1 << position for position, node in enumerate(numa) if node is None)
        if on_them.bit_count() >= size:
            least = min(least, chosen.bit_count())
        if reusable & ~(on_them | unplaced):
            continue
        if ((free | reusable) & on_them).bit_count() >= size:
            fitting.append((chosen.bit_count(), chosen, on_them))
    if not fitting:
        return Alignment(policy is TopologyManager.BEST_EFFORT, 0)
    count, _, on_them = min(fitting)
    preferred = count == least
    if policy is TopologyManager.RESTRICTED and not preferred:
        return Alignment(False, 0)
    if policy is TopologyManager.SINGLE_NUMA_NODE and (not preferred or count > 1):
        return Alignment(False, 0)
    return Alignment(True, on_them)
