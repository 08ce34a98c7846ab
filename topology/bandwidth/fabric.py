"""Machine -> graph of GPUs, NICs, switches, host bridges and sockets; and what a pair's traffic crosses.

A PCIe tree is not printed anywhere; it is read off NUMA affinity and path classes. PIX groups hang under one switch, PXB
groups under a switch of switches, both under one host zone: see `host_zones`. Where NVLink hides a pair's class it is bounded
by what both ends share with a NIC or a third GPU, and failing that by their zones: an inference of this module, which `Machine`
itself never holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import networkx as nx

from topology.machine import constants
from topology.machine.hardware import Gpu, Machine, PciePath
from topology.machine.host_zones import host_zones
from topology.machine.products import ProductFacts, facts

_UNKNOWN = 9

Route = tuple[tuple[str, float], ...]
"""Wires that the traffic of a pair crosses, each with how often one direction of it is used."""

Sent = tuple[tuple[str, float, float], ...]
"""Wires that what one GPU sends to another crosses, each with how often in its first and in its second direction."""


@dataclass(frozen=True, slots=True)
class Fabric:
    """What traffic between GPUs can use.

    `capacity_gbps[resource]` is per direction; `routes[a, b]` lists (resource, uses) for traffic a<->b:
    how often each direction of the resource is used when both GPUs send one unit to each other.
    """

    size: int
    capacity_gbps: dict[str, float]
    routes: dict[tuple[int, int], Route]
    """By a pair's best class of link: NVLink where it has some, else PCIe."""
    pcie_routes: dict[tuple[int, int], Route]
    pcie_sent: dict[tuple[int, int], Sent]
    """What the first GPU of a pair sends to the second over PCIe; both directions together are the pair's `pcie_routes`."""
    link_class: dict[tuple[int, int], str]
    """Per pair: `NVSwitch`, `NV#`, or the PCIe class (known or inferred)."""
    distance: tuple[tuple[int, ...], ...]
    """PCIe distance per pair as nvidia-smi names it, 1 (PIX) .. 5 (SYS), 0 on the diagonal; inferred where hidden. Bandwidth
    follows `zone` where the two disagree."""
    graph: nx.Graph[str]
    generation: tuple[int | None, ...]
    """NVLink generation per GPU, from the product where it was not reported; None = unknown or none."""
    architecture: tuple[int | None, ...]
    """GPU architecture (major compute capability) per GPU, from the product; None = unknown."""
    zone: tuple[str, ...]
    """Host zone per GPU; see `host_zones`."""
    ordered_channels: bool
    """Whether NCCL keeps every channel across the sockets in one order of GPUs: it does on AMD. Source: NCCL search.cc."""
    switch_links: tuple[int, ...]
    """NVLinks into NVSwitches per GPU; unknown counts as none."""

    def host_route(self, a: int, b: int) -> Route:
        """What positions a < b use where a ring as a whole cannot keep to NVLink: their NVLinks unless PCIe is wider."""
        return max(self.routes[a, b], self.pcie_routes[a, b], key=self._alone_gbps)

    def host_sent(self, a: int, b: int) -> Sent:
        """What position a < b sends to b along `host_route`. A wire's first direction is away from a GPU, up from a switch, and
        from the end that is named first."""
        if self.host_route(a, b) == self.pcie_routes[a, b]:
            return self.pcie_sent[a, b]
        wires = [wire for wire, _ in self.routes[a, b]]
        return ((wires[0], 1.0, 0.0),) if len(wires) == 1 else ((wires[0], 1.0, 0.0), (wires[1], 0.0, 1.0))

    def _alone_gbps(self, route: Route) -> float:
        return min(self.capacity_gbps[wire] / times for wire, times in route)


