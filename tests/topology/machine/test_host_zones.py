"""Which GPUs hang on which CPU: NUMA affinity decides, as it does for NCCL; path classes refine and fill in."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import machines, relabelled
from topology.bandwidth.all_reduce import all_reduce
from topology.bandwidth.fabric import build_fabric
from topology.machine.hardware import Gpu, Machine, Nic, PciePath, with_gpus
from topology.machine.host_zones import host_zones
from topology.machine.matrix import parse_matrix


def matrix(classes: str, affinities: list[str]) -> str:
    """A matrix of GPUs from the classes above the diagonal, row by row, and "CPU affinity | NUMA affinity" per GPU."""
    count = len(affinities)
    cells = dict(zip(combinations(range(count), 2), classes.split(), strict=True))
    lines = ["\t".join(["", *(f"GPU{i}" for i in range(count)), "CPU Affinity", "NUMA Affinity"])]
    for i, affinity in enumerate(affinities):
        row = ["X" if i == j else cells[min(i, j), max(i, j)] for j in range(count)]
        lines.append("\t".join([f"GPU{i}", *row, *(part.strip() for part in affinity.split("|"))]))
    return "\n".join(lines) + "\n"


ZONES = {
    "SYS inside one NUMA node, as cloud VMs print it": ("SYS SYS SYS", ["0-7|0", "0-7|0", "0-7|0"], (0, 0, 0)),
    "NUMA N/A and the same CPUs": ("SYS SYS SYS", ["0-7|N/A", "0-7|N/A", "0-7|N/A"], (0, 0, 0)),
    "NUMA N/A and no CPUs either": ("SYS SYS SYS", ["N/A|N/A", "N/A|N/A", "N/A|N/A"], (0, 0, 0)),
    "a list of NUMA nodes": ("SYS SYS SYS", ["0|0-1", "0|0-1", "0|0-1"], (0, 0, 0)),
    "two lists of NUMA nodes, as on GB200": ("SYS SYS SYS", ["0-71|0,2-9", "0-71|0,2-9", "72-143|1,10-17"], (0, 0, 1)),
    "one NUMA N/A whose CPUs are those of a known node": ("SYS SYS SYS", ["0-7|0", "0-7|N/A", "8-15|1"], (0, 0, 1)),
    "one NUMA N/A with CPUs of its own": ("SYS SYS SYS", ["0-7|N/A", "8-15|1", "8-15|1"], (0, 1, 1)),
    "a truthful matrix of two nodes": ("NODE SYS SYS", ["0-7|0", "0-7|0", "8-15|1"], (0, 0, 1)),
    "one CPU of a container's for GPUs of two nodes": ("NODE SYS SYS", ["0|0", "0|0", "0|1"], (0, 0, 1)),
    "a switch across NUMA nodes has one root": ("PIX SYS SYS", ["0-7|0", "8-15|1", "8-15|1"], (0, 0, 1)),
    "NODE across NUMA nodes": ("NODE SYS SYS", ["0-7|0", "8-15|1", "16-23|2"], (0, 1, 2)),
}


@pytest.mark.parametrize("case", ZONES)
def test_zones_follow_numa_affinity(case: str) -> None:
    classes, affinities, zones = ZONES[case]
    assert host_zones(parse_matrix(matrix(classes, affinities))) == zones


def test_without_affinity_path_classes_decide() -> None:
    text = "\tGPU0\tGPU1\tGPU2\nGPU0\tX\tNODE\tSYS\nGPU1\tNODE\tX\tSYS\nGPU2\tSYS\tSYS\tX\n"
    assert host_zones(parse_matrix(text)) == (0, 0, 1)


def test_an_adapter_is_in_the_zone_of_its_nearest_gpu_unless_its_node_is_told() -> None:
    sys, node, pix = PciePath.SYS, PciePath.NODE, PciePath.PIX
    rows = ((None, sys, node, pix), (sys, None, node, sys), (node, node, None, node), (pix, sys, node, None))
    gpus = (Gpu(0, numa_node=0), Gpu(1, numa_node=1))
    assert host_zones(Machine(gpus, (Nic("NIC0"), Nic("NIC1")), rows, ((0, 0), (0, 0)))) == (0, 1, 0, 0)
    assert host_zones(Machine(gpus, (Nic("NIC0", numa_node=1), Nic("NIC1")), rows, ((0, 0), (0, 0)))) == (0, 1, 1, 0)


def test_three_gpus_of_one_numa_node_have_what_every_pair_has() -> None:
    """Source: NCCL 2.30.7's search on this machine, gen3 behind a Skylake host bridge: 10 GB/s for each set."""
    machine = with_gpus(parse_matrix(matrix("SYS SYS SYS", ["0-7|0"] * 3), "Tesla T4"), pcie_generation=3)
    for members in ((0, 1), (0, 2), (1, 2), (0, 1, 2)):
        found = all_reduce(build_fabric(machine), members)
        assert found is not None
        assert found.busbw_gbps == pytest.approx(10.0)


@given(machines(nics=True), st.randoms(use_true_random=False))
def test_zones_do_not_depend_on_numbering(machine: Machine, random: object) -> None:
    order = list(range(len(machine.gpus)))
    random.shuffle(order)  # type: ignore[attr-defined]
    ours, theirs = host_zones(machine), host_zones(relabelled(machine, order))
    for a, b in combinations(range(len(order)), 2):
        assert (theirs[a] == theirs[b]) is (ours[order[a]] == ours[order[b]])


@given(machines(), st.sampled_from([PciePath.NODE, PciePath.SYS, PciePath.PHB]))
def test_the_word_for_a_host_path_decides_nothing_where_numa_nodes_are_told(machine: Machine, word: PciePath) -> None:
    """The words of a hypervisor: whatever joins two GPUs without a switch, their NUMA nodes say whether it crosses CPUs."""
    switches = (PciePath.PIX, PciePath.PXB)
    paths = tuple(tuple(path if path is None or path in switches else word for path in row) for row in machine.pcie_paths)
    other = Machine(machine.gpus, machine.nics, paths, machine.nvlinks, machine.cpu_model, machine.peer_to_peer)
    assert host_zones(other) == host_zones(machine)
    assert build_fabric(other).pcie_routes == build_fabric(machine).pcie_routes


@given(machines(), st.data())
def test_telling_the_numa_nodes_of_a_truthful_matrix_changes_no_zone(machine: Machine, data: st.DataObject) -> None:
    told = data.draw(st.sets(st.sampled_from(range(len(machine.gpus)))))
    gpus = tuple(gpu if place in told else Gpu(gpu.index, switch_links=gpu.switch_links) for place, gpu in enumerate(machine.gpus))
    bare = Machine(gpus, machine.nics, machine.pcie_paths, machine.nvlinks)
    assert host_zones(bare) == host_zones(machine)
