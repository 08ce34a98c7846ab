"""Host zones: which GPUs and network adapters are attached to which CPU, by NUMA affinity first and path classes second.

A host zone is what NCCL calls a CPU: one NUMA node with the PCIe trees below it. NCCL does not read the path classes that
nvidia-smi prints. It walks up the PCI tree of a device and takes the NUMA node that sysfs names at the root; devices of
unknown node (-1) share one CPU. Source: NCCL 2.30.7 `src/graph/xml.cc`, ncclTopoGetXmlFromSys. The first rule that applies counts:

    1. devices under a common PCIe switch (PIX, PXB) are in one zone: they have one root
    2. devices of one NUMA node are in one zone; where the node is unknown, the list of near nodes is used instead, and
       where that is unknown too, the list of near CPUs
    3. other devices are in the zone of the nearest device by path class (PHB, NODE)
"""

from __future__ import annotations

from itertools import combinations

import networkx as nx

from topology.machine.hardware import Gpu, Machine, PciePath

_Cluster = tuple[int, ...]


def host_zones(machine: Machine) -> tuple[int, ...]:
    """Return the number of the host zone per device, GPUs then NICs. Zones are numbered by their first device."""
    keys = [affinity_key(machine, gpu) for gpu in machine.gpus]
    keys += [None if nic.numa_node is None else _node_key(nic.numa_node) for nic in machine.nics]
    clusters = _joined(machine, PciePath.PXB, [(device,) for device in range(len(keys))])
    by_key: dict[str, list[int]] = {}
    keyless: list[_Cluster] = []
    for cluster in clusters:
        key = next((known for device in cluster if (known := keys[device]) is not None), None)
        if key is None:
            keyless.append(cluster)
        else:
            by_key.setdefault(key, []).extend(cluster)
    zones = list(by_key.values())
    for cluster in _joined(machine, PciePath.NODE, keyless):
        near = [(distance, place) for place, zone in enumerate(zones) if (distance := _between(machine, cluster, zone)) is not None]
        if near and min(near)[0] <= PciePath.NODE.distance:
            by_key[list(by_key)[min(near)[1]]].extend(cluster)
        else:
            by_key[f"devices {cluster}"] = list(cluster)
    ordered = sorted(map(sorted, by_key.values()))
    number = {device: place for place, zone in enumerate(ordered) for device in zone}
    return tuple(number[device] for device in range(len(keys)))


def affinity_key(machine: Machine, gpu: Gpu) -> str | None:
    """Return the NUMA nodes or CPUs near a GPU, such as `NUMA node 0` or `CPUs 0-31`; None where they are unknown."""
    if gpu.numa_node is not None:
        return _node_key(gpu.numa_node)
    if gpu.numa_affinity:
        return f"NUMA nodes {gpu.numa_affinity}"
    if gpu.cpu_affinity:
        nodes = {other.numa_node for other in machine.gpus if other.cpu_affinity == gpu.cpu_affinity} - {None}
        return _node_key(nodes.pop()) if len(nodes) == 1 else f"CPUs {gpu.cpu_affinity}"
    return None if gpu.numa_affinity is None else "no NUMA node"


def _node_key(node: int | None) -> str:
    return f"NUMA node {node}"


def _joined(machine: Machine, most: PciePath, clusters: list[_Cluster]) -> list[_Cluster]:
    """Clusters, merged where the path class between two of their devices is known and at most `most`."""
    near: nx.Graph[int] = nx.Graph()
    near.add_nodes_from(range(len(clusters)))
    for a, b in combinations(range(len(clusters)), 2):
        distance = _between(machine, clusters[a], clusters[b])
        if distance is not None and distance <= most.distance:
            near.add_edge(a, b)
    return sorted(tuple(sorted(device for place in part for device in clusters[place])) for part in nx.connected_components(near))


def _between(machine: Machine, these: _Cluster, those: list[int] | _Cluster) -> int | None:
    """Distance of the two nearest devices, one of each group; None where no path class between the groups is known."""
    known = [path.distance for a in these for b in those if (path := machine.pcie_paths[a][b]) is not None]
    return min(known, default=None)
