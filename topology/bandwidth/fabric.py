"""Machine -> graph of GPUs, NICs, switches, host bridges and sockets, and the wires that the traffic of each pair of GPUs crosses.

The PCIe part comes from `pcie_tree`; this module adds NVLink and chooses the wires of each pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import networkx as nx

from topology.bandwidth.pcie_tree import PcieTree, Sent, pcie_distances
from topology.bandwidth.wires import Wire, WireKind, nvlink, nvswitch_port, uplink
from topology.machine import constants
from topology.machine.hardware import Gpu, Machine, PciePath
from topology.machine.host_zones import host_zones
from topology.machine.links import Link, LinkKind
from topology.machine.products import ProductFacts, facts

Route = tuple[tuple[str, float], ...]
"""Wires that the traffic of a pair crosses: (name, uses of one direction)."""

NVSWITCH_VERTEX = "NVSwitch"
"""The vertex of `Fabric.graph` that stands for all NVSwitches of the machine."""


@dataclass(frozen=True, slots=True)
class Fabric:
    """What traffic between GPUs can use.

    Pairs are keyed by positions (a, b) with a < b. A route lists (wire name, uses): how often each direction of the wire is used
    when both GPUs of the pair send one unit to each other.
    """

    size: int
    """GPUs."""
    capacity_gbps: dict[str, float]
    """GB/s per direction, by wire name."""
    wires: dict[str, Wire]
    """By wire name."""
    routes: dict[tuple[int, int], Route]
    """By a pair's best link: NVLink where it has some, else PCIe."""
    pcie_routes: dict[tuple[int, int], Route]
    pcie_sent: dict[tuple[int, int], Sent]
    """What the first GPU of a pair sends to the second over PCIe. Both directions together are the pair's `pcie_routes`."""
    links: dict[tuple[int, int], Link]
    """The best link per pair."""
    distance: tuple[tuple[int, ...], ...]
    """PCIe distance per pair as nvidia-smi names it, 1 (PIX) .. 5 (SYS), 0 on the diagonal; inferred where NVLink hides it. Where it
    contradicts `zone`, bandwidth follows `zone`."""
    graph: nx.Graph[str]
    """Vertices carry `kind` (gpu, nic, switch, nvswitch, socket), edges `kind` and `gbps` (None = unknown)."""
    generation: tuple[int | None, ...]
    """NVLink generation per GPU, from the product where it was not reported; None = unknown, or the GPU has no NVLink."""
    architecture: tuple[int | None, ...]
    """GPU architecture (major compute capability) per GPU, from the product where it was not reported; None = unknown."""
    zone: tuple[str, ...]
    """Host zone per GPU; see `host_zones`."""
    ordered_channels: bool
    """Whether NCCL keeps every channel across the sockets in one order of GPUs: it does on AMD. Source: NCCL search.cc."""
    switch_links: tuple[int, ...]
    """NVLinks into NVSwitches per GPU; unknown counts as none."""

    def host_route(self, a: int, b: int) -> Route:
        """Return the route of positions a < b in a ring that crosses PCIe somewhere: the pair's NVLinks, or PCIe where that is wider."""
        return max(self.routes[a, b], self.pcie_routes[a, b], key=self._route_gbps)

    def host_sent(self, a: int, b: int) -> Sent:
        """Return what position a < b sends to b along `host_route`. The first direction of a wire leads away from a GPU, up from a
        switch, and away from the end that is named first."""
        if self.host_route(a, b) == self.pcie_routes[a, b]:
            return self.pcie_sent[a, b]
        wires = [wire for wire, _ in self.routes[a, b]]
        return ((wires[0], 1.0, 0.0),) if len(wires) == 1 else ((wires[0], 1.0, 0.0), (wires[1], 0.0, 1.0))

    def _route_gbps(self, route: Route) -> float:
        """Bandwidth of a route that no other traffic uses."""
        return min(self.capacity_gbps[wire] / uses for wire, uses in route)


