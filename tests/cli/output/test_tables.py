"""Tables in narrow terminals, and node reports as text: problems first, each fact once."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import RenderableType

from extender.cli.commands.nodes import telemetry
from extender.cli.rendering.answers import explanation_tables
from extender.cli.rendering.answers.node_cards import card_table, cards_table, findings
from extender.cli.rendering.console.fitted_tables import Column, FittedTable
from extender.cli.rendering.console.output import PlainConsole
from extender.cli.rendering.machines import topology_tables
from extender.cli.rendering.machines.topology_report import machine_answer
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.kube_filters.evaluate import evaluate
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.report import serializers
from extender.decision.report.checks.node_checks import all_reports, node_report
from extender.server.from_settings import policy, ranker
from extender.settings import Settings
from extender.telemetry.conditions import TUNING
from extender.telemetry.telemetry_serializers import read
from extender.web.pod_manifests import pods_from
from tests.decision.reports.test_node_reports import Rack, crashed_plugin, guest, no_taint, set_label, state_of
from tests.exporters import dcgm_text, used
from tests.objects import GPU, node, pod, snapshot, topology
from topology.platforms import machine_of

WIDTHS = (60, 80, 160)


def printed(what: RenderableType, width: int) -> str:
    file = io.StringIO()
    PlainConsole(file=file, width=width).print(what)
    return file.getvalue()


def explanation() -> Mapping[str, Any]:
    names = ("gke-production-a100-pool-7f3e21bc-x9k2", "gke-production-a100-pool-7f3e21bc-b71q")
    manifests = [part for name in names for part in (node(name), topology(name, "dgx-a100"))]
    state = snapshot(*manifests, *(node(f"cordoned-{number}") | {"spec": {"unschedulable": True}} for number in range(9)))
    settings, manifest = Settings(), pod(2)
    wanted, kube_pod = pods_from(manifest)
    kube = evaluate(kube_pod, Surroundings(state.nodes, {}))
    answer = serializers.explain(Evaluator(policy(settings)), ranker(settings.scoring), state, wanted, GPU, kube=kube)
    return {**answer, "of": "pod/llm", "cluster": "the cluster at https://10.0.0.1:6443 (context production)"}


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_of_an_answer_is_wider_than_the_terminal_and_the_main_columns_are_shown(width: int) -> None:
    text = printed(explanation_tables.explanations(explanation()), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text, "nothing is cut off"
    flat = " ".join(text.split())
    assert "node(s) were unschedulable" in flat
    assert "9: cordoned-0, cordoned-1" in flat
    assert flat.count("the node is cordoned") == 1, "nodes with one reason are grouped"
    assert "score" in flat
    assert ("not shown, because the terminal is too narrow" in flat) == (width < 160)


def cards(*plants: Any) -> list[dict[str, Any]]:
    racks = [Rack(f"gpu-{number}") for number in range(len(plants))]
    for rack, plant in zip(racks, plants, strict=True):
        plant(rack)
    return all_reports(state_of(racks), GPU, TUNING)


@pytest.mark.parametrize("width", WIDTHS)
def test_doctor_prints_problems_first_and_once_with_the_nodes_names_in_the_remedy(width: int) -> None:
    found = cards(no_taint, no_taint, crashed_plugin, lambda _: None)
    text = printed(cards_table({"nodes": found, "cluster": "the dump x"}), width)
    assert max(map(len, text.splitlines())) <= width
    lines = text.splitlines()
    assert lines[0] == "4 nodes with GPUs: 1 fail, 2 warn, 1 pass"
    assert lines[1] == "fail components: gpu-2"
    flat = " ".join(text.split())
    assert flat.count("no GPU taint") == 1
    assert "kubectl taint node gpu-0 gpu-1 nvidia.com/gpu=present:NoSchedule" in flat
    assert "toleration {key: nvidia.com/gpu, operator: Exists}" in flat
    assert "kubectl logs -n team nvidia-device-plugin-daemonset-gpu-2" in flat
    assert flat.index("kubectl taint") < flat.index(" node status "), "the table of nodes comes last"


def test_node_name_that_is_part_of_another_word_is_not_replaced_in_that_word() -> None:
    found = [
        {
            "node": "gpu",
            "status": "warn",
            "checks": [
                {
                    "check": "isolated",
                    "status": "warn",
                    "evidence": "no nvidia.com/gpu taint",
                    "remedy": "kubectl taint node gpu nvidia.com/gpu=present:NoSchedule",
                }
            ],
        }
    ]
    assert findings(found)[0].remedy == "kubectl taint node \0 nvidia.com/gpu=present:NoSchedule"
    assert list(findings(found)[0].evidence) == ["no nvidia.com/gpu taint"]


@pytest.mark.parametrize("plant", [no_taint, guest, crashed_plugin, set_label("mig.config.state", "failed")])
def test_no_remedy_has_a_placeholder_for_the_node(plant: Any) -> None:
    for one in cards(plant)[0]["checks"]:
        assert "NODE" not in one["remedy"]


@pytest.mark.parametrize("width", WIDTHS)
def test_node_report_fits_the_terminal_and_states_no_evidence_twice(width: int) -> None:
    answer = {**cards(no_taint)[0], "cluster": "the dump x"}
    text = printed(card_table(answer), width)
    assert max(map(len, text.splitlines())) <= width
    if width == 160:
        flat = " ".join(text.split())
        for one in answer["checks"]:
            if len(one["evidence"]) > 20:
                assert flat.count(one["evidence"]) <= 1 + (one["check"] == "driver"), one["evidence"]
        assert flat.index("isolated") < flat.index("ready"), "the worst check comes first"


def test_report_of_a_node_without_gpus_has_the_check_ready_only() -> None:
    state = snapshot(node("cpu-1", 0) | {"status": {"allocatable": {"cpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]}})
    card = node_report("cpu-1", state, GPU, TUNING)
    assert card is not None
    assert ([one["check"] for one in card["checks"]], card["status"], card["gpus"]) == (["ready"], "pass", False)
    assert "the node has no GPUs" in printed(card_table(card), 80)
    assert all_reports(state, GPU, TUNING) == []


def test_a_driver_is_shown_as_reported_with_leading_zeros() -> None:
    card = cards(set_label("cuda.driver-version.full", "550.163.01"))[0]
    assert next(one["evidence"] for one in card["checks"] if one["check"] == "driver") == "driver 550.163.01, CUDA 12.8"


MIG = {
    "mixed": (
        {"nvidia.com/mig-1g.10gb": "7", GPU: "7"},
        {"nvidia.com/mig.strategy": "mixed"},
        "divided by MIG (mixed strategy): 7 x nvidia.com/mig-1g.10gb, and 7 whole GPUs",
    ),
    "single": (
        {GPU: "14"},
        {"nvidia.com/mig.strategy": "single", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"},
        "divided by MIG (single strategy)",
    ),
}


@pytest.mark.parametrize("strategy", MIG)
def test_sharing_of_a_mig_node_is_shown_as_mig(strategy: str) -> None:
    amounts, labels, words = MIG[strategy]
    manifest = node("n", 8, "NVIDIA-H100-80GB-HBM3", 81559, {"nvidia.com/gpu.count": amounts[GPU]} | labels)
    manifest["status"] = {"allocatable": amounts, "capacity": amounts}
    card = node_report("n", snapshot(manifest), GPU, TUNING)
    assert card is not None
    said = {one["check"]: one["evidence"] for one in card["checks"]}
    assert said["sharing"] == words
    assert strategy == "mixed" or said["advertised"] == "14 MIG devices offered as nvidia.com/gpu"
    assert "MIG" in card["readiness"]["may batch or notebook pods run beside production"]


CAPABILITIES = {
    "7.0": (("vLLM",), ("SGLang", "TensorRT-LLM", "no BF16")),
    "7.5": (("vLLM", "SGLang", "TGI"), ("TensorRT-LLM", "no BF16")),
    "8.0": (("TensorRT-LLM", "BF16"), ("no FP8",)),
    "9.0": (("vLLM", "SGLang", "TensorRT-LLM", "FP8"), ("no NVFP4",)),
    "10.0": (("NVFP4",), ()),
    "6.1": ((), ("vLLM", "no BF16")),
}


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_engines_that_support_a_gpu_are_named_by_its_compute_capability(capability: str) -> None:
    supported, missing = CAPABILITIES[capability]
    major, minor = capability.split(".")
    labels = {"nvidia.com/gpu.compute.major": major, "nvidia.com/gpu.compute.minor": minor}
    card = node_report("n", snapshot(node("n", 8, labels=labels)), GPU, TUNING)
    assert card is not None
    answer = card["readiness"]["which engines support the GPU"]
    yes, _, no = answer.partition("not by ") if "not by" in answer else (answer, "", answer.partition("in hardware")[2])
    assert all(name in answer for name in supported)
    assert all(name in no for name in missing)
    assert not any(name in yes.partition("in hardware")[0] for name in missing)
    assert "documentation" in answer, "and by whose word"


def test_eight_questions_of_readiness_are_answered() -> None:
    answered = cards(lambda _: None)[0]["readiness"]
    assert len(answered) == 8
    assert answered["how much memory has a GPU"].startswith("80 GiB per GPU, class 80 GB")
    assert answered["how fast do several GPUs work together"].startswith("NVSwitch NV18; all-reduce of 2: 360 GB/s")
    beside = answered["may batch or notebook pods run beside production"]
    assert beside.startswith("kept away unless they tolerate the GPU taint")
    assert "workload classes that may use it: batch-inference" in beside


COLUMNS = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(1, 20))), min_size=1, max_size=8)


@given(COLUMNS, st.lists(st.text("abc -", max_size=40), min_size=1, max_size=3), st.integers(30, 200))
def test_a_wider_terminal_shows_at_least_the_columns_of_a_narrower_one(
    columns: list[tuple[int, int | None]], texts: list[str], width: int
) -> None:
    table = FittedTable([Column(f"c{place}", importance, least_width=least) for place, (importance, least) in enumerate(columns)])
    for text in texts:
        table.add([text] * len(columns))
    kept = table.shown(width)
    assert set(kept) <= set(table.shown(width + 20))
    assert all(place in kept for place, (importance, _) in enumerate(columns) if importance == 0)
    dropped = [columns[place][0] for place in range(len(columns)) if place not in kept]
    assert max(dropped, default=0) <= min((columns[place][0] for place in kept if columns[place][0]), default=9), (
        "the least important go first"
    )


@pytest.mark.parametrize("platform", ["hgx-h100", "a100-pcie-bridge-pairs", "t4"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_matrix_of_eight_gpus_fits_the_terminal_whole(platform: str, width: int) -> None:
    text = printed(topology_tables.topology(machine_answer(platform, machine_of(platform), None, (0, 1))), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    last = f"GPU{len(machine_of(platform).gpus) - 1}"
    assert any("GPU0" in line and last in line for line in text.splitlines()), "all columns beside one another"


@pytest.mark.parametrize("width", WIDTHS)
def test_telemetry_of_devices_and_engines_fits_the_terminal(width: int) -> None:
    text = dcgm_text({"GPU-11111111-2222-3333-4444-555555555555": used(60_000), "GPU-b": {"DCGM_FI_DEV_XID_ERRORS": 79}})
    shown = printed(telemetry.table(read(text, TUNING)), width)
    assert max(map(len, shown.splitlines())) <= width
    assert "NO" in shown
    assert "used GiB" in shown


def test_table_has_borders_on_a_terminal_and_only_spaces_in_a_pipe() -> None:
    table = FittedTable([Column("node", 0), Column("GB/s", 0, is_number=True)], [("a", "360"), ("b", "6")], title="two nodes of one rack")
    texts = {}
    for is_terminal in (True, False):
        console = PlainConsole(file=io.StringIO(), force_terminal=is_terminal, width=80, no_color=True)
        console.print(table)
        assert isinstance(console.file, io.StringIO)
        texts[is_terminal] = console.file.getvalue()
    assert "┃" in texts[True]
    words = [line.split() for line in texts[False].splitlines()]
    assert words == [["two", "nodes", "of", "one", "rack"], ["node", "GB/s"], ["a", "360"], ["b", "6"]]
