"""`fabricwise dump`: commands give the same answers from a dump as from the cluster, and it has only the fields that they use."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.cli.reading import CONSEQUENCES
from extender.kube import listing
from extender.kube.objects.resources import RESOURCES
from extender.sources.dump_fields import dump_fields
from extender.workload.serving.inference import CommandLine, infer, needed_words
from extender.workload.serving.serving_engines import ENGINES
from tests.cli.commands import Commands
from tests.kube.api_server import PODS, ApiServer, api_server
from tests.objects import GPU, node, pod, topology

VLLM = ["vllm", "serve", "org/model", "--tensor-parallel-size", "2", "--api-key", "sk-hunter2", "--hf-token=hf_hunter2"]
SCRIPT = ["sh", "-c", "export KEY=hunter2; vllm serve org/model --tensor-parallel-size $(TP) --api-key $KEY"]


def serving_pod(name: str, args: list[str], **spec: Any) -> dict[str, Any]:
    """A pod with data that a dump must not contain."""
    container = {
        "name": "server",
        "image": "vllm/vllm-openai:v0.10.0",
        "args": args,
        "env": [
            {"name": "TP", "value": "2"},
            {"name": "PASSWORD", "value": "hunter2"},
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hunter2", "key": "token"}}},
        ],
        "envFrom": [{"secretRef": {"name": "hunter2"}}],
        "resources": {"limits": {GPU: "2"}},
        "lifecycle": {"preStop": {"exec": {"command": ["curl", "hunter2"]}}},
    }
    manifest = pod(2, name=name, annotations={"fabricwise.dev/min-link": "NVLink", "kubectl.kubernetes.io/last-applied": "hunter2"})
    volumes = [{"name": "keys", "secret": {"secretName": "hunter2"}}, {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    manifest["spec"] = {"containers": [container], "volumes": volumes, "tolerations": [{"operator": "Exists"}], **spec}
    return manifest


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(tmp_path) as server:
        server.add(node("gpu-1"), node("gpu-2", 4), topology("gpu-1", "hgx-h100"))
        server.add(serving_pod("plain", VLLM, nodeName="gpu-1"), serving_pod("script", SCRIPT, nodeName="gpu-2"))
        yield server


def explained(fabricwise: Commands, pod_file: Path, *cluster: str) -> dict[str, Any]:
    """The answer of `explain`, without the name of the cluster."""
    ended = fabricwise("explain", str(pod_file), "-o", "json", "--cluster", *cluster)
    assert ended.status == 0, ended.err
    answer: dict[str, Any] = json.loads(ended.out)
    del answer["cluster"]
    return answer


@pytest.mark.parametrize("crd", [True, False])
def test_commands_give_the_same_answers_from_a_dump_as_from_its_cluster(
    api: ApiServer, fabricwise: Commands, tmp_path: Path, crd: bool
) -> None:
    if not crd:
        del api.lists["/apis/fabricwise.dev/v1alpha1/gputopologies"]
    wanted, file = tmp_path / "pod.yaml", tmp_path / "cluster.json"
    wanted.write_text(yaml.safe_dump(pod(2, name="new")))
    ended = fabricwise("dump", "-o", str(file), "--kubeconfig", str(api.kubeconfig))
    assert (ended.status, ended.out) == (0, "")
    store = explained(fabricwise, wanted, "kube", "--kubeconfig", str(api.kubeconfig))
    assert explained(fabricwise, wanted, str(file)) == store
    assert {row["node"] for row in store["nodes"]} == {"gpu-1", "gpu-2"}


def test_a_dump_on_standard_output_is_the_same_as_in_a_file(api: ApiServer, fabricwise: Commands, tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    fabricwise("dump", "-o", str(file), "--kubeconfig", str(api.kubeconfig))
    assert fabricwise("dump", "--kubeconfig", str(api.kubeconfig)).out == file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_dump_contains_no_secret_of_a_pod(api: ApiServer, fabricwise: Commands) -> None:
    text = fabricwise("dump", "--kubeconfig", str(api.kubeconfig)).out
    assert "hunter2" not in text
    assert all("secrets" not in path for _, path, _ in api.asked)
    plain = next(item for item in json.loads(text)["items"] if item["metadata"]["name"] == "plain")
    assert plain["metadata"]["annotations"] == {"fabricwise.dev/min-link": "NVLink"}
    assert plain["spec"]["volumes"] == [{"name": "keys"}, {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    assert [variable["name"] for variable in plain["spec"]["containers"][0]["env"]] == ["TP", "PASSWORD", "HF_TOKEN"]


def test_a_dump_keeps_what_is_inferred_from_a_script_with_variables(api: ApiServer, fabricwise: Commands) -> None:
    text = fabricwise("dump", "--kubeconfig", str(api.kubeconfig)).out
    script = next(item for item in json.loads(text)["items"] if item["metadata"]["name"] == "script")
    container = script["spec"]["containers"][0]
    found = infer(CommandLine("server", container["image"], tuple(container["args"]), {}, 2))
    assert found is not None
    assert (found.value("tensor_parallel"), found.value("model")) == (2, "org/model")


def test_a_large_cluster_is_read_in_pages_with_progress_on_standard_error(
    api: ApiServer, fabricwise: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE_SIZE", 5)
    api.add(*(pod(1, name=f"p{number}", node="gpu-1") for number in range(10)))
    ended = fabricwise("dump", "--kubeconfig", str(api.kubeconfig))
    assert len(json.loads(ended.out)["items"]) == 15
    assert "pods: 5 read, 7 left" in ended.err
    assert "2 nodes, 12 pods, 1 topologies -> standard output" in ended.err


def test_commands_repeat_what_a_dump_could_not_read(api: ApiServer, fabricwise: Commands, tmp_path: Path) -> None:
    api.refused[PODS] = 403
    file = tmp_path / "cluster.json"
    assert fabricwise("dump", "-o", str(file), "--kubeconfig", str(api.kubeconfig)).status == 0
    ended = fabricwise("doctor", "--cluster", str(file), "-o", "json")
    assert "warning: pods cannot be listed" in ended.err
    assert "pods cannot be listed" in json.loads(ended.out)["unread"][0]


def test_failed_dump_leaves_no_file_and_keeps_an_older_one(api: ApiServer, fabricwise: Commands, tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    file.write_text("older")
    api.refused["/api/v1/nodes"] = 401
    ended = fabricwise("dump", "-o", str(file), "--kubeconfig", str(api.kubeconfig))
    assert (ended.status, "log in again" in ended.err) == (3, True)
    assert file.read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {"cluster.json", "kubeconfig"}
    ended = fabricwise("dump", "-o", str(tmp_path / "nowhere" / "x"), "--kubeconfig", str(api.kubeconfig))
    assert (ended.status, "nowhere/x: No such file" in ended.err) == (3, True)


FLAGS = sorted({flag for engine in ENGINES for flag in engine.flags} | {"--api-key", "--trust-remote-code", "-x"})
MARKS = sorted({mark for engine in ENGINES for mark in engine.marks} | {"/usr/bin/vllm", "serve", "python3", "bash"})
WORDS = st.one_of(
    st.sampled_from(FLAGS),
    st.sampled_from(MARKS),
    st.just("serve"),
    st.builds("{}={}".format, st.sampled_from(FLAGS), st.sampled_from(["2", "fp8", "", "0.9", "32k"])),
    st.sampled_from(["2", "8", "org/model", "fp8", "secret-word", "$(TP)", "$TP", "-", "a=b", ""]),
)
VARIABLES = st.dictionaries(st.sampled_from(["TP", "NUM_SHARD", "MODEL_ID", "PASSWORD"]), st.sampled_from(["2", "4", "secret-word"]))


@settings(max_examples=400)
@given(st.lists(WORDS, max_size=12), VARIABLES, st.booleans())
def test_redaction_does_not_change_what_is_inferred(words: list[str], environment: dict[str, str], script: bool) -> None:
    words = ["vllm", *words] if len(words) % 2 else words
    given_words = ("sh", "-c", " ".join(words)) if script else tuple(words)
    needed, values = needed_words(CommandLine("c", "image", given_words, environment, 2))
    assert infer(CommandLine("c", "image", needed, values, 2)) == infer(CommandLine("c", "image", given_words, environment, 2))


HOSTILE: dict[str, Any] = {
    "containers are no list": {"spec": {"containers": "x"}},
    "a container is no object": {"spec": {"containers": ["x", None]}},
    "words are no list": {"spec": {"containers": [{"name": "c", "args": 7}]}},
    "env is no list": {"spec": {"containers": [{"name": "c", "env": {"a": "b"}}]}},
    "annotations are no object": {"metadata": {"name": "n", "annotations": "x"}},
    "metadata is no object": {"metadata": 7},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_malformed_object_does_not_end_a_dump(name: str) -> None:
    assert dump_fields("Pod", "v1", {"metadata": {"name": "n"}, **HOSTILE[name]})["kind"] == "Pod"


def test_every_kind_that_is_read_has_a_consequence_where_it_is_not() -> None:
    assert set(CONSEQUENCES) == {resource.listed_as for resource in RESOURCES}
