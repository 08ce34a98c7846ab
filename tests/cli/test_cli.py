"""The command line: every command as a process, and one line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from extender.cli.rendering.machines.svg import FREE, TAKEN, draw
from extender.sources.simulated import simulated
from tests.conftest import Served
from tests.machines import matrix_text
from tests.objects import node, pod
from topology.gputopology.manifest_decoding import decode
from topology.platforms import machine_of, platforms


def run(*arguments: str, status: int = 0) -> str:
    """Standard output of `fabricwise ...`; standard error where a failure is expected."""
    done = subprocess.run([sys.executable, "-m", "extender", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture
def pod_file(tmp_path: Path) -> Path:
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(pod(2)))
    return path


@pytest.fixture
def matrix_file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_text(matrix_text(machine_of("a100-pcie-bridge-pairs")))
    return path


def as_list(manifests: list[dict[str, Any]]) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": manifests})


def typed_lists(manifests: list[dict[str, Any]]) -> str:
    nodes = [{k: v for k, v in m.items() if k != "kind"} for m in manifests if m["kind"] == "Node"]
    rest = [m for m in manifests if m["kind"] != "Node"]
    return yaml.safe_dump_all([{"apiVersion": "v1", "kind": "NodeList", "items": nodes}, *rest])


FORMS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "one List": as_list,
    "several documents": yaml.safe_dump_all,
    "JSON": lambda manifests: json.dumps({"kind": "List", "items": manifests}),
    "typed lists": typed_lists,
}


@pytest.mark.parametrize("form", FORMS)
def test_explain_reads_a_dump_of_any_form(tmp_path: Path, pod_file: Path, form: str) -> None:
    dump = tmp_path / "dump"
    text = FORMS[form](list(simulated("nvidia.com/gpu").manifests()))
    dump.write_text(
        text.replace("kind: Node", "kind: Node\nunknownField: 2026-01-01T00:00:00Z", 1) if form == "several documents" else text
    )
    answer = json.loads(run("explain", str(pod_file), "--cluster", str(dump), "-o", "json"))
    assert answer["chosen"] == "hgx-b200-0"
    assert len(answer["nodes"]) == 14


def test_explain_prints_a_table_with_the_reasons(pod_file: Path) -> None:
    text = run("explain", str(pod_file), "--cluster", "simulated")
    assert "chosen: hgx-b200-0" in text
    assert "GB/s expected" in text


def test_explain_asks_a_server(served: Served, pod_file: Path) -> None:
    answer = json.loads(run("explain", str(pod_file), "--server", str(served.client.base_url), "-o", "json"))
    assert answer["chosen"] == "hgx-b200-0"


def test_import_prints_a_manifest_that_reads_back(matrix_file: Path) -> None:
    text = run("topo", "import", str(matrix_file), "--node", "gpu-7", "--product", "NVIDIA A100 80GB PCIe", "--memory", "80Gi")
    record = decode(yaml.safe_load(text))
    assert record.node == "gpu-7"
    assert record.machine.gpus[3].memory_bytes == 80 << 30
    assert record.machine.nvlinks[2][3] == 12


def test_import_takes_cpu_pcie_and_peer_to_peer(matrix_file: Path) -> None:
    text = run("topo", "import", str(matrix_file), "--node", "n", "--cpu", "AMD EPYC Rome", "--pcie-gen", "5", "--no-p2p")
    machine = decode(yaml.safe_load(text)).machine
    assert (machine.cpu_model, machine.gpus[0].pcie_generation, machine.peer_to_peer) == ("AMD EPYC Rome", 5, False)


def test_topo_show_reads_a_matrix(matrix_file: Path) -> None:
    text = run("topo", "show", str(matrix_file))
    assert "NV12" in text
    assert "240 {0,1}" in " ".join(text.split())
    answer = json.loads(run("topo", "show", str(matrix_file), "--gpus", "0,1,2", "-o", "json"))
    assert answer["set"]["gpus"] == [0, 1, 2]
    assert answer["set"]["bandwidth_gbps"] == pytest.approx(20, rel=0.05)
    assert answer["sizes"][0]["best"]["bandwidth_gbps"] == pytest.approx(240)


def test_topo_show_reads_a_node_of_a_cluster() -> None:
    answer = json.loads(run("topo", "show", "dgx-1v-0", "--cluster", "simulated", "-o", "json"))
    assert answer["fabric"] == "NV2 mesh"


def mistakes(tmp_path: Path) -> dict[str, tuple[list[str], int, str]]:
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod(2)))
    (tmp_path / "notpod.yaml").write_text("kind: Service\nmetadata: {name: x}\nspec: {}\n")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "matrix.txt").write_text("\tGPU0\tGPU1\nGPU0\tX\tPIX\n")
    (tmp_path / "nocluster.yaml").write_text("kind: ConfigMap\nmetadata: {name: x}\n")
    (tmp_path / "scalar.yaml").write_text("just text\n")
    (tmp_path / "badnode.yaml").write_text(yaml.safe_dump(node("n") | {"status": {"allocatable": 7}}))
    (tmp_path / "loud.yaml").write_text("server: {log_level: loud}\n")
    (tmp_path / "settings.yaml").write_text("scoring: {wieghts: {}}\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\x01")
    p = {name.name: str(name) for name in tmp_path.iterdir()}
    return {
        "no such pod file": (["explain", "nowhere.yaml"], 3, "nowhere.yaml: No such file"),
        "a pod file that is no pod": (["explain", p["notpod.yaml"]], 3, "expected a Pod, got a Service"),
        "a pod file that is no YAML": (["explain", p["broken.yaml"]], 3, "neither JSON nor YAML"),
        "a pod file that is no text": (["explain", p["bytes"]], 3, "is not text"),
        "a dump that is no cluster": (["explain", p["pod.yaml"], "--cluster", p["nocluster.yaml"]], 3, "has no Node"),
        "a dump that is a sentence": (["explain", p["pod.yaml"], "--cluster", p["scalar.yaml"]], 3, "item 0 is str"),
        "a dump with a broken node": (["explain", p["pod.yaml"], "--cluster", p["badnode.yaml"]], 3, "Node n: Expected `object | null`"),
        "a cluster that is nothing": (["explain", p["pod.yaml"], "--cluster", "nothing"], 3, "neither `kube` nor `simulated` nor a file"),
        "a server that is not there": (["explain", p["pod.yaml"], "--server", "http://127.0.0.1:9"], 3, "http://127.0.0.1:9"),
        "a server that is no address": (["explain", p["pod.yaml"], "--server", "::"], 3, "error: ::"),
        "both": (["explain", p["pod.yaml"], "--server", "http://x", "--cluster", "simulated"], 2, "not both"),
        "a matrix with a missing row": (["topo", "import", p["matrix.txt"], "--node", "n"], 3, "names GPU1, but no row GPU1"),
        "memory that is none": (["topo", "import", p["matrix.txt"], "--node", "n", "--memory", "big"], 2, "'big' is not a quantity"),
        "GPUs that are no list": (["topo", "show", "t4", "--gpus", "a"], 2, "not a list such as 0,1,2"),
        "a GPU that is not there": (["topo", "show", "t4", "--gpus", "9"], 3, "no GPU 9"),
        "all sets and one": (["topo", "show", "t4", "--all-sets", "--gpus", "0,1"], 2, "--all-sets lists every set"),
        "all sets drawn": (["topo", "show", "t4", "--all-sets", "-o", "svg"], 2, "--all-sets lists every set"),
        "a GPU twice": (["topo", "show", "t4", "--gpus", "1,1"], 3, "GPU 1 is named twice"),
        "a platform that is none": (["topo", "show", "tpu"], 3, "'tpu' is neither a file nor a bundled platform"),
        "a node that is none": (["topo", "show", "n", "--cluster", "simulated"], 3, "node 'n' is not known"),
        "a bad setting": (["serve", "--config", p["settings.yaml"]], 3, "wieghts"),
        "a log level that is none": (["serve", "--config", p["loud.yaml"]], 3, "$.server.log_level"),
        "serving nothing": (["serve", "--cluster", p["nocluster.yaml"]], 3, "has no Node"),
        "no kubeconfig": (["serve", "--cluster", "kube", "--kubeconfig", "nowhere"], 3, "no Kubernetes configuration"),
        "an unknown option": (["serve", "--prot", "1"], 2, "No such option"),
    }


def test_every_mistake_is_answered_in_a_line(tmp_path: Path) -> None:
    for name, (arguments, status, message) in mistakes(tmp_path).items():
        text = " ".join(run(*arguments, status=status).replace("│", " ").split())
        assert message in text, name


def test_all_sets_lists_every_set_of_two_or_more_at_five_sizes() -> None:
    sets = json.loads(run("topo", "show", "dgx-1v", "--all-sets", "-o", "json"))
    assert len(sets) == 247
    assert sets[0]["gpus"] == [0, 1]
    assert list(sets[0]["busbw_gbps"]) == ["32KiB", "256KiB", "1MiB", "16MiB", "256MiB"]
    assert len({tuple(row["gpus"]) for row in sets}) == 247
    table = run("topo", "show", "l40s", "--all-sets")
    assert "{0,1,2,3}" in table


def test_topo_show_explains_why_a_set_is_slow() -> None:
    text = run("topo", "show", "a100-pcie-bridge-pairs", "--gpus", "0,1,4,5")
    assert "ring crosses the socket link twice (NUMA zone 0 - NUMA zone 1): 10 GB/s per direction" in text
    assert "NVLink joins only parts of the set" in text
    assert "ring crosses the uplink of switch 0 8 times" in run("topo", "show", "rtx4090", "--gpus", "0,1,2,3")


@pytest.mark.parametrize("platform", list(platforms()))
def test_every_platform_can_be_drawn(platform: str) -> None:
    machine = machine_of(platform)
    drawing = ElementTree.fromstring(draw("<node> & co", machine, 0b1))
    texts = [element.text or "" for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert sum(text.startswith("GPU ") for text in texts) == len(machine.gpus)
    fills = [element.get("fill") for element in drawing.iter("{http://www.w3.org/2000/svg}rect")]
    assert fills.count(FREE) == 2, "one free GPU, and the legend"
    assert fills.count(TAKEN) == len(machine.gpus)
    for element in drawing.iter():
        for name in ("x", "y", "x1", "x2", "cx"):
            assert 0 <= float(element.get(name, "0")) <= 2000


def test_topo_show_prints_a_drawing() -> None:
    assert run("topo", "show", "hgx-h100", "-o", "svg").startswith("<svg ")


def test_demo_without_a_terminal_ends() -> None:
    text = run("demo", "--once", "--pods", "6")
    assert text.count("predicted") >= 6
    assert "placed 6 of 6 pods" in text


def test_all_real_captures_import_and_rank(shared_data: Path, tmp_path: Path) -> None:
    """The 22 captures as a cluster: bridged pairs above unbridged for two, NVSwitch boxes above both for four."""
    from topology.gputopology.manifest_encoding import encode
    from topology.gputopology.topology_record import TopologyRecord
    from topology.machine.matrix import parse_matrix

    manifests: list[dict[str, Any]] = []
    for file in sorted((shared_data / "topologies").glob("*.txt")):
        name = file.stem.lower().replace(".", "-")
        machine = parse_matrix(file.read_text())
        manifests += [node(name, len(machine.gpus)), encode(TopologyRecord(name, machine))]
    dump = tmp_path / "all.yaml"
    dump.write_text(as_list(manifests))
    for size in (2, 4):
        (tmp_path / f"{size}.yaml").write_text(yaml.safe_dump(pod(size)))
    ranked = {
        size: {
            row["node"]: row
            for row in json.loads(run("explain", str(tmp_path / f"{size}.yaml"), "--cluster", str(dump), "-o", "json"))["nodes"]
        }
        for size in (2, 4)
    }
    bridged = ["8xa100-pcie-nvlink-bridge-pairs", "4xgpu-nv12-pairs-4numa"]
    unbridged = ["4xl40s-node-sys", "8xgpu-node-sys-vm", "8xgpu-pix-pxb-sys-2018", "8xrtx4090-pix-2numa", "2x1080ti-phb", "4xk80-node"]
    switched = ["dgx-a100-12nic", "hgx-8xh100-no-nic-cols", "aws-p4d-24xlarge-8xa100-40gb", "gke-a4-8xb200-8nic", "gb200-tray-4gpu"]
    assert min(ranked[2][n]["value"] for n in bridged) > max(ranked[2][n]["value"] for n in unbridged)
    rest = [n for n in bridged + unbridged if ranked[4][n]["feasible"]]
    assert min(ranked[4][n]["value"] for n in switched) > max(ranked[4][n]["value"] for n in rest)


def test_internal_error_is_one_line_and_shows_its_traceback_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from extender.cli import app

    def broken(**_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(app, "app", broken)
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 70
    text = capsys.readouterr().err
    assert text.startswith("error: internal, ZeroDivisionError: ours")
    assert text.count("\n") == 1
    monkeypatch.setenv("FABRICWISE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        app.main()


def test_telemetry_prints_what_is_read_as_a_table_and_as_json(tmp_path: Path) -> None:
    from tests.exporters import dcgm_text, exporter, used

    text = dcgm_text({"GPU-a": used(60_000), "GPU-b": {"DCGM_FI_DEV_XID_ERRORS": 79}})
    path = tmp_path / "metrics.txt"
    path.write_text(text)
    found = json.loads(run("telemetry", str(path), "-o", "json"))["devices"]
    assert [(d["uuid"], d["fb_used_bytes"], d["xid"], d["healthy"]) for d in found] == [
        ("GPU-a", 60_000 << 20, 0, True),
        ("GPU-b", 0, 79, False),
    ]
    assert "ecc_double_bit" in found[0]["unknown"]
    table = run("telemetry", str(path))
    assert "GPU-a" in table
    assert "NO" in table
    with exporter(lambda: text) as target:
        assert json.loads(run("telemetry", target.url, "-o", "json"))["devices"] == found
        target.mode = "500"
        assert "answered 500" in run("telemetry", target.url, status=3)


def test_telemetry_of_a_text_without_known_metrics_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_text('# HELP go_goroutines Goroutines.\ngo_goroutines 7\nhttp_requests_total{code="200"} 1\n')
    words = run("telemetry", str(path), status=3)
    assert "it has the metric families go_goroutines, http_requests" in words
    assert "TensorRT-LLM, Triton, Triton with TensorRT-LLM, NVIDIA NIM" in words
    assert "http://HOST:PORT/metrics" in words
    assert "nowhere" in run("telemetry", str(tmp_path / "nowhere"), status=3)


def test_fit_prints_memory_classes_and_nodes(tmp_path: Path) -> None:
    from tests.workload.known_models.models import CONFIGS

    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIGS["Llama-3.1-70B"]))
    asked = ("fit", "--model", str(path), "--dtype", "fp8", "--context", "8192", "--concurrency", "8", "--tp", "2")
    answer = json.loads(run(*asked, "--cluster", "simulated", "-o", "json"))
    assert answer["memory_classes_gb"][0] == 80
    fits = {node["node"] for node in answer["nodes"] if node["fits"]}
    assert {"hgx-h100-0", "hgx-b200-0", "a100-pcie-bridge-pairs-0"} <= fits
    assert "dgx-a100-0" not in fits
    assert "80 GB and larger" in run(*asked)


FIT_WRONG = {
    ("--tp", "3"): (3, "tensor parallelism 3 does not divide"),
    ("--dtype", "fp12"): (2, "fp12"),
}


@pytest.mark.parametrize("more", FIT_WRONG)
def test_fit_names_the_invalid_option(tmp_path: Path, more: tuple[str, str]) -> None:
    from tests.workload.known_models.models import CONFIGS

    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIGS["Llama-3.1-8B"]))
    status, words = FIT_WRONG[more]
    assert words in run("fit", "--model", str(path), *more, status=status)
