"""`fabricwise explain` on files, standard input, objects of a cluster and a running extender; exit statuses, options, completion."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.cli.options.completed_values import complete_cluster
from extender.errors import EXIT_STATUSES
from extender.sources.simulated import simulated
from tests.checkout import ROOT
from tests.cli.commands import Commands, Ended
from tests.conftest import Served
from tests.kube.api_server import ApiServer, api_server
from tests.objects import container, node, pod, topology
from topology.gputopology.topology_record import Allocation, DeviceStatus

DEPLOYMENTS = "/apis/apps/v1/namespaces/team/deployments"
CLAIMS = "/api/v1/namespaces/team/persistentvolumeclaims"


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    held = DeviceStatus(free=(), allocated=tuple(Allocation(index, "uid-holder", "team", "holder") for index in range(8)))
    with api_server(tmp_path) as server:
        server.add(node("full"), topology("full", "hgx-h100", held), pod(8, name="holder", node="full"))
        server.add(node("cordoned") | {"spec": {"unschedulable": True}})
        server.add(node("tainted") | {"spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}})
        server.add(node("small", 2), pod(2, name="waiting"))
        yield server


def asked(api: ApiServer, fabricwise: Commands, *arguments: str) -> tuple[Ended, dict[str, Any]]:
    ended = fabricwise("explain", *arguments, "--kubeconfig", str(api.kubeconfig), "-o", "json")
    return ended, json.loads(ended.out) if ended.out else {}


def test_a_pod_of_the_cluster_is_refused_by_kube_scheduler_and_by_fabricwise_each_named(api: ApiServer, fabricwise: Commands) -> None:
    ended, answer = asked(api, fabricwise, "team/waiting")
    assert (ended.status, answer["chosen"], answer["pod"]) == (0, "small", "team/waiting")
    reasons = {row["node"]: [(one["by"], one["reason"]) for one in row["refusals"]] for row in answer["nodes"]}
    assert reasons["cordoned"] == [("kube-scheduler", "node(s) were unschedulable")]
    assert reasons["tainted"] == [("kube-scheduler", "node(s) had untolerated taint {nvidia.com/gpu: present}")]
    assert reasons["full"] == [("kube-scheduler", "Insufficient nvidia.com/gpu"), ("fabricwise", "too few free GPUs")]
    assert reasons["small"] == []
    assert "context t" in answer["cluster"]


def test_a_bound_pod_is_explained_as_if_its_gpus_were_free(api: ApiServer, fabricwise: Commands) -> None:
    ended, answer = asked(api, fabricwise, "team/holder")
    assert (ended.status, answer["chosen"], answer["bound_to"]) == (0, "full", "full")
    assert answer["nodes"][0]["predicted"][0]["gpus"] == list(range(8)), "the agent's word on its GPUs is set aside as well"


def test_the_pods_of_a_workload_of_the_cluster_are_read_from_its_template(api: ApiServer, fabricwise: Commands) -> None:
    spec = {"template": {"spec": {"containers": [container(2)]}}}
    api.singles[f"{DEPLOYMENTS}/llm"] = {"metadata": {"name": "llm", "namespace": "team"}, "spec": spec}
    ended, answer = asked(api, fabricwise, "deploy/llm", "-n", "team")
    assert (ended.status, answer["of"], answer["chosen"]) == (0, "deployment/llm", "small")
    ended, _ = asked(api, fabricwise, "deploy/other", "-n", "team")
    assert (ended.status, "has no deployment/other in namespace team" in ended.err) == (3, True)


def test_a_claim_that_does_not_exist_refuses_every_node_and_one_that_cannot_be_read_is_not_checked(
    api: ApiServer, fabricwise: Commands, tmp_path: Path
) -> None:
    manifest = pod(1, spec={"containers": [container(1)], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]})
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(manifest))
    ended, answer = asked(api, fabricwise, str(path))
    assert (ended.status, answer["chosen"]) == (1, None)
    assert answer["nodes"][0]["refusals"][-1]["reason"] == 'persistentvolumeclaim "data" not found'
    api.refused[f"{CLAIMS}/data"] = 403
    ended, answer = asked(api, fabricwise, str(path))
    assert (ended.status, answer["chosen"]) == (0, "small")
    assert any("PersistentVolumeClaims were not read" in words for words in answer["not_checked"])
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {}}
    path.write_text(yaml.safe_dump_all([claim, manifest]))
    ended, answer = asked(api, fabricwise, str(path))
    assert any("data is not bound yet" in words for words in answer["not_checked"]), "a claim of the same file exists"


def test_several_templates_are_answered_one_by_one_and_one_without_a_node_is_a_problem(fabricwise: Commands, tmp_path: Path) -> None:
    groups = {"leaderTemplate": {"spec": {"containers": [container(2)]}}, "workerTemplate": {"spec": {"containers": [container(16)]}}}
    manifest = {"kind": "LeaderWorkerSet", "metadata": {"name": "x"}, "spec": {"leaderWorkerTemplate": groups}}
    path = tmp_path / "lws.yaml"
    path.write_text(yaml.safe_dump(manifest))
    ended = fabricwise("explain", str(path), "--cluster", "simulated", "-o", "yaml")
    answer = yaml.safe_load(ended.out)
    assert [(one["of"], one["chosen"]) for one in answer["explanations"]] == [
        ("leaderworkerset/x leader", "hgx-b200-0"),
        ("leaderworkerset/x worker", None),
    ]
    assert (ended.status, answer["cluster"]) == (1, "the simulated cluster")


def test_the_manifest_or_the_dump_may_come_from_standard_input(
    fabricwise: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(pod(2))))
    assert json.loads(fabricwise("explain", "-", "--cluster", "simulated", "-o", "json").out)["chosen"] == "hgx-b200-0"
    path, dump = tmp_path / "pod.yaml", json.dumps({"kind": "List", "items": list(simulated("nvidia.com/gpu").manifests())})
    path.write_text(yaml.safe_dump(pod(2)))
    monkeypatch.setattr("sys.stdin", io.StringIO(dump))
    answer = json.loads(fabricwise("explain", str(path), "--cluster", "-", "-o", "json").out)
    assert (answer["chosen"], answer["cluster"]) == ("hgx-b200-0", "the dump on standard input")
    assert fabricwise("explain", "-", "--cluster", "-").status == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("\tGPU0\tGPU1\nGPU0\tX\tPIX\nGPU1\tPIX\tX\n"))
    assert len(json.loads(fabricwise("topo", "show", "-", "-o", "json").out)["gpus"]) == 2


def test_answer_of_a_running_extender_names_its_cluster_and_what_was_not_checked(
    served: Served, fabricwise: Commands, tmp_path: Path
) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(pod(2, spec={"nodeSelector": {"kubernetes.io/hostname": "t4-0"}, "containers": [container(2)]})))
    ended = fabricwise("explain", str(path), "--server", str(served.client.base_url), "-o", "json")
    answer = json.loads(ended.out)
    assert answer["chosen"] == "t4-0"
    assert answer["nodes"][-1]["rejection"]["reason"] == "node(s) didn't match Pod's node affinity/selector"
    assert any(words.startswith("NodeResourcesFit: what the pods on a node request is not known") for words in answer["not_checked"])
    assert str(served.client.base_url).rstrip("/") in answer["cluster"]
    ended = fabricwise("explain", "team/llm", "--server", str(served.client.base_url))
    assert (ended.status, "--server takes a manifest" in ended.err) == (3, True)


def test_scheduler_verbs_run_no_filters_of_kube_scheduler(served: Served) -> None:
    manifest = pod(2, spec={"nodeSelector": {"no": "node"}, "containers": [container(2)]})
    answer = served.client.post("/scheduler/filter", json={"Pod": manifest, "NodeNames": ["t4-0"]}).json()
    assert answer["NodeNames"] == ["t4-0"], "kube-scheduler has applied them already"


def test_explain_without_cluster_option_reads_the_cluster_of_the_kubeconfig(
    api: ApiServer, fabricwise: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(api.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    answer = json.loads(fabricwise("explain", "team/waiting", "-o", "json").out)
    assert answer["cluster"].startswith("the cluster at http://127.0.0.1:")
    assert fabricwise("serve", "--kubeconfig", "nowhere").err.startswith("error: no Kubernetes configuration"), "serve does not simulate"


TABLE = {"explain": ("explain", "{pod}"), "node": ("node", "t4-0"), "doctor": ("doctor",)}


@pytest.mark.parametrize("command", TABLE)
def test_a_table_names_the_cluster_that_it_is_about(fabricwise: Commands, tmp_path: Path, command: str) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(pod(2)))
    words = [word.format(pod=path) for word in TABLE[command]]
    assert "cluster: the simulated cluster" in fabricwise(*words, "--cluster", "simulated").out


# command line -> exit status
STATUSES: dict[str, int] = {
    "explain {fits} --cluster simulated": 0,
    "explain {large} --cluster simulated": 1,
    "explain {malformed} --cluster simulated": 1,
    "explain {fits} --cluster nowhere": 3,
    "explain nowhere.yaml --cluster simulated": 3,
    "explain nothing --cluster simulated": 3,
    "explain {fits} --cluster simulated --server http://x": 2,
    "explain": 2,
    "node t4-0 --cluster simulated": 0,
    "node nowhere --cluster simulated": 3,
    "doctor --cluster simulated": 0,
    "doctor --cluster {broken}": 1,
    "doctor --server http://127.0.0.1:9": 3,
    "topo show nothing": 3,
    "topo show t4 --gpus x": 2,
    "--version": 0,
    "-h": 0,
    "topo show -h": 0,
}


@pytest.mark.parametrize("line", STATUSES)
def test_exit_status_distinguishes_a_problem_from_a_missing_answer(fabricwise: Commands, tmp_path: Path, line: str) -> None:
    manifests = {"fits": pod(2), "large": pod(16), "malformed": pod(1, annotations={"fabricwise.dev/min-busbw": "x"})}
    manifests["broken"] = node("n") | {
        "status": {"allocatable": {"nvidia.com/gpu": "8"}, "conditions": [{"type": "Ready", "status": "False"}]}
    }
    for name, manifest in manifests.items():
        (tmp_path / name).write_text(yaml.safe_dump(manifest))
    words = [word.format(**{name: tmp_path / name for name in manifests}) for word in line.split()]
    assert fabricwise(*words).status == STATUSES[line]


def test_help_documents_exit_statuses_and_lists_commands_in_order(fabricwise: Commands) -> None:
    text = fabricwise("--help").out
    assert EXIT_STATUSES in " ".join(text.split())
    commands = ("explain", "node", "doctor", "topo", "fit", "classes", "telemetry", "dump", "demo", "serve", "agent")
    places = [text.index(f"\n  {command} ") for command in commands]
    assert places == sorted(places)


def test_completion_offers_clusters_platforms_and_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump = tmp_path / "dump.yaml"
    dump.write_text(yaml.safe_dump({"kind": "List", "items": [node("gpu-1"), node("gpu-2")]}))
    monkeypatch.chdir(tmp_path)
    assert complete_cluster("") == ["kube", "simulated", "dump.yaml"]
    assert complete_cluster("k") == ["kube"]
    assert complete_cluster(f"{tmp_path}/d") == [str(dump)]
    assert complete_cluster("/nowhere/") == []

    def completed(words: str) -> list[str]:
        environment = {"_FABRICWISE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "PATH": "/bin"}
        script = "import sys; sys.argv[0] = 'fabricwise'; from extender.cli.app import main; main()"
        done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.stdout.split()

    assert completed(f"fabricwise node --cluster {dump} gpu") == ["gpu-1", "gpu-2"]
    assert "hgx-h100" in completed("fabricwise topo show hgx")
    assert "hgx-h100-0" in completed("fabricwise node --cluster simulated h")
    assert completed("fabricwise node --kubeconfig /nowhere x") == [], "what cannot be read completes nothing"
