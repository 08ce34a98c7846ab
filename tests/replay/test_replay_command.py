"""`fabricwise snapshot` and `fabricwise replay` as a user calls them."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from extender.sources.simulated import simulated
from extender.web.long_work import LongWork, NotDone
from tests.cli.commands import Commands
from tests.conftest import Served
from tests.objects import pod


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def archive(served: Served, tmp_path: Path) -> Path:
    """The snapshot of a served extender after decisions about three pods."""
    names = sorted(served.service.store.snapshot.views)
    for number, gpus in enumerate((2, 4, 16)):
        body = {"Pod": pod(gpus, name=f"p{number}"), "NodeNames": names}
        passed = served.client.post("/scheduler/filter", json=body).json()["NodeNames"]
        if len(passed) > 1:
            served.client.post("/scheduler/prioritize", json={**body, "NodeNames": passed})
    return snapshot_of(served, tmp_path / "s.zip")


def snapshot_of(served: Served, path: Path, **parameters: str) -> Path:
    answer = served.client.get("/v1/snapshot", params=parameters)
    assert answer.status_code == 200
    path.write_bytes(answer.content)
    return path


def replayed(commands: Commands, *arguments: str, status: int = 0) -> dict[str, Any]:
    ended = commands("replay", *arguments, "-o", "json")
    assert ended.status == status, ended.err
    answer: dict[str, Any] = json.loads(ended.out)
    return answer


def test_snapshot_of_an_extender_replays_with_identical_decisions(commands: Commands, archive: Path) -> None:
    answer = replayed(commands, str(archive))
    assert answer["decisions"] == answer["identical"] == 5
    assert answer["complete"] is True
    assert answer["listed"] == []
    text = commands("replay", str(archive)).out
    assert "5 decisions, settings as recorded: 5 of 5 identical" in text


def test_other_settings_show_what_would_differ_with_exit_status_1(commands: Commands, archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("scoring: {weights: {link: 0, fragmentation: 1}}\n")
    answer = replayed(commands, str(archive), "--config", str(other), status=1)
    assert answer["different"] > 0
    (first, *_) = answer["listed"]
    assert first["verb"] == "prioritize"
    assert first["decided"]["before"] != first["decided"]["after"]
    difference = first["differences"][0]
    assert difference["before"]["score"] != difference["after"]["score"]
    text = commands("replay", str(archive), "--config", str(other)).out
    assert f"decided: {first['decided']['before']} -> {first['decided']['after']}" in text


def test_settings_of_nodes_apply_to_a_replay_too(commands: Commands, archive: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("nodes: {device_plugin: uniform}\n")
    answer = replayed(commands, str(archive), "--config", str(other), status=1)
    changed = [row for decision in answer["listed"] for row in decision["differences"]]
    assert any(row["before"]["effective_gbps"] != row["after"]["effective_gbps"] for row in changed)


def test_one_decision_is_replayed_by_its_id_and_by_that_of_its_placement(commands: Commands, served: Served, archive: Path) -> None:
    rows = served.client.get("/v1/decisions").json()["decisions"]
    decided = next(row for row in rows if row["decided"] is not None)
    for wanted in (decided["decision_id"], decided["id"]):
        answer = replayed(commands, str(archive), "--decision", wanted)
        assert [(each["id"], each["identical"]) for each in answer["listed"]] == [(decided["decision_id"], True)]
    ended = commands("replay", str(archive), "--decision", "nothing")
    assert (ended.status, ended.out) == (3, "")
    assert "no decision has the id 'nothing'" in ended.err


def test_new_pod_is_evaluated_on_the_newest_state_as_the_extender_evaluates_it(
    commands: Commands, served: Served, archive: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "pod.json"
    manifest.write_text(json.dumps(pod(2, name="new")))
    answer = replayed(commands, str(archive), "--pod", str(manifest))
    live = served.client.post("/v1/explain", json=pod(2, name="new")).json()
    assert answer["chosen"] == live["chosen"]
    assert {row["node"]: row["score"] for row in answer["nodes"]} == {row["node"]: row["score"] for row in live["nodes"]}


def test_hidden_names_change_no_decision_and_two_archives_share_no_name(
    commands: Commands, served: Served, archive: Path, tmp_path: Path
) -> None:
    hidden = [snapshot_of(served, tmp_path / f"{number}.zip", hash_names="true") for number in range(2)]
    texts = [zipfile.ZipFile(path).read("journal.jsonl").decode() for path in hidden]
    for path, text in zip(hidden, texts, strict=True):
        assert replayed(commands, str(path))["identical"] == 5
        assert not [name for name in served.service.store.snapshot.nodes if name in text]
        assert '"team"' not in text
    names = [{json.loads(line)["name"] for line in text.splitlines() if '"line":"node"' in line} for text in texts]
    assert names[0]
    assert names[0].isdisjoint(names[1])


def test_snapshot_without_server_has_the_state_and_no_decisions(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "s.zip"
    with path.open("w") as file, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", file)
        assert commands("snapshot", "--cluster", "simulated").status == 0
    lines = [json.loads(line) for line in zipfile.ZipFile(path).read("journal.jsonl").splitlines()]
    nodes = {line["key"] for line in lines if line.get("kind") == "node"}
    assert nodes == set(simulated("nvidia.com/gpu").machines)
    assert lines[-1]["decisions"] == 0


def test_snapshot_of_a_server_is_written_to_standard_output(
    commands: Commands, served: Served, archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "written.zip"
    with path.open("w") as file, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", file)
        assert commands("snapshot", "--server", str(served.client.base_url), "--decisions", "2", "--hash-names").status == 0
    answer = replayed(commands, str(path))
    assert (answer["decisions"], answer["identical"], answer["names_hidden"]) == (2, 2, True)


def test_snapshot_is_refused_while_other_questions_are_answered(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def busy(*_: object) -> NotDone:
        return NotDone("too many questions are being answered", True)

    monkeypatch.setattr(LongWork, "stream", busy)
    answer = served.client.get("/v1/snapshot")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "too many questions" in answer.json()["error"]


@pytest.mark.parametrize("parameters", [{"decisions": "-1"}, {"decisions": "20001"}, {"hash_names": "perhaps"}], ids=str)
def test_wrong_parameter_of_a_snapshot_is_named(served: Served, parameters: dict[str, str]) -> None:
    answer = served.client.get("/v1/snapshot", params=parameters)
    assert answer.status_code == 422
    assert next(iter(parameters)) in answer.text


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (("replay", "nowhere.zip"), 3, "nowhere.zip: No such file or directory"),
        (("replay", "x", "--decision", "1", "--pod", "p"), 2, "--decision or --pod"),
        (("snapshot", "--server", "http://127.0.0.1:1"), 3, "Check the address"),
        (("snapshot", "--server", "http://127.0.0.1:1", "--cluster", "simulated"), 2, "--cluster or --server"),
        (("snapshot", "--decisions", "1000000"), 2, "20000"),
    ],
)
def test_wrong_usage_is_one_line(commands: Commands, arguments: tuple[str, ...], status: int, error: str) -> None:
    ended = commands(*arguments)
    assert ended.status == status
    assert error in ended.err
    assert ended.err.count("\n") == 1


def test_archive_is_not_written_to_a_terminal(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    ended = commands("snapshot", "--cluster", "simulated")
    assert ended.status == 2
    assert "redirect it" in ended.err


def test_settings_in_a_snapshot_contain_no_address_and_no_file(served: Served, archive: Path) -> None:
    head = json.loads(zipfile.ZipFile(archive).read("journal.jsonl").split(b"\n", 1)[0])
    assert set(head["settings"]) == {"resource", "scoring", "filtering", "nodes", "assumed_pods", "telemetry"}
    assert not {"dcgm", "prometheus", "engines"} & set(head["settings"]["telemetry"])
