"""`--context`: which cluster of a kubeconfig a command reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cli.commands import Commands
from tests.kube.api_server import api_server
from tests.objects import node, pod


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def two_clusters(tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig with the contexts `first` (current, namespace alpha) and `second` (namespace beta), each of another API server."""
    merged: dict[str, object] = {"current-context": "first"}
    contexts, clusters = [], []
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with api_server(tmp_path / "a") as first, api_server(tmp_path / "b") as second:
        for name, namespace, server, gpu_node in (("first", "alpha", first, "gpu-1"), ("second", "beta", second, "gpu-2")):
            server.add(node(gpu_node))
            stored = yaml.safe_load(server.kubeconfig.read_text())
            clusters.append({"name": name, "cluster": stored["clusters"][0]["cluster"]})
            contexts.append({"name": name, "context": {"cluster": name, "user": "t", "namespace": namespace}})
            server.lists["/api/v1/namespaces"] = [{"metadata": {"name": namespace}}]
        users = [{"name": "t", "user": {"token": "secret"}}]
        path = tmp_path / "merged"
        path.write_text(yaml.safe_dump(merged | {"contexts": contexts, "clusters": clusters, "users": users}))
        yield path


@pytest.mark.parametrize(("chosen", "gpu_node"), [((), "gpu-1"), (("--context", "first"), "gpu-1"), (("--context", "second"), "gpu-2")])
def test_command_reads_the_cluster_of_the_named_context_and_of_the_current_one_without_a_name(
    two_clusters: Path, fabricwise: Commands, tmp_path: Path, chosen: tuple[str, ...], gpu_node: str
) -> None:
    wanted = tmp_path / "pod.yaml"
    wanted.write_text(yaml.safe_dump(pod(2)))
    connection = ("--kubeconfig", str(two_clusters), *chosen)
    for command in (("explain", str(wanted)), ("doctor",), ("fit", "--model", MODEL, "--cluster", "kube")):
        options = tuple("--kube-context" if word == "--context" else word for word in connection) if command[0] == "fit" else connection
        ended = fabricwise(*command, *options, "-o", "json")
        assert {row["node"] for row in json.loads(ended.out)["nodes"]} == {gpu_node}, command
    dumped = json.loads(fabricwise("dump", *connection).out)
    assert [item["metadata"]["name"] for item in dumped["items"]] == [gpu_node]


MODEL = '{"layers": 2, "hidden_size": 64, "attention_heads": 4, "kv_heads": 4, "head_size": 16, "parameters": 1000000}'


def test_unknown_context_is_an_error_that_lists_the_contexts(two_clusters: Path, fabricwise: Commands) -> None:
    ended = fabricwise("doctor", "--kubeconfig", str(two_clusters), "--context", "third")
    assert (ended.status, ended.out) == (3, "")
    assert "third" in ended.err
    assert "its contexts: first, second" in ended.err


def test_context_in_a_kubeconfig_that_does_not_exist_is_an_error(fabricwise: Commands, tmp_path: Path) -> None:
    ended = fabricwise("doctor", "--kubeconfig", str(tmp_path / "nowhere"), "--context", "third")
    assert (ended.status, "give a readable one with --kubeconfig" in ended.err) == (3, True)