def build_fabric(machine: Machine) -> Fabric:
    """Return the fabric of a machine. A machine without GPUs has an empty fabric."""
    zones = host_zones(machine)
    distance = pcie_distances(machine, zones)
    positions = range(len(machine.gpus))
    tree = PcieTree(machine, distance, zones)
    pcie_sent = {(a, b): tree.sent(a, b) for a, b in combinations(positions, 2)}
    pcie_routes = {pair: tuple((wire, there + back) for wire, there, back in sent) for pair, sent in pcie_sent.items()}
    links = {(a, b): _link(machine, a, b, PciePath.at_distance(distance[a][b])) for a, b in combinations(positions, 2)}
    nvlink_wires = _nvlink_wires(machine)
    capacity = tree.capacity_gbps | {wire.name: gbps for wire, gbps in nvlink_wires.items()}
    products = [facts(gpu.product) for gpu in machine.gpus]
    return Fabric(
        size=len(machine.gpus),
        capacity_gbps=capacity,
        wires=tree.wires | {wire.name: wire for wire in nvlink_wires},
        routes={pair: _route(pair, link, pcie_routes[pair]) for pair, link in links.items()},
        pcie_routes=pcie_routes,
        pcie_sent=pcie_sent,
        links=links,
        distance=tuple(tuple(distance[a][b] for b in positions) for a in positions),
        graph=_graph(machine, tree, nvlink_wires),
        generation=tuple(
            gpu.nvlink_generation or (product.nvlink_generation if product else None)
            for gpu, product in zip(machine.gpus, products, strict=True)
        ),
        architecture=tuple(_architecture(gpu, product) for gpu, product in zip(machine.gpus, products, strict=True)),
        zone=tuple(tree.zone[position] for position in positions),
        ordered_channels=constants.is_amd(machine.cpu_model),
        switch_links=tuple(gpu.switch_links or 0 for gpu in machine.gpus),
    )


def _link(machine: Machine, a: int, b: int, pcie_path: PciePath) -> Link:
    switch_links = min(machine.gpus[a].switch_links or 0, machine.gpus[b].switch_links or 0)
    if switch_links:
        return Link(LinkKind.NVSWITCH, switch_links, pcie_path)
    direct = machine.nvlinks[a][b]
    return Link(LinkKind.NVLINK if direct else LinkKind.PCIE, direct, pcie_path)


def _route(pair: tuple[int, int], link: Link, pcie_route: Route) -> Route:
    match link.kind:
        case LinkKind.NVSWITCH:
            return tuple((nvswitch_port(position).name, 1.0) for position in pair)
        case LinkKind.NVLINK:
            return ((nvlink(*pair).name, 1.0),)
        case LinkKind.PCIE:
            return pcie_route


def _architecture(gpu: Gpu, product: ProductFacts | None) -> int | None:
    major = (gpu.compute_capability or "").partition(".")[0]
    return int(major) if major.isdigit() else product.architecture if product else None


def _nvlink_wires(machine: Machine) -> dict[Wire, float]:
    """GB/s per direction of each NVLink wire."""
    ports = {
        nvswitch_port(position): gpu.switch_links * _link_gbps(machine, position, position)
        for position, gpu in enumerate(machine.gpus)
        if gpu.switch_links
    }
    pairs = [(a, b) for a, b in combinations(range(len(machine.gpus)), 2) if machine.nvlinks[a][b]]
    return ports | {nvlink(a, b): machine.nvlinks[a][b] * _link_gbps(machine, a, b) for a, b in pairs}


def _link_gbps(machine: Machine, a: int, b: int) -> float:
    """GB/s per direction of one NVLink between two positions, or of one into an NVSwitch where they are the same."""
    product = facts(machine.gpus[a].product)
    if product and product.nvlink_gbps:
        return product.nvlink_gbps
    generation = machine.nvlink_generation(a, b)
    if generation is None and product:
        generation = product.nvlink_generation
    return constants.NVLINK_GBPS.get(generation, constants.UNKNOWN_NVLINK_GBPS) if generation else constants.UNKNOWN_NVLINK_GBPS


