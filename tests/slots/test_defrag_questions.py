"""`fabricwise defrag` and `GET /v1/defrag`: what they read, and what they say where they may not read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from extender.cli.reading import kube_objects
from extender.decision.slots.defrag_answer import NOTHING_CHANGED, DefragAnswer
from extender.kube import disruptions
from extender.kube.disruptions import KubeDisruptions
from extender.scheduling.ports import Cluster
from extender.server.service import build_service
from extender.settings import Server, Settings
from extender.sources.simulated import simulated
from tests.cli.commands import Commands
from tests.conftest import Served, serve
from tests.kube.api_server import BUDGETS, ApiServer, api_server
from tests.objects import GPU, pod
from tests.slots.machines_in_use import Objects, machine_node
from tests.slots.moved_clusters import budget, owned

CLUSTER = owned([*machine_node("a", "hgx-h100", {"one": (0,)}), *machine_node("b", "hgx-h100", {"three": (0, 1, 2)})])


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with api_server(tmp_path) as server:
        server.add(*CLUSTER)
        server.lists[BUDGETS] = [budget("b", 1)]
        yield server


def asked(fabricwise: Commands, api: ApiServer, *arguments: str) -> tuple[DefragAnswer, str]:
    ended = fabricwise("defrag", "--size", "8", "--kubeconfig", str(api.kubeconfig), "-o", "json", *arguments)
    assert ended.status == 0, ended.err
    return msgspec.json.decode(ended.out, type=DefragAnswer), ended.err


def test_command_reads_owners_and_budgets_and_writes_nothing(api: ApiServer, fabricwise: Commands) -> None:
    answer, warnings = asked(fabricwise, api)
    ((move,),) = (step.moves for step in answer.steps)
    assert (move.name, move.owner, move.to_node, move.budget, warnings) == ("one", "ReplicaSet/of-one", "b", "team/b", "")
    assert api.methods == {"GET"}


def test_command_that_may_not_list_budgets_names_the_missing_verb_and_still_advises(api: ApiServer, fabricwise: Commands) -> None:
    api.refused[BUDGETS] = 403
    answer, warnings = asked(fabricwise, api)
    assert len(answer.steps) == 1
    assert "kubectl auth can-i list poddisruptionbudgets.policy" in answer.unread[0]
    assert "may be more than disruption budgets allow" in answer.unread[0]
    assert answer.unread[0] in warnings


def test_api_server_without_budgets_has_none(api: ApiServer, fabricwise: Commands) -> None:
    del api.lists[BUDGETS]
    answer, _ = asked(fabricwise, api)
    assert (len(answer.steps), answer.unread) == (1, ())


def test_table_begins_with_the_sentence_and_ends_by_saying_that_nothing_was_changed(api: ApiServer, fabricwise: Commands) -> None:
    lines = fabricwise("defrag", "--size", "8", "--kubeconfig", str(api.kubeconfig)).out.splitlines()
    assert lines[0] == "1 move makes room for 1 more pod of 8 GPUs: 1 instead of 0."
    assert lines[-1] == NOTHING_CHANGED


def dumped(folder: Path, objects: Objects) -> str:
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    return str(file)


def test_budgets_of_a_file_are_respected(fabricwise: Commands, tmp_path: Path) -> None:
    ended = fabricwise("defrag", "--size", "8", "--cluster", dumped(tmp_path, [*CLUSTER, budget("b", 0)]))
    assert ended.out.startswith("No move makes room for one more pod of 8 GPUs; 0 fit now.")
    assert "budget team/b allows no disruption now" in ended.out


def test_dump_has_what_advice_needs(api: ApiServer, fabricwise: Commands, tmp_path: Path) -> None:
    file = tmp_path / "dump.json"
    assert fabricwise("dump", str(file), "--kubeconfig", str(api.kubeconfig)).status == 0
    ended = fabricwise("defrag", "--size", "8", "--cluster", str(file), "-o", "json")
    (step,) = msgspec.json.decode(ended.out, type=DefragAnswer).steps
    assert (step.moves[0].owner, step.moves[0].budget, ended.err) == ("ReplicaSet/of-one", "team/b", "")


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ((), 2, "--size"),
        (("--size", "0"), 2, "--size"),
        (("--size", "8", "--moves", "0"), 2, "--moves"),
        (("--size", "8", "--moves", "5000"), 2, "--moves"),
        (("--size", "8", "--cluster", "/nowhere.json"), 3, "/nowhere.json"),
    ],
)
def test_bad_option_is_one_line_on_standard_error(fabricwise: Commands, arguments: tuple[str, ...], status: int, text: str) -> None:
    ended = fabricwise("defrag", *(() if "--cluster" in arguments else ("--cluster", "simulated")), *arguments)
    assert (ended.status, ended.out) == (status, "")
    assert text in ended.err


@pytest.fixture
def watched(api: ApiServer) -> Iterator[Served]:
    """A service whose state has two nodes with three pods, and whose API server is `api`."""
    settings, machines = Settings(server=Server(log_level="error")), simulated(GPU, {"hgx-h100": 2})
    reader = KubeDisruptions(kube_objects(str(api.kubeconfig))[0])
    service = build_service(settings, Cluster("some cluster", disruptions=reader))
    service.store.apply(machines.listing())
    for name, node, gpus in (("one", "hgx-h100-0", 1), ("three", "hgx-h100-1", 3)):
        machines.bind(pod(gpus, name=name), node, service.store)
    yield from serve(service, machines)


def test_server_reads_owners_and_budgets_on_demand(watched: Served, api: ApiServer) -> None:
    response = watched.client.get("/v1/defrag", params={"size": 8, "moves": 2})
    answer = msgspec.json.decode(response.content, type=DefragAnswer)
    ((move,),) = (step.moves for step in answer.steps)
    assert (move.name, move.from_node, move.to_node, move.budget) == ("one", "hgx-h100-0", "hgx-h100-1", "team/b")
    assert (answer.cluster, answer.unread, answer.slots_after, api.methods) == ("some cluster", (), 1, {"GET"})


def test_server_that_may_not_read_pods_says_so_and_moves_none(watched: Served, api: ApiServer) -> None:
    api.refused |= {BUDGETS: 403, "/api/v1/namespaces/team/pods": 403}
    answer = msgspec.json.decode(watched.client.get("/v1/defrag?size=8").content, type=DefragAnswer)
    assert answer.steps == ()
    assert "list poddisruptionbudgets.policy" in answer.unread[0]
    assert "pods cannot be read" in answer.unread[1]
    assert {entry.reason for entry in answer.left_out} == {"the pod was not read"}


def test_server_stops_reading_pods_when_its_time_is_over(api: ApiServer, monkeypatch: pytest.MonkeyPatch, watched: Served) -> None:
    monkeypatch.setattr(disruptions, "SECONDS", 0.0)
    answer = msgspec.json.decode(watched.client.get("/v1/defrag?size=8").content, type=DefragAnswer)
    assert answer.unread == ("2 of 2 pods were not read in time: nothing is known of their owners",)


def test_server_without_an_api_server_says_why_it_moves_no_pod(served: Served) -> None:
    served.cluster.bind(pod(1, name="one"), "hgx-h100-0", served.service.store)
    answer = msgspec.json.decode(served.client.get("/v1/defrag?size=8").content, type=DefragAnswer)
    assert (answer.slots_now, answer.steps) == (8, ())
    assert "watches no API server" in answer.unread[0]


@pytest.mark.parametrize("query", ["", "size=0", "size=65", "size=x", "size=8&moves=0", "size=8&moves=51"])
def test_bad_parameter_is_refused_with_a_sentence(served: Served, query: str) -> None:
    response = served.client.get(f"/v1/defrag?{query}")
    assert (response.status_code, bool(response.json()["error"])) == (422, True)


def test_cluster_that_is_not_listed_yet_has_no_advice() -> None:
    for served in serve(build_service(Settings(server=Server(log_level="error"))), simulated(GPU)):
        assert served.client.get("/v1/defrag?size=8").status_code == 503


def test_missing_budgets_are_no_warning_where_no_pod_can_be_evicted(fabricwise: Commands) -> None:
    ended = fabricwise("defrag", "--cluster", "simulated", "--size", "8")
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize("may_list", [True, False])
def test_dump_without_budgets_is_a_warning_only_if_they_could_not_be_read(
    api: ApiServer, fabricwise: Commands, tmp_path: Path, may_list: bool
) -> None:
    del api.lists[BUDGETS]
    if not may_list:
        api.refused[BUDGETS] = 403
    file = tmp_path / "dump.json"
    assert fabricwise("dump", str(file), "--kubeconfig", str(api.kubeconfig)).status == 0
    assert ("PodDisruptionBudget" in fabricwise("defrag", "--size", "8", "--cluster", str(file)).err) is not may_list
