"""`GET /v1/slots` and `fabricwise slots`: the same answer from a server and from a command, and bad parameters."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from extender.decision.slots.slot_answer import SlotsAnswer
from extender.server.service import build_service
from extender.settings import Server, Settings
from extender.sources.simulated import simulated
from tests.cli.commands import Commands
from tests.conftest import Served, serve
from tests.objects import GPU, pod


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


def test_answer_has_the_type_that_openapi_states(served: Served) -> None:
    response = served.client.get("/v1/slots", params={"size": ["8,4", "2"]})
    answer = msgspec.json.decode(response.content, type=SlotsAnswer)
    assert (response.status_code, [each.size for each in answer.total.sizes]) == (200, [2, 4, 8])
    schema = served.client.get("/openapi.json").json()["components"]["schemas"]["SlotsAnswer"]
    assert set(schema["properties"]) == set(response.json())


def test_pod_that_was_decided_for_a_node_holds_its_gpus_before_it_is_bound(served: Served) -> None:
    def idle() -> int:
        return int(served.client.get("/v1/slots").json()["total"]["idle_gpus"])

    before, names = idle(), list(served.cluster.machines)
    served.client.post("/scheduler/filter", json={"Pod": pod(4), "NodeNames": names})
    served.client.post("/scheduler/prioritize", json={"Pod": pod(4), "NodeNames": names})
    assert idle() == before - 4


BAD = {
    "size=0": 400,
    "size=65": 400,
    "size=four": 422,
    "size=1,2,3,4,5,6,7,8,9": 400,
    "&".join(f"size={n}" for n in range(1, 12)): 422,
    "floor_gbps=-1": 422,
    "floor_gbps=nan": 422,
    "floor_gbps=20000": 400,
    "memory=80": 400,
    "memory=much": 400,
    f"memory={'1' * 200}": 422,
    "by=rack": 422,
    "class=none-of-them": 400,
}


@pytest.mark.parametrize(("query", "status"), BAD.items())
def test_bad_parameter_is_refused_with_a_sentence(served: Served, query: str, status: int) -> None:
    response = served.client.get(f"/v1/slots?{query}")
    assert response.status_code == status
    assert response.json()["error"]


def test_cluster_that_is_not_listed_yet_has_no_slots() -> None:
    for served in serve(build_service(Settings(server=Server(log_level="error"))), simulated(GPU)):
        response = served.client.get("/v1/slots")
        assert response.status_code == 503
        assert "not yet listed" in response.json()["error"]


def test_command_asks_a_running_extender_for_several_sizes(served: Served, commands: Commands) -> None:
    url = str(served.client.base_url).rstrip("/")
    ended = commands("slots", "--server", url, "--size", "8", "--size", "2", "--floor", "200", "--by", "node", "-o", "json")
    answer = msgspec.json.decode(ended.out, type=SlotsAnswer)
    assert ([each.size for each in answer.total.sizes], answer.floor_gbps, answer.by) == ([2, 8], 200.0, "node")
    refused = commands("slots", "--server", url, "--class", "none-of-them")
    assert (refused.status, "no workload classes are loaded" in refused.err) == (3, True)


def test_names_are_the_rows_in_which_a_pod_fits(commands: Commands) -> None:
    ended = commands("slots", "--cluster", "simulated", "--size", "8", "--floor", "400", "--by", "node", "-o", "name")
    assert ended.out.splitlines() == ["node/hgx-b200-0", "node/hgx-h100-0"]


def test_command_prints_the_sentence_first_and_the_same_object_as_json(commands: Commands) -> None:
    table = commands("slots", "--cluster", "simulated", "--size", "4")
    assert table.out.splitlines()[0] == "23 more pods of 4 GPUs fit; none is lost."
    answer = msgspec.json.decode(commands("slots", "--cluster", "simulated", "-o", "json").out, type=SlotsAnswer)
    assert [(each.size, each.now) for each in answer.total.sizes] == [(1, 92), (2, 46), (4, 23), (8, 9)]
    assert answer.cluster == "the simulated cluster"


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("--size", "0"), 3, "size 0 is out of bounds"),
        (("--size", "x"), 2, "--size"),
        (("--by", "rack"), 2, "--by"),
        (("--class", "x"), 3, "no workload classes are loaded"),
        (("--memory", "80"), 3, "such as 80Gi"),
        (("--cluster", "/nowhere.json"), 3, "/nowhere.json"),
    ],
)
def test_bad_option_is_one_line_on_standard_error(commands: Commands, arguments: tuple[str, ...], status: int, text: str) -> None:
    ended = commands("slots", *(() if "--cluster" in arguments else ("--cluster", "simulated")), *arguments)
    assert (ended.status, ended.out) == (status, "")
    assert text in ended.err
    assert ended.err.count("\n") == 1


def test_class_of_a_file_is_applied(commands: Commands, tmp_path: Path) -> None:
    file = tmp_path / "classes.yaml"
    file.write_text("classes: [{name: big, memory_classes_gb: [180]}]")
    ended = commands("slots", "--cluster", "simulated", "--workload-classes", str(file), "--class", "big", "--size", "8", "--by", "pool")
    assert "1 more pod of 8 GPUs fits" in ended.out
    assert "not counted: 13 nodes: GPU memory class is none the pod allows" in ended.out


def test_rows_by_pool_show_the_sum_where_no_pool_is_known(commands: Commands) -> None:
    ended = commands("slots", "--cluster", "simulated", "--size", "4", "--by", "pool")
    assert [line.split()[:3] for line in ended.out.splitlines()[1:3]] == [["pool", "nodes", "GPUs"], ["all", "nodes", "14"]]
