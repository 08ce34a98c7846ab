"""`fabricwise what-if`: its options, its errors, its exit statuses, and that the API server is only read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from extender.decision.whatif.what_if_answer import WhatIfAnswer
from tests.cli.commands import Commands
from tests.conftest import Served
from tests.kube.api_server import ApiServer, api_server
from tests.objects import container, pod
from tests.whatif.questions import gpu_node, waiting


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


def answered(fabricwise: Commands, *arguments: str) -> tuple[int, WhatIfAnswer]:
    """The exit status, and the answer of `-o json`."""
    ended = fabricwise("what-if", *arguments, "-o", "json")
    return ended.status, msgspec.json.decode(ended.out, type=WhatIfAnswer)


def test_pods_of_a_size_are_added_to_the_simulated_cluster(fabricwise: Commands) -> None:
    status, answer = answered(fabricwise, "--cluster", "simulated", "--add", "4x2", "--add", "1x1")
    assert status == 0
    assert [(each.pod, each.added, each.gpus_requested) for each in answer.pods] == [
        ("default/4-gpu-0", True, 4),
        ("default/4-gpu-1", True, 4),
        ("default/1-gpu", True, 1),
    ]
    assert answer.summary == "Of 3 pods, 3 placed; 83 of 92 GPUs stay free."
    assert answer.cluster == "the simulated cluster"


def test_exit_status_is_1_where_a_pod_finds_no_node(fabricwise: Commands) -> None:
    status, answer = answered(fabricwise, "--cluster", "simulated", "--add", "16x1")
    assert (status, answer.pods[0].after.outcome) == (1, "no node")


def test_table_begins_with_the_summary_and_has_pods_reasons_and_what_remains(fabricwise: Commands) -> None:
    ended = fabricwise("what-if", "--cluster", "simulated", "--add", "8x9", "--nodes", "1xl40s", "--cordon", "hgx-h100-0")
    lines = ended.out.splitlines()
    assert ended.status == 1
    assert lines[0].startswith("Of 9 pods, ")
    assert any("default/8-gpu-0 (added)" in line for line in lines)
    assert any("nodes are available: " in line for line in lines)
    assert any(line.startswith("what remains") for line in lines)
    assert any("NVIDIA-L40S" in line for line in lines)
    assert any(line.strip().startswith("not simulated: preemption") for line in lines)


DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "llm"},
    "spec": {"replicas": 3, "template": {"spec": {"containers": [container("2")]}}},
}
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "llm"}, "spec": {}}
JOB_SET = {
    "kind": "JobSet",
    "metadata": {"name": "train"},
    "spec": {"replicatedJobs": [{"name": "job", "template": {"spec": {"template": {"spec": {"containers": [container("2")]}}}}}]},
}
FILES: dict[str, tuple[list[dict[str, Any]], list[str], str | None]] = {
    "a pod": ([pod(2, name="p")], ["team/p"], None),
    "a deployment of three and its service": ([DEPLOYMENT, SERVICE], ["ns/llm-0", "ns/llm-1", "ns/llm-2"], None),
    "a list": ([{"kind": "List", "items": [pod(1, name="a"), pod(1, name="b")]}], ["team/a", "team/b"], None),
    "a deployment of none": ([DEPLOYMENT | {"spec": DEPLOYMENT["spec"] | {"replicas": 0}}], [], None),  # type: ignore[operator]
    "a kind whose number of pods is not read": ([JOB_SET], ["ns/train-job"], "the number of pods of JobSet: one pod per template is added"),
}


@pytest.mark.parametrize(("documents", "names", "not_checked"), FILES.values(), ids=FILES)
def test_pods_of_a_manifest_are_added(
    documents: list[dict[str, Any]], names: list[str], not_checked: str | None, fabricwise: Commands, tmp_path: Path
) -> None:
    path = tmp_path / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    _, answer = answered(fabricwise, "--cluster", "simulated", "--add", str(path), "-n", "ns")
    assert [each.pod for each in answer.pods] == names
    assert not_checked is None or not_checked in answer.not_checked


def test_manifest_is_read_from_standard_input(fabricwise: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(pod(2, name="p"))))
    _, answer = answered(fabricwise, "--cluster", "simulated", "--add", "-")
    assert [each.pod for each in answer.pods] == ["team/p"]


ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "a sequence of a million pods": (("--add", "1x1000000"), "--add 1x1000000: 1000000 pods are too many or none; give 1 to 10000"),
    "a number without end": (("--add", f"1x{'9' * 20}"), "pods are too many or none; give 1 to 10000"),
    "a size that no node has": (("--add", "17x1"), "--add 17x1: a pod of 17 GPUs fits no node; give a SIZE of 1 to 16"),
    "no GPU": (("--add", "0x3"), "a pod of 0 GPUs fits no node"),
    "a file that does not exist": (
        ("--add", "gone.yaml"),
        "--add 'gone.yaml' is neither a file nor SIZExCOUNT: give a manifest, or such as 4x10",
    ),
    "a file without pods": (("--add", "pyproject.toml"), "pyproject.toml is neither JSON nor YAML"),
    "a pod that does not exist": (("--remove", "a/b"), "no pod 'b' in namespace 'a'"),
    "a pod without a name": (("--remove", "a/"), "--remove a/: Expected `str` of length >= 1"),
    "a node that does not exist": (("--cordon", "hgx-h100"), "no node 'hgx-h100'; did you mean hgx-h100-0"),
    "a GPU without a node": (("--lose", "3"), "--lose '3': give NODE:GPU"),
    "a GPU that is no number": (("--lose", "hgx-h100-0:x"), "give NODE:GPU"),
    "a GPU that does not exist": (("--lose", "hgx-h100-0:8"), "node hgx-h100-0 has no GPU 8"),
    "nodes without a number": (("--nodes", "hgx-h100"), "--nodes 'hgx-h100': give COUNTxPLATFORM"),
    "a platform that does not exist": (("--nodes", "3xhgx-h10"), "no platform 'hgx-h10'; did you mean hgx-h100"),
    "a million nodes": (("--nodes", "1000000xl4"), "--nodes 1000000xl4: Expected `int` <= 5000"),
    "a million nodes in parts": (("--nodes", "4000xl4", "--nodes", "4000xl4"), "more than 5000 nodes to add"),
    "a setting without a value": (("--set", "scoring.weights.link"), "--set 'scoring.weights.link': give KEY=VALUE"),
    "a setting that does not exist": (
        ("--set", "scoring.weights.lnk=1"),
        "no setting 'scoring.weights.lnk': correct it; did you mean scoring.weights.link",
    ),
    "a setting of another group": (("--set", "server.log_level=info"), "setting 'server.log_level' has no effect on where a pod goes"),
    "a setting out of range": (("--set", "scoring.weights.link=-1"), "scoring.weights.link: Expected `float` >= 0.0"),
    "a setting of another type": (("--set", "filtering.refuse_hazards=maybe"), "filtering.refuse_hazards: Expected `bool`"),
    "a group instead of a setting": (("--set", "scoring.weights=1"), "scoring.weights: Expected `object`"),
    "all weights zero": (
        tuple(part for name in ("link", "fragmentation", "memory", "pressure") for part in ("--set", f"scoring.weights.{name}=0")),
        "scoring.weights",
    ),
    "a hundred and one options": (("--add", "1x1") * 101, "--add is given 101 times, at most 100 are allowed"),
}


@pytest.mark.parametrize(("arguments", "error"), ERRORS.values(), ids=ERRORS)
def test_wrong_option_is_one_line_that_names_it(arguments: tuple[str, ...], error: str, fabricwise: Commands) -> None:
    ended = fabricwise("what-if", "--cluster", "simulated", *arguments)
    assert ended.status in (2, 3)
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    assert error in ended.err


@pytest.mark.parametrize(("replicas", "text"), [(-1, "'-1'"), ("many", "'many'"), (10**9, "'1000000000'"), (True, "'True'")])
def test_number_of_replicas_that_is_none_is_named(replicas: object, text: str, fabricwise: Commands, tmp_path: Path) -> None:
    path = tmp_path / "deployment.json"
    path.write_text(json.dumps(DEPLOYMENT | {"spec": {"replicas": replicas, "template": {"spec": {"containers": []}}}}))
    ended = fabricwise("what-if", "--cluster", "simulated", "--add", str(path))
    assert (ended.status, ended.err.splitlines()) == (
        3,
        [f"error: manifest to add: Deployment.spec.replicas is {text}: give a number of 0 to 10000"],
    )


def test_settings_of_an_option_decide_instead_of_those_of_the_file(fabricwise: Commands, tmp_path: Path) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("scoring: {weights: {link: 1, fragmentation: 0, memory: 0, pressure: 0}}\n")
    dump = tmp_path / "cluster.json"
    need = {"fabricwise.dev/min-gpu-memory": "40Gi"}
    items = [*gpu_node("h", "hgx-h100"), *gpu_node("l", "l40s"), waiting("w", 2, annotations=need)]
    dump.write_text(json.dumps({"kind": "List", "items": items}))
    options = ("--set", "scoring.weights.link=0", "--set", "scoring.weights.memory=1")
    _, answer = answered(fabricwise, "--cluster", str(dump), "--config", str(config), *options)
    (only,) = answer.pods
    assert only.before is not None
    assert (only.before.node, only.after.node) == ("h", "l")


def test_extender_at_a_url_answers_instead(served: Served, fabricwise: Commands) -> None:
    status, answer = answered(fabricwise, "--server", str(served.client.base_url), "--add", "4x1", "--lose", "dgx-a100-0:1")
    assert (status, [each.pod for each in answer.pods]) == (0, ["default/4-gpu"])
    assert "by the extender at http://127.0.0.1" in (answer.cluster or "")
    refused = fabricwise("what-if", "--server", str(served.client.base_url), "--cordon", "nope")
    assert (refused.status, "no node 'nope'" in refused.err) == (3, True)


def test_names_are_those_of_the_pods_that_find_a_node(fabricwise: Commands) -> None:
    ended = fabricwise("what-if", "--cluster", "simulated", "--add", "4x2", "--add", "16x1", "-o", "name")
    assert (ended.status, ended.out.splitlines()) == (1, ["pod/default/4-gpu-0", "pod/default/4-gpu-1"])


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(tmp_path) as server:
        server.add(*gpu_node("h", "hgx-h100", {"old": (0, 1, 2, 3)}), *gpu_node("c", "hgx-h100", unschedulable=True))
        server.add(waiting("w", 8), waiting("picky", 1, spec={"nodeSelector": {"zone": "b"}}))
        yield server


def test_pending_pods_of_an_api_server_are_placed_by_their_whole_manifests(api: ApiServer, fabricwise: Commands) -> None:
    status, answer = answered(fabricwise, "--remove", "team/old", "--kubeconfig", str(api.kubeconfig))
    found = {each.pod: (each.before.node if each.before else None, each.after.node) for each in answer.pods}
    assert status == 1
    assert found == {"team/picky": (None, None), "team/w": (None, "h")}
    refusals = {each.pod: each.after.refusals for each in answer.pods}
    assert {(each.reason, each.nodes) for each in refusals["team/picky"]} == {
        ("node(s) didn't match Pod's node affinity/selector", 1),
        ("node(s) were unschedulable", 1),
    }
    assert api.methods == {"GET"}, "nothing is written"


def test_pod_without_a_namespace_is_one_of_the_option(api: ApiServer, fabricwise: Commands) -> None:
    status, _ = answered(fabricwise, "--remove", "old", "-n", "team", "--kubeconfig", str(api.kubeconfig))
    assert status == 1
    ended = fabricwise("what-if", "--remove", "old", "--kubeconfig", str(api.kubeconfig))
    assert "did you mean team/old?" in ended.err


def test_missing_right_to_list_pods_is_a_warning_that_names_it(api: ApiServer, fabricwise: Commands) -> None:
    api.refused["/api/v1/pods"] = 403
    ended = fabricwise("what-if", "--add", "4x1", "--kubeconfig", str(api.kubeconfig), "-o", "json")
    answer = msgspec.json.decode(ended.out, type=WhatIfAnswer)
    assert "kubectl auth can-i list pods" in ended.err
    assert any("kubectl auth can-i list pods" in text for text in answer.unread)
    assert any(text.startswith("NodeResourcesFit: what the pods on a node request is not known") for text in answer.not_checked)
