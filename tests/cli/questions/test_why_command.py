"""`fabricwise why` on dumps, a cluster and a running extender: text, formats, exit statuses, partial permissions, errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.main import get_command

from extender.cli.app import app
from extender.cli.commands.pods.why import is_better_informed
from extender.cli.options.completed_values import complete_pod
from extender.cli.pod_reading import object_name
from extender.decision.why.helping.eviction_remedies import NOT_CHECKED
from extender.errors import ClusterSourceError
from extender.sources.collected_objects import ObjectName
from tests.cli.commands import Commands, Ended
from tests.conftest import Served
from tests.kube.api_server import BUDGETS, PODS, ApiServer, api_server
from tests.slots.moved_clusters import budget, owned
from tests.waiting import wait
from tests.why.why_questions import Manifest, machine_node, waiting_pod

SERVICE = "/api/v1/namespaces/fabricwise-system/services/fabricwise"
EVENTS = "/api/v1/namespaces/team/events"
DEPLOYMENT = "/apis/apps/v1/namespaces/team/deployments/llm"
FAILED = {
    "reason": "FailedScheduling",
    "message": "0/1 nodes are available: 1 GPU memory class too small.",
    "lastTimestamp": "2026-01-01T00:00:00Z",
    "source": {"component": "gpu-scheduler"},
}


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(tmp_path) as server:
        server.add(*machine_node("a", "hgx-h100", {"holder": (0, 1)}), waiting_pod(2, min_gpu_memory="140Gi"))
        server.lists[EVENTS] = [FAILED]
        server.singles["/api/v1/namespaces/team/pods/waits"] = waiting_pod(2, min_gpu_memory="140Gi")
        yield server


def why(api: ApiServer, fabricwise: Commands, *arguments: str) -> tuple[Ended, dict[str, Any]]:
    ended = fabricwise("why", *arguments, "--kubeconfig", str(api.kubeconfig), "--extender", "none", "-o", "json")
    return ended, json.loads(ended.out) if ended.out else {}


def dump(folder: Path, *manifests: Manifest) -> str:
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump_all(manifests))
    return str(path)


def test_pod_of_the_cluster_is_answered_with_its_events(api: ApiServer, fabricwise: Commands) -> None:
    ended, answer = why(api, fabricwise, "waits", "-n", "team")
    assert ended.status == 1
    assert answer["reason"] == "GPU memory class too small"
    assert answer["reported"]["scheduler"] == "gpu-scheduler"
    assert ("GET", EVENTS, {"fieldSelector": "involvedObject.uid=uid-waits", "limit": "500"}) in api.asked
    assert api.methods == {"GET"}


def test_text_has_the_sentence_the_remedies_and_the_groups_in_this_order(api: ApiServer, fabricwise: Commands) -> None:
    out = fabricwise("why", "team/waits", "--kubeconfig", str(api.kubeconfig), "--extender", "none").out
    parts = ["team/waits: pending", "The pod demands 140 GiB per GPU", "1. lower min-gpu-memory", "nodes by reason:", "gpu-scheduler said"]
    places = [out.index(part) for part in parts]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("output", "words"), [("wide", "nodes by reason"), ("yaml", "sentence: The pod demands"), ("name", "")], ids=["wide", "yaml", "name"]
)
def test_every_output_format_is_printed(api: ApiServer, fabricwise: Commands, output: str, words: str) -> None:
    ended = fabricwise("why", "team/waits", "--kubeconfig", str(api.kubeconfig), "--extender", "none", "-o", output)
    assert (ended.status, words in ended.out) == (1, True)


def test_bound_pod_is_named_by_its_node(api: ApiServer, fabricwise: Commands) -> None:
    ended = fabricwise("why", "pod/holder", "-n", "team", "--kubeconfig", str(api.kubeconfig), "--extender", "none", "-o", "name")
    assert (ended.status, ended.out) == (0, "node/a\n")


def test_pods_of_a_deployment_are_found_by_its_selector_and_alike_pods_are_counted(api: ApiServer, fabricwise: Commands) -> None:
    api.singles[DEPLOYMENT] = {"metadata": {"name": "llm"}, "spec": {"selector": {"matchLabels": {"app": "llm"}}}}
    for number in range(3):
        pod = waiting_pod(2, min_gpu_memory="140Gi")
        meta = {
            "name": f"llm-{number}",
            "uid": f"uid-{number}",
            "labels": {"app": "llm"},
            "creationTimestamp": f"2026-01-0{number + 1}T00:00:00Z",
        }
        api.add(pod | {"metadata": pod["metadata"] | meta})
    _, answer = why(api, fabricwise, "deployment/llm", "-n", "team")
    assert (answer["pod"], answer["alike"]) == ("team/llm-2", 2), "the newest pending pod"


def test_pods_of_a_deployment_that_may_not_be_read_are_found_by_their_owners(api: ApiServer, fabricwise: Commands) -> None:
    api.refused[DEPLOYMENT] = 403
    pod = waiting_pod(2)
    api.add(
        pod | {"metadata": {"name": "x", "namespace": "team", "uid": "u", "ownerReferences": [{"kind": "ReplicaSet", "name": "llm-5d9c"}]}}
    )
    _, answer = why(api, fabricwise, "deploy/llm", "-n", "team")
    assert answer["pod"] == "team/x"
    assert any("Its pods are found by their owners' names" in text for text in answer["unread"])


def test_job_pods_are_found_by_the_label_of_their_controller(api: ApiServer, fabricwise: Commands) -> None:
    pod = waiting_pod(2)
    api.add(pod | {"metadata": {"name": "j-x", "namespace": "team", "uid": "u", "labels": {"batch.kubernetes.io/job-name": "j"}}})
    assert why(api, fabricwise, "job/j", "-n", "team")[1]["pod"] == "team/j-x"


def test_events_that_may_not_be_listed_are_named_with_verb_resource_and_consequence(api: ApiServer, fabricwise: Commands) -> None:
    api.refused[EVENTS] = 403
    ended, answer = why(api, fabricwise, "team/waits")
    assert "kubectl auth can-i list events -n team. When kube-scheduler tried last is not known" in ended.err
    assert answer["reason"] == "GPU memory class too small"


def test_nodes_that_may_not_be_listed_leave_the_report_of_kube_scheduler(api: ApiServer, fabricwise: Commands) -> None:
    api.refused |= {"/api/v1/nodes": 403, "/api/v1/pods": 403}
    ended, answer = why(api, fabricwise, "team/waits")
    assert ended.status == 1
    assert answer["sentence"].startswith("kube-scheduler refuses 1 of 1 nodes: GPU memory class too small")
    assert "can-i list nodes" in ended.err


def test_pod_that_may_not_be_read_is_one_line_with_the_missing_verb(api: ApiServer, fabricwise: Commands) -> None:
    api.refused |= {"/api/v1/pods": 403, "/api/v1/namespaces/team/pods/waits": 403}
    ended, _ = why(api, fabricwise, "team/waits")
    assert ended.status == 3
    assert "kubectl auth can-i get pods -n team; or give the manifest with -f" in ended.err


def test_pod_that_does_not_exist_is_one_line(api: ApiServer, fabricwise: Commands) -> None:
    ended, _ = why(api, fabricwise, "team/nothing")
    assert ended.status == 3
    assert "has no pod/nothing in namespace team" in ended.err


def test_manifest_that_was_not_created_yet_is_answered(api: ApiServer, fabricwise: Commands, tmp_path: Path) -> None:
    manifest = {"kind": "Pod", "metadata": {"name": "new"}, "spec": waiting_pod(2)["spec"]}
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(manifest))
    ended, answer = why(api, fabricwise, "-f", str(tmp_path / "pod.yaml"))
    assert (ended.status, answer["state"], answer["reason"]) == (0, "new", "it fits")
    assert answer["fits"]["node"] == "a"


def test_dump_answers_without_an_api_server(fabricwise: Commands, tmp_path: Path) -> None:
    path = dump(tmp_path, *machine_node("a", "hgx-h100"), waiting_pod(4, min_busbw="500"))
    ended = fabricwise("why", "team/waits", "--cluster", path)
    assert ended.status == 1
    assert "lower min-busbw from 500 to 360" in ended.out


def test_names_that_a_terminal_would_act_on_are_printed_as_escapes(fabricwise: Commands, tmp_path: Path) -> None:
    pod = waiting_pod(2, min_link="\x1b[31mred\u202e")
    path = dump(tmp_path, *machine_node("a", "hgx-h100"), pod)
    for output in ("table", "wide"):
        out = fabricwise("why", "team/waits", "--cluster", path, "-o", output).out
        assert "\x1b" not in out
        assert "\u202e" not in out


def test_running_extender_answers_by_the_manifest_and_events_that_the_command_reads(
    api: ApiServer, fabricwise: Commands, served: Served
) -> None:
    server = str(served.client.base_url)
    ended = fabricwise("why", "team/waits", "--server", server, "--kubeconfig", str(api.kubeconfig), "-o", "json")
    answer = json.loads(ended.out)
    assert answer["by_extender"]
    assert answer["reason"] == "it fits now", "the simulated cluster has a B200"
    assert server.rstrip("/") in answer["cluster"]


def test_running_extender_is_asked_through_the_api_server(api: ApiServer, fabricwise: Commands, served: Served) -> None:
    api.services[f"{SERVICE}:http/proxy"] = str(served.client.base_url).rstrip("/")
    api.singles[SERVICE] = {"spec": {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 8888, "targetPort": "http"}]}}
    ended = fabricwise("why", "team/waits", "--kubeconfig", str(api.kubeconfig), "-o", "json")
    asked = [path for method, path, _ in api.asked if method == "POST"]
    assert asked, ended.err
    assert asked[0].endswith("/v1/why")


def test_watch_prints_again_when_the_answer_changes_and_ends_when_the_pod_is_scheduled(api: ApiServer, fabricwise: Commands) -> None:
    bound = waiting_pod(2, spec={"nodeName": "a"})

    def schedule() -> None:
        wait("the first look", lambda: any(path == EVENTS for _, path, _ in api.asked))
        api.lists[PODS] = [each for each in api.lists[PODS] if each["metadata"]["name"] != "waits"] + [bound]

    scheduler = threading.Thread(target=schedule)
    scheduler.start()
    options = ("--kubeconfig", str(api.kubeconfig), "--extender", "none", "--watch", "--interval", "1")
    ended = fabricwise("why", "team/waits", *options)
    scheduler.join()
    assert ended.status == 0
    assert ended.out.index("team/waits: pending") < ended.out.index("team/waits: running")


def test_pods_of_the_namespace_are_completed(api: ApiServer) -> None:
    api.lists["/api/v1/namespaces/team/pods"] = [{"metadata": {"name": name}} for name in ("llm-1", "llm-0", "other")]
    ctx = typer.Context(get_command(app))
    ctx.params = {"namespace": "team", "kubeconfig": str(api.kubeconfig)}
    assert complete_pod(ctx, "llm") == ["llm-0", "llm-1"]
    ctx.params = {"namespace": "../nodes", "kubeconfig": str(api.kubeconfig)}
    assert complete_pod(ctx, "") == []


def test_extender_that_refuses_the_question_leaves_the_own_answer(api: ApiServer, fabricwise: Commands, served: Served) -> None:
    api.services[f"{SERVICE}:http/proxy"] = str(served.client.base_url).rstrip("/")
    api.singles[SERVICE] = {"spec": {"selector": {"app": "x"}, "ports": [{"name": "http", "port": 8888, "targetPort": "http"}]}}
    api.lists[EVENTS] = [FAILED | {"message": "x" * (4 << 20)}]
    ended = fabricwise("why", "team/waits", "--kubeconfig", str(api.kubeconfig), "-o", "json")
    assert "evaluated from the API server alone" in ended.err
    assert json.loads(ended.out)["reason"] == "GPU memory class too small"


OWN: dict[str, Any] = {"state": "pending", "reason": "Insufficient cpu", "fits": None, "groups": [1], "remedies": []}
DECISIONS = {
    "a refusal by kube-scheduler's filters that the extender cannot know": (OWN, {"reason": "it fits now"}, False),
    "telemetry that the command cannot know": (
        OWN | {"reason": "it fits now", "fits": {}, "groups": []},
        {"reason": "GPU memory is in use by processes unknown to Kubernetes"},
        True,
    ),
    "an assumed pod": (OWN, {"reason": "x", "remedies": [{"kind": "wait"}]}, True),
    "telemetry that the command misses": (
        OWN | {"reason": "GPU telemetry is unknown and the pod's class requires it"},
        {"reason": "it fits now"},
        True,
    ),
    "the same reason": (OWN, {"reason": "Insufficient cpu"}, False),
    "a bound pod": (OWN | {"state": "running"}, {"state": "running"}, True),
    "nodes that the command may not list": (OWN | {"groups": []}, {"reason": "too few free GPUs"}, True),
}


@pytest.mark.parametrize(("own", "theirs", "is_better"), DECISIONS.values(), ids=DECISIONS)
def test_of_both_answers_the_better_informed_is_printed(own: dict[str, Any], theirs: dict[str, Any], is_better: bool) -> None:
    assert is_better_informed(OWN | theirs, own) is is_better


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("llm", ObjectName("Pod", "default", "llm")),
        ("team/llm", ObjectName("Pod", "team", "llm")),
        ("pod/llm", ObjectName("Pod", "default", "llm")),
        ("deploy/llm", ObjectName("Deployment", "default", "llm")),
        ("lws/llm", ObjectName("LeaderWorkerSet", "default", "llm")),
    ],
)
def test_names_are_read_as_kubectl_does(text: str, name: ObjectName) -> None:
    assert object_name(text, "default") == name


@pytest.mark.parametrize("text", ["/", "a/", "/b", "a/b/c", ""])
def test_text_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ClusterSourceError, match="is neither POD nor NAMESPACE/POD nor KIND/NAME"):
        object_name(text, "default")


@pytest.mark.parametrize("arguments", [[], ["a", "-f", "b.yaml"], ["a", "--cluster", "simulated", "--server", "http://x"]])
def test_wrong_usage_ends_with_status_two(fabricwise: Commands, arguments: list[str]) -> None:
    assert fabricwise("why", *arguments).status == 2


CROWDED = [*owned(machine_node("b", "hgx-h100", {"x": range(4)})), waiting_pod(8)]


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[ApiServer]:
    """A cluster whose only node would take the pod after the eviction of x."""
    with api_server(tmp_path) as server:
        server.add(*CROWDED)
        server.lists[BUDGETS] = [budget("none", 0, ["x"])]
        yield server


def test_command_leaves_out_an_eviction_that_a_budget_forbids(crowded: ApiServer, fabricwise: Commands) -> None:
    ended, answer = why(crowded, fabricwise, "team/waits")
    assert (ended.status, [each for each in answer["remedies"] if each["evict"]]) == (1, [])
    assert "evicting team/x would make it fit, but the API server refuses that now: budget team/none allows no disruption now" in [
        each["text"] for each in answer["remedies"]
    ]
    assert NOT_CHECKED not in answer["not_checked"]


def test_command_that_may_not_list_budgets_names_the_verb_and_says_what_is_not_checked(crowded: ApiServer, fabricwise: Commands) -> None:
    crowded.refused[BUDGETS] = 403
    ended, answer = why(crowded, fabricwise, "team/waits")
    assert [each["evict"] for each in answer["remedies"] if each["kind"] == "evict"] == [["team/x"]]
    assert NOT_CHECKED in answer["not_checked"]
    assert any("kubectl auth can-i list poddisruptionbudgets.policy" in text for text in answer["unread"])
    assert "can-i list poddisruptionbudgets.policy" in ended.err


def test_command_reads_budgets_only_for_a_remedy_that_evicts(api: ApiServer, fabricwise: Commands) -> None:
    why(api, fabricwise, "team/waits")
    assert BUDGETS not in [path for _, path, _ in api.asked]


@pytest.mark.parametrize(("allowed", "evicts"), [(0, False), (1, True)])
def test_budgets_of_a_file_are_respected(fabricwise: Commands, tmp_path: Path, allowed: int, evicts: bool) -> None:
    file = dump(tmp_path, *CROWDED, budget("b", allowed, ["x"]))
    ended = fabricwise("why", "team/waits", "--cluster", file, "-o", "json")
    assert any(each["evict"] for each in json.loads(ended.out)["remedies"]) is evicts


def test_file_without_budgets_leaves_them_unchecked(fabricwise: Commands, tmp_path: Path) -> None:
    ended = fabricwise("why", "team/waits", "--cluster", dump(tmp_path, *CROWDED), "-o", "json")
    assert NOT_CHECKED in json.loads(ended.out)["not_checked"]
    assert "has no PodDisruptionBudget" in ended.err