def build_fabric(machine: Machine) -> Fabric:
    """Derive the fabric of a machine. Pure; a machine without GPUs gives an empty fabric."""
    zones = host_zones(machine)
    distance = pcie_distances(machine, zones)
    count = len(machine.gpus)
    tree = _Tree(machine, distance, zones)
    pcie_sent = {(a, b): tree.sent(a, b) for a, b in combinations(range(count), 2)}
    pcie_routes = {pair: tuple((wire, there + back) for wire, there, back in sent) for pair, sent in pcie_sent.items()}
    routes: dict[tuple[int, int], Route] = {}
    classes: dict[tuple[int, int], str] = {}
    for a, b in combinations(range(count), 2):
        if machine.gpus[a].switch_links and machine.gpus[b].switch_links:
            routes[a, b], classes[a, b] = ((f"nvswitch port of GPU {a}", 1.0), (f"nvswitch port of GPU {b}", 1.0)), "NVSwitch"
        elif machine.nvlinks[a][b]:
            routes[a, b], classes[a, b] = ((f"NVLink {a}-{b}", 1.0),), f"NV{machine.nvlinks[a][b]}"
        else:
            routes[a, b] = pcie_routes[a, b]
            classes[a, b] = list(PciePath)[distance[a][b] - 1].value
    capacity = tree.capacity_gbps | _nvlink_capacity(machine)
    square = tuple(tuple(row[:count]) for row in distance[:count])
    known = [facts(gpu.product) for gpu in machine.gpus]
    return Fabric(
        size=count,
        capacity_gbps=capacity,
        routes=routes,
        pcie_routes=pcie_routes,
        pcie_sent=pcie_sent,
        link_class=classes,
        distance=square,
        graph=_graph(machine, tree, capacity),
        generation=tuple(
            gpu.nvlink_generation or (fact.nvlink_generation if fact else None) for gpu, fact in zip(machine.gpus, known, strict=True)
        ),
        architecture=tuple(_architecture(gpu, fact) for gpu, fact in zip(machine.gpus, known, strict=True)),
        zone=tuple(tree.zone[i] for i in range(count)),
        ordered_channels=constants.is_amd(machine.cpu_model),
        switch_links=tuple(gpu.switch_links or 0 for gpu in machine.gpus),
    )


def _architecture(gpu: Gpu, known: ProductFacts | None) -> int | None:
    major = (gpu.compute_capability or "").partition(".")[0]
    return int(major) if major.isdigit() else known.architecture if known else None


def pcie_distances(machine: Machine, zones: tuple[int, ...]) -> list[list[int]]:
    """PCIe distances over GPUs then NICs, hidden ones inferred; 0 on the diagonal. `zones` is the host zone per device."""
    total, gpus = len(machine.gpus) + len(machine.nics), len(machine.gpus)
    known = [[machine.pcie_paths[i][j] for j in range(total)] for i in range(total)]
    found = [[0 if i == j else (path.distance if (path := known[i][j]) else _UNKNOWN) for j in range(total)] for i in range(total)]
    guess = [row[:] for row in found]
    for middle in range(total):  # an ultrametric: no pair is further apart than both are from a third
        for i, j in combinations(range(total), 2):
            via = max(guess[i][middle], guess[middle][j])
            if found[i][j] == _UNKNOWN and middle not in (i, j) and via < guess[i][j]:
                guess[i][j] = guess[j][i] = via
    for i, j in combinations(range(gpus), 2):
        if found[i][j] == _UNKNOWN:
            if zones[i] != zones[j]:
                guess[i][j] = guess[j][i] = PciePath.SYS.distance
            elif guess[i][j] >= PciePath.SYS.distance:
                guess[i][j] = guess[j][i] = PciePath.NODE.distance
    worst = PciePath.SYS.distance
    return [[min(cell, worst) for cell in row] for row in guess]


def groups(distance: list[list[int]], most: int, members: int) -> list[tuple[int, ...]]:
    """Devices no further apart than `most`, as disjoint ascending groups over 0..members-1."""
    near: nx.Graph[int] = nx.Graph()
    near.add_nodes_from(range(members))
    near.add_edges_from((i, j) for i, j in combinations(range(members), 2) if distance[i][j] <= most)
    return sorted(tuple(sorted(part)) for part in nx.connected_components(near))


