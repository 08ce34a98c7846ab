"""`topo import` and `topo show` on matrices that contradict themselves, and on invalid options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from extender.cli.app import app
from extender.cli.topology_import import gpu_memory_bytes, node_name
from tests.topology.machine.test_host_zones import matrix
from topology.gputopology.manifest_decoding import decode
from topology.machine.hardware import TopologyError

VM = matrix("SYS SYS SYS", ["0-7|0"] * 3)
SYS_ON_ONE_NODE = "SYS, the link between NUMA nodes, joins GPU 0 and GPU 1 and 2 more pairs, which are on NUMA node 0"


def ask(*arguments: str, text: str, tmp_path: Path, status: int = 0) -> tuple[str, str]:
    """What the command prints on standard output and standard error, blanks folded."""
    file = tmp_path / "matrix.txt"
    file.write_text(text)
    found = CliRunner().invoke(app, [str(file) if word == "MATRIX" else word for word in arguments])
    assert found.exit_code == status, found.output
    return found.stdout, " ".join(found.stderr.replace("│", " ").split())


def test_import_warns_of_a_contradiction_and_prints_the_manifest(tmp_path: Path) -> None:
    manifest, warnings = ask("topo", "import", "MATRIX", "--node", "vm-1", text=VM, tmp_path=tmp_path)
    assert SYS_ON_ONE_NODE in warnings
    assert decode(yaml.safe_load(manifest)).node == "vm-1"


def test_import_of_a_consistent_matrix_prints_no_warning(tmp_path: Path) -> None:
    told = ["--product", "Tesla T4", "--cpu", "Intel Skylake"]
    text = matrix("NODE SYS SYS", ["0-7|0", "0-7|0", "8-15|1"])
    assert ask("topo", "import", "MATRIX", "--node", "n", *told, text=text, tmp_path=tmp_path)[1] == ""


def test_import_warns_of_a_matrix_without_the_nvlinks_of_its_product(tmp_path: Path) -> None:
    text = "$ nvidia-smi topo -mp\n" + matrix("NODE SYS SYS", ["0-7|0", "0-7|0", "8-15|1"])
    warnings = ask("topo", "import", "MATRIX", "--node", "n", "--product", "NVIDIA H100 80GB HBM3", text=text, tmp_path=tmp_path)[1]
    assert "this is `topo -mp`, which leaves NVLinks out" in warnings
    assert "NVIDIA H100 80GB HBM3 is sold on boards joined by NVLink" in warnings


def test_import_warns_of_an_unknown_product_and_an_unknown_cpu(tmp_path: Path) -> None:
    told = ["--product", "NVIDIA Z9", "--cpu", "Zilog Z80"]
    warnings = ask("topo", "import", "MATRIX", "--node", "n", *told, text=matrix("NODE", ["0-7|0"] * 2), tmp_path=tmp_path)[1]
    assert "product 'NVIDIA Z9' is not known" in warnings
    assert "CPU model 'Zilog Z80' is not known" in warnings


REFUSED = {
    "a node in capitals": (["--node", "GPU-7"], "'GPU-7' is not a valid node name"),
    "a node with an underscore": (["--node", "gpu_7"], "RFC 1123 subdomain"),
    "a node that ends in a hyphen": (["--node", "gpu-"], "RFC 1123 subdomain"),
    "an empty node": (["--node", ""], "RFC 1123 subdomain"),
    "a node longer than a name may be": (["--node", "a" * 254], "at most 253 characters"),
    "80 bytes of memory": (["--node", "n", "--memory", "80"], "'80' is 80 bytes per GPU, and GPUs have 1Gi to 4Ti; 80Gi?"),
    "negative memory": (["--node", "n", "--memory", "-1Gi"], "GPUs have 1Gi to 4Ti"),
    "memory of a whole cluster": (["--node", "n", "--memory", "80Pi"], "GPUs have 1Gi to 4Ti"),
    "no memory": (["--node", "n", "--memory", "0"], "GPUs have 1Gi to 4Ti"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_import_refuses_invalid_node_names_and_memory_sizes(case: str, tmp_path: Path) -> None:
    arguments, message = REFUSED[case]
    assert message in ask("topo", "import", "MATRIX", *arguments, text=VM, tmp_path=tmp_path, status=2)[1]


@given(st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?){0,3}", fullmatch=True))
def test_every_subdomain_is_a_node_name(name: str) -> None:
    assert node_name(name) == name


@given(st.integers(1, 4096))
def test_memory_between_1_gib_and_4_tib_is_accepted(gib: int) -> None:
    assert gpu_memory_bytes(f"{gib}Gi") == gib << 30


@pytest.mark.parametrize("command", [["show"], ["import", "--node", "n"]])
def test_three_gpus_that_fit_in_no_tree_are_named(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "matrix.txt"
    file.write_text(matrix("PIX SYS PIX", ["0-7|0"] * 3))
    with pytest.raises(TopologyError) as error:
        app(["topo", *command, str(file)], standalone_mode=False)
    assert str(error.value).startswith(f"{file}: GPU0, GPU1 and GPU2 fit in no PCIe tree: GPU0-GPU1 is PIX, GPU1-GPU2 is PIX")


def test_show_gives_the_range_of_a_matrix_that_contradicts_itself(tmp_path: Path) -> None:
    told = ["--product", "Tesla T4", "--pcie-gen", "3", "--cpu", "Intel Skylake"]
    table, _ = ask("topo", "show", "MATRIX", *told, "--gpus", "0,1,2", text=VM, tmp_path=tmp_path)
    assert f"contradiction: {SYS_ON_ONE_NODE}" in " ".join(table.split())
    answer = json.loads(ask("topo", "show", "MATRIX", *told, "-o", "json", text=VM, tmp_path=tmp_path)[0])
    assert SYS_ON_ONE_NODE in answer["contradictions"][0]
    three = answer["sizes"][1]["best"]
    assert three["bandwidth_gbps"] == pytest.approx(10.0)
    low, high = three["bandwidth_range_gbps"]
    assert low <= three["bandwidth_gbps"] < high


def test_show_of_a_consistent_machine_gives_no_range(tmp_path: Path) -> None:
    answer = json.loads(CliRunner().invoke(app, ["topo", "show", "l40s", "--gpus", "0,1", "-o", "json"]).stdout)
    assert answer["contradictions"] == []
    assert "bandwidth_range_gbps" not in answer["set"]
    assert "bandwidth_range_gbps" not in answer["sizes"][0]["best"]


@pytest.mark.parametrize("platform", ["a100-pcie-bridge-pairs", "l40s", "rtx4090"])
def test_the_set_table_and_all_sets_show_one_figure_of_rings(platform: str) -> None:
    answer = json.loads(CliRunner().invoke(app, ["topo", "show", platform, "-o", "json"]).stdout)
    sets = json.loads(CliRunner().invoke(app, ["topo", "show", platform, "--all-sets", "-o", "json"]).stdout)
    known = {tuple(row["gpus"]): row["bandwidth_gbps"] for row in sets}
    for row in answer["sizes"]:
        for end in ("best", "worst"):
            assert row[end]["bandwidth_gbps"] == known[tuple(row[end]["gpus"])]
        assert row["best"]["bandwidth_gbps"] == max(speed for gpus, speed in known.items() if len(gpus) == row["size"])


def test_set_table_and_all_sets_name_their_figures() -> None:
    assert "GB/s of rings" in CliRunner().invoke(app, ["topo", "show", "l40s"]).stdout
    assert "of rings, then by message size" in " ".join(CliRunner().invoke(app, ["topo", "show", "l40s", "--all-sets"]).stdout.split())
