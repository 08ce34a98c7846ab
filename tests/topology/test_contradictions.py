"""A machine that contradicts itself says so, and gives the other machine it could be."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from tests.machines import machines, matrix_text
from tests.topology.machine.test_host_zones import matrix
from topology.contradictions import contradictions
from topology.gputopology.manifest_decoding import decode
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import Machine, PciePath, with_gpus
from topology.machine.matrix import parse_matrix
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of, platforms

CASES = {
    "SYS inside one NUMA node": ("SYS SYS SYS", ["0-7|0"] * 3, "GPU 0 and GPU 1 and 2 more pairs, which are on NUMA node 0"),
    "SYS where NUMA is N/A": ("SYS", ["0-7|N/A"] * 2, "GPU 0 and GPU 1, which are on CPUs 0-7"),
    "SYS on one list of NUMA nodes": ("SYS", ["0|0-1"] * 2, "which are on NUMA nodes 0-1"),
    "PIX across NUMA nodes": ("PIX", ["0-7|0", "8-15|1"], "PIX joins GPU 0 and GPU 1, which are on NUMA node 0 and NUMA node 1"),
    "NODE across NUMA nodes": ("NODE", ["0-7|0", "8-15|1"], "NODE joins GPU 0 and GPU 1, which are on NUMA node 0 and NUMA node 1"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_matrix_that_contradicts_itself_says_so(case: str) -> None:
    classes, affinities, says = CASES[case]
    (found,) = contradictions(parse_matrix(matrix(classes, affinities)))
    assert says in found.says


TRUTHFUL = {
    "two nodes": ("NODE SYS SYS", ["0-7|0", "0-7|0", "8-15|1"]),
    "four nodes of two sockets, as NPS2 gives": ("SYS SYS SYS", ["0-7|0", "8-15|1", "16-23|2"]),
    "one node": ("PHB NODE NODE", ["0-7|0", "0-7|0", "0-7|0"]),
}


@pytest.mark.parametrize("case", TRUTHFUL)
def test_a_truthful_matrix_has_none(case: str) -> None:
    assert contradictions(parse_matrix(matrix(*TRUTHFUL[case]))) == ()


@pytest.mark.parametrize("platform", list(platforms()))
def test_no_bundled_platform_contradicts_itself(platform: str) -> None:
    assert contradictions(machine_of(platform)) == ()


@given(machines(nics=True))
def test_no_truthful_machine_contradicts_itself(machine: Machine) -> None:
    assert contradictions(machine) == ()
    assert contradictions(parse_matrix(matrix_text(machine))) == ()


@pytest.mark.parametrize("product", ["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA H200", "NVIDIA B200"])
def test_a_board_with_nvlinks_and_a_matrix_without_are_a_contradiction(product: str) -> None:
    machine = parse_matrix(matrix("NODE SYS SYS", ["0-7|0", "0-7|0", "8-15|1"]), product)
    (found,) = contradictions(machine)
    assert "topo -mp" in found.says
    slow, fast = (table_for(one).busbw_gbps(0b111) or 0.0 for one in (machine, found.otherwise))
    assert slow < 50 < fast


@pytest.mark.parametrize(
    "product", ["NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA A100 80GB PCIe", "NVIDIA L40S", "Tesla V100-PCIE-32GB", None]
)
def test_a_card_without_bridges_is_no_contradiction(product: str | None) -> None:
    assert contradictions(parse_matrix(matrix("NODE SYS SYS", ["0-7|0", "0-7|0", "8-15|1"]), product)) == ()


def test_the_other_reading_of_a_cloud_vm_has_a_socket_per_gpu() -> None:
    """Three GPUs of one node: 10 GB/s as NCCL reads it, 20 if SYS were true. Source: NCCL 2.30.7's search for both."""
    machine = replace(
        with_gpus(parse_matrix(matrix("SYS SYS SYS", ["0-7|0"] * 3), "Tesla T4"), pcie_generation=4), cpu_model="Intel Skylake"
    )
    (found,) = contradictions(machine)
    assert table_for(machine).busbw_gbps(0b111) == pytest.approx(20.0)
    assert table_for(found.otherwise).busbw_gbps(0b11) == pytest.approx(10.0)


@pytest.mark.parametrize("case", CASES)
def test_a_contradiction_survives_the_record(case: str) -> None:
    classes, affinities, says = CASES[case]
    record = TopologyRecord("n", parse_matrix(matrix(classes, affinities)))
    (found,) = contradictions(decode(encode(record)).machine)
    assert says in found.says


def test_what_nvlink_hides_contradicts_nothing() -> None:
    machine = machine_of("a100-pcie-bridge-pairs")
    hidden = tuple(tuple(None if machine.nvlinks[i][j] else path for j, path in enumerate(row)) for i, row in enumerate(machine.pcie_paths))
    assert PciePath.SYS in hidden[0]
    assert contradictions(replace(machine, pcie_paths=hidden)) == ()
