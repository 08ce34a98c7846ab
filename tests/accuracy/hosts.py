"""Machines whose matrix is odd, read from the text nvidia-smi would print, with what NCCL's search gives for each of their sets."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

from tests.accuracy.figures import Searched
from topology.machine.hardware import Machine, with_gpus
from topology.machine.matrix import parse_matrix

_FILE = Path(__file__).parent / "hosts.txt"


def host_searches() -> list[Searched]:
    """Every machine of `hosts.txt`."""
    found: list[Searched] = []
    for line in _FILE.read_text().splitlines():
        if "|" in line and not line.startswith("#"):
            name, *description = (part.strip() for part in line.split("|"))
            found.append(Searched(name, _machine(*description), {}))
        elif line and not line.startswith("#"):
            gbps, masks = line.split(":")
            for mask in masks.split():
                found[-1].busbw_gbps[int(mask, 16)] = tuple(map(float, gbps.split()))
    return found


def _machine(product: str, cpu: str, pcie_generation: str, numa: str, classes: str, switches: str, nvlinks: str) -> Machine:
    nodes, (near, far) = numa.split(), classes.split()
    count = len(nodes)
    groups = [frozenset(map(int, group.split("-"))) for group in switches.split()]
    links = {frozenset(map(int, pair.split("-"))): links for pair, links in (entry.split(":") for entry in nvlinks.split())}
    cells = [["X"] * count for _ in range(count)]
    for a, b in combinations(range(count), 2):
        pair = frozenset((a, b))
        word = "PIX" if any(pair <= group for group in groups) else near if nodes[a] == nodes[b] else far
        cells[a][b] = cells[b][a] = f"NV{links[pair]}" if pair in links else word
    lines = ["\t".join(["", *(f"GPU{i}" for i in range(count)), "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"])]
    lines += ["\t".join([f"GPU{i}", *cells[i], _cpus(nodes[i]), nodes[i], "", "N/A"]) for i in range(count)]
    machine = parse_matrix("\n".join(lines), product)
    return replace(with_gpus(machine, pcie_generation=int(pcie_generation)), cpu_model=cpu)


def _cpus(node: str) -> str:
    return f"{8 * int(node)}-{8 * int(node) + 7}" if node.isdigit() else "0-63"