class _Tree:
    """The PCIe tree of one machine: which switch, which host zone, what the wires carry."""

    def __init__(self, machine: Machine, distance: list[list[int]], zones: tuple[int, ...]) -> None:
        self.machine, self.distance = machine, distance
        self.gpus, self.total = len(machine.gpus), len(distance)
        known = facts(machine.gpus[0].product) if machine.gpus else None
        told = machine.peer_to_peer
        self.peer_to_peer = told if told is not None else not (known and known.peer_to_peer is False)
        self.penalty = constants.host_bridge_penalty(machine.cpu_model)
        self.leaf = self._level(PciePath.PIX.distance)
        self.upper = self._level(PciePath.PXB.distance)
        self.zone = {i: f"NUMA zone {n}" for i, n in enumerate(zones)}
        self.capacity_gbps = self._capacity()

    def _level(self, most: int) -> dict[int, str]:
        """Switch name per device; a group of one device has no switch of its own that matters."""
        kind = "switch" if most == PciePath.PIX.distance else "upper switch"
        parts = [part for part in groups(self.distance, most, self.total) if len(part) > 1 and min(part) < self.gpus]
        return {i: f"{kind} {n}" for n, part in enumerate(parts) for i in part}

    def uplinks(self, device: int) -> list[str]:
        """The switches above a device, nearest first; an upper switch counts only where it joins several."""
        own = [self.leaf[device]] if device in self.leaf else []
        if device in self.upper:
            below = {j for j, name in self.upper.items() if name == self.upper[device]}
            leaves = {j for j, name in self.leaf.items() if own and name == own[0]}
            if below != leaves:
                own.append(self.upper[device])
        return own

    def lane_gbps(self, position: int) -> float:
        """One GPU's PCIe link: reported generation and width, else the product's, else the default."""
        gpu = self.machine.gpus[position]
        known = facts(gpu.product)
        generation = gpu.pcie_generation or (known.pcie_generation if known else constants.DEFAULT_PCIE_GENERATION)
        return constants.PCIE_X16_GBPS.get(generation, constants.PCIE_X16_GBPS[6]) * (gpu.pcie_width or 16) / 16

    def _capacity(self) -> dict[str, float]:
        capacity = {f"PCIe lanes of GPU {i}": self.lane_gbps(i) for i in range(self.gpus)}
        for i in range(self.gpus):
            for switch in self.uplinks(i):
                wires = capacity.get(f"uplink of {switch}", 0.0)
                capacity[f"uplink of {switch}"] = max(wires, self.lane_gbps(i))
        zones = sorted({self.zone[i] for i in range(self.gpus)})
        for a, b in combinations(zones, 2):
            capacity[f"socket link {a} - {b}"] = constants.socket_gbps(self.machine.cpu_model)
        return capacity

    def sent(self, a: int, b: int) -> Sent:
        """What a < b sends to b over PCIe. Without peer-to-peer, everything goes up to host memory and back.

        The host bridge's price is paid inside a zone only. Source: NCCL search.cc, followPath.
        """
        above_a, above_b = self.uplinks(a), self.uplinks(b)
        shared = set(above_a) & set(above_b)
        direct = bool(shared) and self.peer_to_peer
        across = self.zone[a] != self.zone[b]
        price = 1.0 if direct or across else self.penalty
        uses: dict[str, list[float]] = {f"PCIe lanes of GPU {a}": [price, 0.0], f"PCIe lanes of GPU {b}": [0.0, price]}
        for direction, above in enumerate((above_a, above_b)):
            for switch in above:
                if not direct or switch not in shared:
                    uses.setdefault(f"uplink of {switch}", [0.0, 0.0])[direction] += price
        if across:
            first, second = sorted((self.zone[a], self.zone[b]))
            uses[f"socket link {first} - {second}"] = [1.0, 0.0] if first == self.zone[a] else [0.0, 1.0]
        return tuple((wire, there, back) for wire, (there, back) in uses.items())


def _nvlink_capacity(machine: Machine) -> dict[str, float]:
    capacity: dict[str, float] = {}
    for i, gpu in enumerate(machine.gpus):
        if gpu.switch_links:
            capacity[f"nvswitch port of GPU {i}"] = gpu.switch_links * _link_gbps(machine, i, i)
    for a, b in combinations(range(len(machine.gpus)), 2):
        if machine.nvlinks[a][b]:
            capacity[f"NVLink {a}-{b}"] = machine.nvlinks[a][b] * _link_gbps(machine, a, b)
    return capacity


def _link_gbps(machine: Machine, a: int, b: int) -> float:
    known = facts(machine.gpus[a].product)
    if known and known.nvlink_gbps:
        return known.nvlink_gbps
    generation = machine.nvlink_generation(a, b)
    if generation is None and known:
        generation = known.nvlink_generation
    return constants.NVLINK_GBPS.get(generation, constants.UNKNOWN_NVLINK_GBPS) if generation else constants.UNKNOWN_NVLINK_GBPS


