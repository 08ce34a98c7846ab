"""Statements of a machine that exclude each other, and the machine that it is if the other statement is true.

A matrix states path classes and NUMA affinity, and a product states more. Where these exclude each other, one of them is wrong;
mostly a hypervisor invents it. The model follows NUMA affinity, as NCCL does (see `host_zones`); the other machine gives the other
end of the bandwidth range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

from topology.machine.hardware import Machine, PciePath
from topology.machine.host_zones import affinity_key, host_zones
from topology.machine.products import always_linked, facts


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two statements that exclude each other."""

    says: str
    """One sentence; it names GPUs by their nvidia-smi index."""
    otherwise: Machine
    """The machine if the other statement is true."""


def contradictions(machine: Machine) -> tuple[Contradiction, ...]:
    """Return all contradictions of a machine."""
    results = (rule(machine) for rule in (_apart_on_one_node, _together_on_two_nodes, _without_its_links))
    return tuple(contradiction for contradiction in results if contradiction is not None)


def _apart_on_one_node(machine: Machine) -> Contradiction | None:
    def apart(a: int, b: int) -> bool:
        return machine.pcie_paths[a][b] is PciePath.SYS and zones[a] == zones[b]

    zones = host_zones(machine)
    return _pairs(
        machine, apart, "SYS, the link between NUMA nodes, joins {pairs}, which are on {near}; NUMA affinity is believed, as by NCCL"
    )


def _together_on_two_nodes(machine: Machine) -> Contradiction | None:
    keys = [affinity_key(machine, gpu) for gpu in machine.gpus]

    def together(a: int, b: int) -> bool:
        path = machine.pcie_paths[a][b]
        return path not in (None, PciePath.SYS) and None not in (keys[a], keys[b]) and keys[a] != keys[b]

    says = "{path} joins {pairs}, which are on {near}; a common switch is believed before NUMA affinity, and that before NODE and PHB"
    return _pairs(machine, together, says)


def _pairs(machine: Machine, contradicts: Callable[[int, int], bool], says: str) -> Contradiction | None:
    pairs = [(a, b) for a, b in combinations(range(len(machine.gpus)), 2) if contradicts(a, b)]
    if not pairs:
        return None
    a, b = pairs[0]
    ends = (machine.gpus[a], machine.gpus[b])
    more = f" and {len(pairs) - 1} more pairs" if len(pairs) > 2 else " and one more pair" if len(pairs) == 2 else ""
    near = " and ".join(dict.fromkeys(affinity_key(machine, end) or "no known node" for end in ends))
    return Contradiction(
        says.format(pairs=f"GPU {ends[0].index} and GPU {ends[1].index}{more}", near=near, path=machine.pcie_paths[a][b]),
        replace(
            machine,
            gpus=tuple(replace(gpu, numa_node=None, cpu_affinity=None, numa_affinity=None) for gpu in machine.gpus),
            nics=tuple(replace(nic, numa_node=None) for nic in machine.nics),
        ),
    )


def _without_its_links(machine: Machine) -> Contradiction | None:
    linked = any(map(any, machine.nvlinks)) or any(gpu.switch_links for gpu in machine.gpus)
    if linked or len(machine.gpus) < 2 or not all(always_linked(gpu.product) for gpu in machine.gpus):
        return None
    product = machine.gpus[0].product
    links = [known.nvlinks if (known := facts(gpu.product)) else 0 for gpu in machine.gpus]
    return Contradiction(
        f"{product} is sold on boards joined by NVLink, but no GPU has an NVLink: `topo -mp` leaves them out (use `topo -m`), MIG and a"
        " fabric manager that is down switch them off",
        replace(machine, gpus=tuple(replace(gpu, switch_links=count) for gpu, count in zip(machine.gpus, links, strict=True))),
    )