def _graph(machine: Machine, tree: PcieTree, nvlink_wires: dict[Wire, float]) -> nx.Graph[str]:
    """See `Fabric.graph`."""
    graph: nx.Graph[str] = nx.Graph()
    names = [f"GPU {position}" for position in range(tree.gpu_count)] + [nic.name for nic in machine.nics]
    for device, name in enumerate(names):
        is_gpu = device < tree.gpu_count
        graph.add_node(name, kind="gpu" if is_gpu else "nic")
        lower, gbps = name, tree.lane_gbps(device) if is_gpu else None
        for upper in (*tree.switches_above(device), tree.zone[device]):
            graph.add_node(upper, kind="socket" if upper == tree.zone[device] else "switch")
            graph.add_edge(lower, upper, kind="pcie", gbps=gbps)
            lower, gbps = upper, tree.capacity_gbps.get(uplink(upper).name)
    sockets = {wire: tree.capacity_gbps[name] for name, wire in tree.wires.items() if wire.kind is WireKind.SOCKET_LINK}
    for wire, gbps in (sockets | nvlink_wires).items():
        ends = [f"GPU {position}" for position in wire.gpus] + list(wire.vertices)
        if wire.kind is WireKind.NVSWITCH_PORT:
            graph.add_node(NVSWITCH_VERTEX, kind="nvswitch")
            ends.append(NVSWITCH_VERTEX)
        graph.add_edge(*ends, kind="socket" if wire.kind is WireKind.SOCKET_LINK else "nvlink", gbps=gbps)
    return graph


def assumptions(machine: Machine, fabric: Fabric) -> tuple[str, ...]:
    """Return the values that the machine does not report and that the fabric therefore assumes, one sentence each, for people."""
    sentences: list[str] = []
    products = [facts(gpu.product) for gpu in machine.gpus]
    has_nvlink = [bool(gpu.switch_links) or any(machine.nvlinks[position]) for position, gpu in enumerate(machine.gpus)]
    uses_pcie = any(not link.is_nvlink for link in fabric.links.values())
    gpus = list(zip(machine.gpus, products, has_nvlink, strict=True))
    if any(linked and gpu.nvlink_generation is None and not product for gpu, product, linked in gpus):
        sentences.append(f"NVLink generation unknown: {constants.UNKNOWN_NVLINK_GBPS:g} GB/s per link")
    if uses_pcie and any(gpu.pcie_generation is None and not product for gpu, product, _ in gpus):
        sentences.append(f"PCIe generation unknown: gen {constants.DEFAULT_PCIE_GENERATION} x16")
    if uses_pcie and machine.cpu_model is None:
        sentences.append(f"CPU model unknown: Intel, {constants.UNKNOWN_SOCKET_GBPS:g} GB/s between sockets")
    if uses_pcie and machine.peer_to_peer is None and any(product is None or product.peer_to_peer is None for product in products):
        sentences.append("PCIe peer-to-peer unknown: works")
    return tuple(sentences)


def islands(machine: Machine) -> list[tuple[int, ...]]:
    """Return the groups of positions that NVLink joins, directly or through switches; a GPU without NVLink is a group of one."""
    count = len(machine.gpus)
    joined: nx.Graph[int] = nx.Graph()
    joined.add_nodes_from(range(count))
    for a, b in combinations(range(count), 2):
        if machine.nvlinks[a][b] or (machine.gpus[a].switch_links and machine.gpus[b].switch_links):
            joined.add_edge(a, b)
    return sorted(tuple(sorted(group)) for group in nx.connected_components(joined))


def fabric_name(machine: Machine) -> str:
    """Return a short name of the fabric, for people and printer columns: `NVSwitch NV18`, `NV12 pairs`, `PCIe`."""
    switch_links = {gpu.switch_links for gpu in machine.gpus if gpu.switch_links}
    if switch_links:
        return f"NVSwitch NV{max(switch_links)}"
    counts = {count for row in machine.nvlinks for count in row if count}
    if not counts:
        return "PCIe"
    sizes = {len(island) for island in islands(machine)}
    shape = "pairs" if sizes <= {1, 2} and len(machine.gpus) > 2 else "mesh" if len(machine.gpus) > 2 else "bridge"
    return f"NV{max(counts)} {shape}"