def _graph(machine: Machine, tree: _Tree, capacity: dict[str, float]) -> nx.Graph[str]:
    """Vertices carry `kind` (gpu, nic, switch, nvswitch, socket), edges `kind` and `gbps` (None = unknown)."""
    graph: nx.Graph[str] = nx.Graph()
    names = [f"GPU {i}" for i in range(tree.gpus)] + [nic.name for nic in machine.nics]
    for device, name in enumerate(names):
        graph.add_node(name, kind="gpu" if device < tree.gpus else "nic")
        chain = [*tree.uplinks(device), tree.zone[device]]
        lower, gbps = name, tree.lane_gbps(device) if device < tree.gpus else None
        for upper in chain:
            graph.add_node(upper, kind="socket" if upper == tree.zone[device] else "switch")
            graph.add_edge(lower, upper, kind="pcie", gbps=gbps)
            lower, gbps = upper, capacity.get(f"uplink of {upper}")
    for resource, gbps in capacity.items():
        kind, _, rest = resource.partition(" ")
        if kind == "NVLink":
            a, b = rest.split("-")
            graph.add_edge(f"GPU {a}", f"GPU {b}", kind="nvlink", gbps=gbps)
        elif kind == "nvswitch":
            graph.add_node("NVSwitch", kind="nvswitch")
            graph.add_edge(rest.removeprefix("port of "), "NVSwitch", kind="nvlink", gbps=gbps)
        elif kind == "socket":
            a, b = rest.removeprefix("link ").split(" - ")
            graph.add_edge(a, b, kind="socket", gbps=gbps)
    return graph


def assumptions(machine: Machine, fabric: Fabric) -> tuple[str, ...]:
    """What the machine did not tell and its fabric had to assume, in words; bandwidths rest on it."""
    said: list[str] = []
    known = [facts(gpu.product) for gpu in machine.gpus]
    linked = [bool(gpu.switch_links) or any(machine.nvlinks[i]) for i, gpu in enumerate(machine.gpus)]
    hosted = any(not name.startswith("NV") for name in fabric.link_class.values())
    if any(on and gpu.nvlink_generation is None and not fact for on, gpu, fact in zip(linked, machine.gpus, known, strict=True)):
        said.append(f"NVLink generation unknown: {constants.UNKNOWN_NVLINK_GBPS:g} GB/s per link")
    if hosted and any(gpu.pcie_generation is None and not fact for gpu, fact in zip(machine.gpus, known, strict=True)):
        said.append(f"PCIe generation unknown: gen {constants.DEFAULT_PCIE_GENERATION} x16")
    if hosted and machine.cpu_model is None:
        said.append(f"CPU model unknown: Intel, {constants.UNKNOWN_SOCKET_GBPS:g} GB/s between sockets")
    if hosted and machine.peer_to_peer is None and any(fact is None or fact.peer_to_peer is None for fact in known):
        said.append("PCIe peer-to-peer unknown: works")
    return tuple(said)


def islands(machine: Machine) -> list[tuple[int, ...]]:
    """Groups of GPU positions joined by NVLink, directly or through switches; singletons included."""
    count = len(machine.gpus)
    joined: nx.Graph[int] = nx.Graph()
    joined.add_nodes_from(range(count))
    for a, b in combinations(range(count), 2):
        if machine.nvlinks[a][b] or (machine.gpus[a].switch_links and machine.gpus[b].switch_links):
            joined.add_edge(a, b)
    return sorted(tuple(sorted(part)) for part in nx.connected_components(joined))


def fabric_name(machine: Machine) -> str:
    """The fabric in a word or two, for people and printer columns: `NVSwitch NV18`, `NV12 pairs`, `PCIe`."""
    switched = {gpu.switch_links for gpu in machine.gpus if gpu.switch_links}
    if switched:
        return f"NVSwitch NV{max(switched)}"
    counts = {count for row in machine.nvlinks for count in row if count}
    if not counts:
        return "PCIe"
    sizes = {len(part) for part in islands(machine)}
    shape = "pairs" if sizes <= {1, 2} and len(machine.gpus) > 2 else "mesh" if len(machine.gpus) > 2 else "bridge"
    return f"NV{max(counts)} {shape}"
