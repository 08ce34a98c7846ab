"""The matrix parser: every edition is read, nothing malformed is guessed at."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import machines, matrix_text
from topology.machine.hardware import Machine, PciePath, TopologyError
from topology.machine.matrix import parse_matrix
from topology.platforms import machine_of

PAIR = """\
        GPU0    GPU1    NIC0    CPU Affinity    NUMA Affinity   GPU NUMA ID
GPU0     X      NV4     PIX     0,3-9,11-17     0               N/A
GPU1    NV4      X      SYS     18-35           N/A             N/A
NIC0    PIX     SYS      X

Legend:

  NV#  = Connection traversing a bonded set of # NVLinks

NIC Legend:

  NIC0: mlx5_0
"""


def test_reads_every_column() -> None:
    machine = parse_matrix(PAIR, "NVIDIA A40", 48 << 30)
    first, second = machine.gpus
    assert (first.index, first.product, first.memory_bytes, first.numa_node) == (0, "NVIDIA A40", 48 << 30, 0)
    assert (first.cpu_affinity, second.cpu_affinity) == ("0,3-9,11-17", "18-35")
    assert second.numa_node is None, "N/A is unknown"
    assert machine.nvlinks == ((0, 4), (4, 0))
    assert machine.pcie_paths[0][1] is None, "NVLink hides the PCIe class; unknown is None"
    assert machine.pcie_paths[0][2] is PciePath.PIX
    assert (machine.nics[0].name, machine.nics[0].device) == ("NIC0", "mlx5_0")
    assert machine.nvlink_generation(0, 1) == 3
    assert machine.cpu_model is None
    assert machine.peer_to_peer is None


EDITIONS = {
    "spaces for tabs": PAIR.expandtabs(2),
    "windows line ends": PAIR.replace("\n", "\r\n"),
    "underlined header": "\x1b[4m" + PAIR.replace("ID\n", "ID\x1b[0m\n", 1),
    "byte order mark": "\ufeff" + PAIR,
    "shell prompt and comment above": "# source: somewhere\n$ nvidia-smi topo -m\n" + PAIR,
    "indented": "\n".join("        " + line for line in PAIR.splitlines()),
    "no legend": PAIR.split("\n\nLegend", maxsplit=1)[0],
}


@pytest.mark.parametrize("edition", EDITIONS)
def test_editions_read_alike(edition: str) -> None:
    machine, usual = parse_matrix(EDITIONS[edition]), parse_matrix(PAIR)
    assert (machine.gpus, machine.pcie_paths, machine.nvlinks) == (usual.gpus, usual.pcie_paths, usual.nvlinks)


def test_cut_off_nic_rows_are_read_off_the_columns() -> None:
    machine = parse_matrix(PAIR.split("NIC0    PIX", maxsplit=1)[0])
    assert machine.pcie_paths[2][0] is PciePath.PIX


def test_a_blank_numa_cell_between_tabs() -> None:
    text = "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\nGPU0\t X \tSYS\t0-7\t\nGPU1\tSYS\t X \t\t1\n"
    machine = parse_matrix(text)
    assert [gpu.cpu_affinity for gpu in machine.gpus] == ["0-7", None]
    assert [gpu.numa_node for gpu in machine.gpus] == [None, 1]


MALFORMED = {
    "empty": ("", "no header line"),
    "prose": ("the GPUs are fine\n", "no header line"),
    "missing row": (
        PAIR.replace("GPU1    NV4      X      SYS     18-35           N/A             N/A\n", ""),
        "line 1, column 2 names GPU1",
    ),
    "cell missing": ("\tGPU0\tGPU1\nGPU0\tX\tPIX\nGPU1\tPIX\n", "line 3: row GPU1 ends before column GPU1"),
    "cell too many": ("\tGPU0\tGPU1\nGPU0\tX\tPIX\tPIX\nGPU1\tPIX\tX\n", "line 2: row GPU0 has 1 cells too many"),
    "unknown class": ("\tGPU0\tGPU1\nGPU0\tX\tPIG\nGPU1\tPIX\tX\n", "line 2, column GPU1: 'PIG'"),
    "no self": ("\tGPU0\tGPU1\nGPU0\tPIX\tPIX\nGPU1\tPIX\tX\n", "line 2, column GPU0: row GPU0 has 'PIX'"),
    "self elsewhere": ("\tGPU0\tGPU1\nGPU0\tX\tX\nGPU1\tPIX\tX\n", "line 2, column GPU1: row GPU0 has 'X'"),
    "asymmetric": ("\tGPU0\tGPU1\nGPU0\tX\tNV2\nGPU1\tSYS\tX\n", "line 2, column GPU1: NV2, but line 3, column GPU0 says SYS"),
    "row twice": ("\tGPU0\tGPU1\nGPU0\tX\tPIX\nGPU0\tX\tPIX\nGPU1\tPIX\tX\n", "line 3: row GPU0 appears twice"),
    "column twice": ("\tGPU0\tGPU0\nGPU0\tX\tPIX\n", "line 1: column GPU0 appears twice"),
    "row without column": ("\tGPU0\tGPU1\nGPU0\tX\tPIX\nGPU1\tPIX\tX\nGPU2\tPIX\tPIX\n", "line 4: row GPU2 has no column"),
    "no links": ("\tGPU0\tGPU1\nGPU0\tX\tNV0\nGPU1\tNV0\tX\n", "'NV0' is not 1 to 18"),
    "too many links": ("\tGPU0\tGPU1\nGPU0\tX\tNV99\nGPU1\tNV99\tX\n", "'NV99' is not 1 to 18"),
    "NVLink to a NIC": (PAIR.replace("NV4     PIX", "NV4     NV4"), "line 2, column NIC0: NVLink 'NV4'"),
    "affinity garbage": (PAIR.replace("18-35", "18..35"), "line 3, column CPU Affinity: '18..35'"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_text_names_line_and_column(case: str) -> None:
    text, message = MALFORMED[case]
    with pytest.raises(TopologyError) as error:
        parse_matrix(text)
    assert message in str(error.value)


def test_seventeen_gpus_are_refused() -> None:
    rows = "\n".join(f"GPU{i}\t" + "\t".join("X" if i == j else "SYS" for j in range(17)) for i in range(17))
    with pytest.raises(TopologyError, match="at most 16 GPUs"):
        parse_matrix("\t" + "\t".join(f"GPU{i}" for i in range(17)) + "\n" + rows)


SWITCHED = {"dgx-a100": True, "hgx-h100": True, "gb200-tray": True, "dgx-1v": False, "a100-pcie-bridge-pairs": False, "t4": False}


@pytest.mark.parametrize("platform", SWITCHED)
def test_a_switched_board_is_told_from_direct_links(platform: str) -> None:
    machine = parse_matrix(matrix_text(machine_of(platform)))
    assert [bool(gpu.switch_links) for gpu in machine.gpus] == [SWITCHED[platform]] * len(machine.gpus)
    assert any(map(any, machine.nvlinks)) is (platform in ("dgx-1v", "a100-pcie-bridge-pairs"))


def test_a_switched_board_of_small_link_counts_needs_its_product() -> None:
    rows = "\n".join(f"GPU{i}\t" + "\t".join("X" if i == j else "NV6" for j in range(3)) for i in range(3))
    text = "\tGPU0\tGPU1\tGPU2\n" + rows
    assert parse_matrix(text, "Tesla V100-SXM3-32GB").gpus[0].switch_links == 6, "a V100 has six links in all"
    assert parse_matrix(text).gpus[0].switch_links is None, "without a product it could be either"


@given(machines(nics=True), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_text_round_trips(machine: Machine, tabs: bool, legend: bool, nic_rows: bool, escapes: bool) -> None:
    text = matrix_text(machine, tabs=tabs, legend=legend, nic_rows=nic_rows or not machine.nics, escapes=escapes)
    read = parse_matrix(text)
    assert [gpu.numa_node for gpu in read.gpus] == [gpu.numa_node for gpu in machine.gpus]
    for i in range(len(machine.gpus)):
        for j in range(len(machine.gpus) + len(machine.nics)):
            if read.pcie_paths[i][j] is not None:
                assert read.pcie_paths[i][j] is machine.pcie_paths[i][j]
    if not any(gpu.switch_links for gpu in machine.gpus):
        assert read.nvlinks == machine.nvlinks


@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, PAIR + text, PAIR.replace("NV4", text[:6] or "?")):
        with contextlib.suppress(TopologyError):
            parse_matrix(candidate)


def test_all_real_captures_are_read(shared_data: Path) -> None:
    files = sorted((shared_data / "topologies").glob("*.txt"))
    assert len(files) >= 22
    for file in files:
        text = file.read_text()
        machine = parse_matrix(text)
        rows = re.findall(r"^\s*GPU(\d+)\s.*\bX\b", text, re.MULTILINE)
        assert [gpu.index for gpu in machine.gpus] == [int(row) for row in rows], file.name
        for i, gpu in enumerate(machine.gpus):
            for j, other in enumerate(machine.gpus):
                joined = machine.pcie_paths[i][j] or machine.nvlinks[i][j] or (gpu.switch_links and other.switch_links)
                assert i == j or joined, f"{file.name}: nothing joins GPU {i} and GPU {j}"
