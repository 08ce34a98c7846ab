"""The PCIe tree of one machine: which switches and host zones there are, and which PCIe wires a pair's traffic crosses.

No tool prints a PCIe tree. It follows from NUMA affinity and path classes: the devices of a PIX group are under one switch, those of
a PXB group under one upper switch, and both are in one host zone (see `host_zones`). Where nvidia-smi prints NVLink instead of a
pair's PCIe class, the class is bounded by what both ends share with a NIC or a third GPU, else by their zones. This module infers it;
`Machine` never holds an inferred class.
"""

from __future__ import annotations

from itertools import combinations

import networkx as nx

from topology.bandwidth.wires import Wire, pcie_lanes, socket_link, uplink
from topology.machine import constants
from topology.machine.hardware import Machine, PciePath
from topology.machine.products import facts

_UNKNOWN_DISTANCE = 9

Sent = tuple[tuple[str, float, float], ...]
"""Wires that the traffic from one GPU to another crosses: (name, uses of its first direction, uses of its second direction)."""


def pcie_distances(machine: Machine, zones: tuple[int, ...]) -> list[list[int]]:
    """Return the square matrix of PCIe distances over GPUs then NICs, 1 (PIX) .. 5 (SYS), 0 on the diagonal; unknown ones are inferred.

    `zones` is the host zone per device.
    """
    total, gpus = len(machine.gpus) + len(machine.nics), len(machine.gpus)
    paths = [[machine.pcie_paths[i][j] for j in range(total)] for i in range(total)]
    known = [[0 if i == j else (path.distance if (path := paths[i][j]) else _UNKNOWN_DISTANCE) for j in range(total)] for i in range(total)]
    inferred = [row[:] for row in known]
    for middle in range(total):  # an ultrametric: a pair is no further apart than the farther of the two is from any third device
        for i, j in combinations(range(total), 2):
            via_middle = max(inferred[i][middle], inferred[middle][j])
            if known[i][j] == _UNKNOWN_DISTANCE and middle not in (i, j) and via_middle < inferred[i][j]:
                inferred[i][j] = inferred[j][i] = via_middle
    for i, j in combinations(range(gpus), 2):
        if known[i][j] == _UNKNOWN_DISTANCE:
            if zones[i] != zones[j]:
                inferred[i][j] = inferred[j][i] = PciePath.SYS.distance
            elif inferred[i][j] >= PciePath.SYS.distance:
                inferred[i][j] = inferred[j][i] = PciePath.NODE.distance
    worst = PciePath.SYS.distance
    return [[min(cell, worst) for cell in row] for row in inferred]


def zone_names(machine: Machine, zones: tuple[int, ...]) -> list[str]:
    """Return the name of each device's host zone, GPUs then NICs: with the kernel's NUMA numbers, as `numactl --hardware` shows.

    The zones are numbered from 0 where a GPU's number is not known, or where one number would name two zones.
    """
    numbers: dict[int, set[int]] = {zone: set() for zone in zones}
    numa_nodes = [*(gpu.numa_node for gpu in machine.gpus), *(nic.numa_node for nic in machine.nics)]
    for numa_node, zone in zip(numa_nodes, zones, strict=True):
        if numa_node is not None and numa_node >= 0:
            numbers[zone].add(numa_node)
    known = {zone: min(own) for zone, own in numbers.items() if len(own) == 1}
    is_known = all(zone in known for zone in zones[: len(machine.gpus)]) and len(set(known.values())) == len(known)
    if not is_known:
        return [f"NUMA zone {zone}" for zone in zones]
    return [f"NUMA zone {known[zone]}" if zone in known else f"unknown NUMA zone {zone}" for zone in zones]


