"""Commands that answer one question about a cluster: they list it once, write nothing, and name what they could not read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.cli.reading import kube_objects
from extender.errors import ClusterSourceError
from extender.kube import listing as listing_module
from extender.kube.objects.resources import BUDGET_RESOURCE, DRA_RESOURCES
from tests.cli.commands import Commands
from tests.kube.api_server import NODES, PODS, TOPOLOGIES, ApiServer, api_server
from tests.objects import node, pod, topology

MODEL = {"layers": 2, "hidden_size": 64, "attention_heads": 4, "kv_heads": 4, "head_size": 16, "parameters": 1_000_000}


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(tmp_path) as server:
        server.add(node("gpu-1"), node("gpu-2", 4), pod(2, name="other", node="gpu-1"), pod(2, name="waiting"))
        server.add(topology("gpu-1", "hgx-h100"))
        yield server


@pytest.fixture
def commands(api: ApiServer, tmp_path: Path) -> dict[str, list[str]]:
    """Every command that reads a cluster once, by name."""
    wanted, model = tmp_path / "pod.yaml", json.dumps(MODEL)
    wanted.write_text(yaml.safe_dump(pod(2, name="new")))
    unleased = tmp_path / "settings.yaml"
    unleased.write_text("lease: {enabled: false}\n")
    kube = ["--cluster", "kube", "--kubeconfig", str(api.kubeconfig)]
    return {
        "explain": ["explain", str(wanted), *kube, "-o", "json"],
        "explain without a Lease": ["explain", str(wanted), *kube, "-o", "json", "--config", str(unleased)],
        "doctor": ["doctor", *kube, "-o", "json"],
        "doctor without a Lease": ["doctor", *kube, "-o", "json", "--config", str(unleased)],
        "node": ["node", "gpu-1", *kube, "-o", "json"],
        "fit": ["fit", "--model", model, *kube, "-o", "json"],
        "topo show": ["topo", "show", "gpu-1", *kube, "-o", "json"],
        "dump": ["dump", "--kubeconfig", str(api.kubeconfig)],
        "slots": ["slots", *kube, "-o", "json"],
        "defrag": ["defrag", "--size", "8", *kube, "-o", "json"],
    }


ABSENT = [path for resource in DRA_RESOURCES for path in (resource.path, resource.other_path) if path is not None]
"""Paths of kinds that this API server does not serve; each is asked for once."""

PROXY = "/api/v1/namespaces/fabricwise-system/services/"
"""Below this path the running extender is looked for."""

NAMES = ("explain", "explain without a Lease", "doctor", "doctor without a Lease", "node", "fit", "topo show", "dump", "slots", "defrag")


@pytest.mark.parametrize("name", NAMES)
def test_a_one_shot_command_lists_each_kind_once_and_writes_nothing(
    api: ApiServer, commands: dict[str, list[str]], fabricwise: Commands, name: str
) -> None:
    threads = set(threading.enumerate())
    ended = fabricwise(*commands[name])
    assert ended.status in (0, 1 if "doctor" in name or name == "node" else 0), ended.err
    assert json.loads(ended.out)
    assert api.methods == {"GET"}
    assert not any("watch" in query for _, _, query in api.asked)
    listed = [path for _, path, _ in api.asked if not path.startswith(PROXY)]
    budgets = [BUDGET_RESOURCE.path] if name in ("dump", "defrag") else []
    assert sorted(listed) == sorted([NODES, PODS, TOPOLOGIES, *ABSENT, *budgets])
    left = {thread for thread in set(threading.enumerate()) - threads if not thread.name.startswith("Thread-")}
    assert not left, "a one-shot command starts no thread of its own"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "topo show"])
def test_a_one_shot_command_works_where_the_crd_is_not_installed(
    api: ApiServer, commands: dict[str, list[str]], fabricwise: Commands, name: str
) -> None:
    del api.lists[TOPOLOGIES]
    ended = fabricwise(*commands[name])
    assert json.loads(ended.out)
    assert "warning" not in ended.err, "an absent CRD is no trouble"


@pytest.mark.parametrize("path", [PODS, TOPOLOGIES])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "topo show"])
def test_a_one_shot_command_works_without_the_right_to_list_a_kind_and_says_so(
    api: ApiServer, commands: dict[str, list[str]], fabricwise: Commands, name: str, path: str
) -> None:
    api.refused[path] = 403
    ended = fabricwise(*commands[name])
    plural = path.rsplit("/", 1)[1]
    assert f"{plural} cannot be listed" in ended.err
    assert "kubectl auth can-i list" in ended.err
    told = json.loads(ended.out)["unread"]
    assert plural in (told if isinstance(told, str) else " ".join(told.values() if isinstance(told, dict) else told))


@pytest.mark.parametrize("name", NAMES)
def test_without_the_right_to_list_nodes_a_command_ends_in_one_line_with_a_remedy(
    api: ApiServer, commands: dict[str, list[str]], fabricwise: Commands, name: str
) -> None:
    api.refused[NODES] = 403
    ended = fabricwise(*commands[name])
    assert (ended.status, ended.out) == (3, "")
    assert "error: nodes cannot be listed" in ended.err
    assert "kubectl auth can-i list nodes --all-namespaces" in ended.err


def test_topo_show_of_a_node_says_that_gputopologies_cannot_be_read(
    api: ApiServer, commands: dict[str, list[str]], fabricwise: Commands
) -> None:
    api.refused[TOPOLOGIES] = 403
    ended = fabricwise(*commands["topo show"])
    assert (ended.status, "gputopologies cannot be listed" in ended.err) == (3, True)


def test_invalid_object_is_left_out_and_named(api: ApiServer, commands: dict[str, list[str]], fabricwise: Commands) -> None:
    api.add(node("broken") | {"status": {"allocatable": 7}})
    ended = fabricwise(*commands["explain"])
    assert {row["node"] for row in json.loads(ended.out)["nodes"]} == {"gpu-1", "gpu-2"}
    assert "Node broken" in ended.err


def test_list_in_pages_is_complete_although_continue_tokens_expire(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "PAGE_SIZE", 3)
    api.add(*(node(f"n{number}") for number in range(8)))
    api.expired_tokens = 1
    listing = listing_module.list_once(kube_objects(str(api.kubeconfig))[0])
    assert len(listing.listed[0].changes) == 10
    assert listing.unread == {}


def test_list_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "MOST_OBJECTS", 50)

    class Endless:
        asked = 0

        def get(self, path: str, query: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
            self.asked += 1
            items = [{"metadata": {"name": f"n{self.asked}-{number}"}} for number in range(10)]
            return {"metadata": {"continue": "again"}, "items": items}

    with pytest.raises(ClusterSourceError, match="more than 50 objects"):
        listing_module.list_once(Endless())