class PcieTree:
    """Switches, host zones and PCIe wires of one machine."""

    def __init__(self, machine: Machine, distance: list[list[int]], zones: tuple[int, ...]) -> None:
        """`distance` as `pcie_distances` returns it; `zones` is the host zone per device, GPUs then NICs."""
        self.machine, self.distance = machine, distance
        self.gpu_count, self.device_count = len(machine.gpus), len(distance)
        product = facts(machine.gpus[0].product) if machine.gpus else None
        reported = machine.peer_to_peer
        self.peer_to_peer = reported if reported is not None else not (product and product.peer_to_peer is False)
        self.penalty = constants.host_bridge_penalty(machine.cpu_model)
        self.switch = self._switches(PciePath.PIX)
        self.upper_switch = self._switches(PciePath.PXB)
        self.zone = dict(enumerate(zone_names(machine, zones)))
        self.capacity_gbps: dict[str, float] = {}
        """By wire name, per direction."""
        self.wires: dict[str, Wire] = {}
        self._add_wires()

    def _switches(self, path: PciePath) -> dict[int, str]:
        """Switch name per device. A group of one device has no switch of its own that affects bandwidth."""
        kind = "switch" if path is PciePath.PIX else "upper switch"
        groups = _groups(self.distance, path.distance)
        shared = [group for group in groups if len(group) > 1 and min(group) < self.gpu_count]
        return {device: f"{kind} {number}" for number, group in enumerate(shared) for device in group}

    def switches_above(self, device: int) -> list[str]:
        """Return the switches above a device, nearest first. An upper switch counts only where it joins several switches."""
        above = [self.switch[device]] if device in self.switch else []
        if device in self.upper_switch:
            below_upper = {other for other, name in self.upper_switch.items() if name == self.upper_switch[device]}
            below_switch = {other for other, name in self.switch.items() if above and name == above[0]}
            if below_upper != below_switch:
                above.append(self.upper_switch[device])
        return above

    def lane_gbps(self, position: int) -> float:
        """Return GB/s per direction of a GPU's PCIe link: of the reported generation and width, else the product's, else the default's."""
        gpu = self.machine.gpus[position]
        product = facts(gpu.product)
        generation = gpu.pcie_generation or (product.pcie_generation if product else constants.DEFAULT_PCIE_GENERATION)
        return constants.PCIE_X16_GBPS.get(generation, constants.PCIE_X16_GBPS[6]) * (gpu.pcie_width or 16) / 16

    def _add_wires(self) -> None:
        for position in range(self.gpu_count):
            self._add_wire(pcie_lanes(position), self.lane_gbps(position))
        for position in range(self.gpu_count):
            for switch in self.switches_above(position):
                widest = self.capacity_gbps.get(uplink(switch).name, 0.0)
                self._add_wire(uplink(switch), max(widest, self.lane_gbps(position)))
        for first, second in combinations(sorted({self.zone[position] for position in range(self.gpu_count)}), 2):
            self._add_wire(socket_link(first, second), constants.socket_gbps(self.machine.cpu_model))

    def _add_wire(self, wire: Wire, gbps: float) -> None:
        self.wires[wire.name], self.capacity_gbps[wire.name] = wire, gbps

    def sent(self, a: int, b: int) -> Sent:
        """Return what position a < b sends to b over PCIe. Without peer-to-peer all of it goes up to host memory and back.

        The host bridge penalty applies inside a zone only. Source: NCCL search.cc, followPath.
        """
        above_a, above_b = self.switches_above(a), self.switches_above(b)
        shared = set(above_a) & set(above_b)
        is_direct = bool(shared) and self.peer_to_peer
        crosses_sockets = self.zone[a] != self.zone[b]
        uses_per_byte = 1.0 if is_direct or crosses_sockets else self.penalty
        uses: dict[str, list[float]] = {pcie_lanes(a).name: [uses_per_byte, 0.0], pcie_lanes(b).name: [0.0, uses_per_byte]}
        for direction, above in enumerate((above_a, above_b)):
            for switch in above:
                if not is_direct or switch not in shared:
                    uses.setdefault(uplink(switch).name, [0.0, 0.0])[direction] += uses_per_byte
        if crosses_sockets:
            first, second = sorted((self.zone[a], self.zone[b]))
            uses[socket_link(first, second).name] = [1.0, 0.0] if first == self.zone[a] else [0.0, 1.0]
        return tuple((wire, there, back) for wire, (there, back) in uses.items())


def _groups(distance: list[list[int]], max_distance: int) -> list[tuple[int, ...]]:
    """Devices that are at most `max_distance` apart, as disjoint ascending groups."""
    near: nx.Graph[int] = nx.Graph()
    near.add_nodes_from(range(len(distance)))
    near.add_edges_from((i, j) for i, j in combinations(range(len(distance)), 2) if distance[i][j] <= max_distance)
    return sorted(tuple(sorted(group)) for group in nx.connected_components(near))
