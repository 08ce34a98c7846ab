"""`decisions.file`: decisions on disk, in files that each replay alone; a disk that fails stops nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from extender.decision.replay.replayed_decisions import replayed
from extender.scheduling import decision_file
from extender.scheduling.decision_file import DecisionFile
from extender.settings import DecisionFile as DecisionFileSettings
from extender.settings import Settings, Telemetry
from tests.replay.journals import configuration, differing, reader_of
from tests.replay.random_cluster import RandomCluster

_STARTED: list[DecisionFile] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Close the files of a test."""
    yield
    while _STARTED:
        _STARTED.pop().stop()


def recorded(path: Path, seed: int = 5, **settings: Any) -> tuple[RandomCluster, DecisionFile]:
    """A random cluster whose decisions are written to a file once `write_waiting` is called."""
    file = DecisionFileSettings(file=str(path), **settings)
    cluster = RandomCluster(seed, settings=Settings(telemetry=Telemetry(source="off"), decisions=file))
    assert cluster.service.decision_file is not None
    _STARTED.append(cluster.service.decision_file)
    return cluster, cluster.service.decision_file


def metric(cluster: RandomCluster, name: str) -> float:
    lines = cluster.service.metrics.render().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_file_has_every_decision_and_replays_identically_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    cluster, file = recorded(path)
    for _ in range(3):
        cluster.run(5)
        file.write_waiting()
        results = list(replayed(reader_of(path.read_bytes()), configuration(cluster.service.settings)))
        assert not differing(results)
        assert [result.id for result in results] == [each.id for each in reversed(list(cluster.service.scheduling.log.recent()))]
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_rotated_file_replays_alone_and_the_oldest_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "decisions.jsonl"
    cluster, file = recorded(path, files=3)
    monkeypatch.setattr(file, "_settings", DecisionFileSettings(file=str(path), max_bytes=60_000, files=3))  # less than a file may say
    ids = list[str]()
    for _ in range(12):
        cluster.run(3)
        file.write_waiting()
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["decisions.jsonl", "decisions.jsonl.1", "decisions.jsonl.2"]
    for name in ("decisions.jsonl.2", "decisions.jsonl.1", "decisions.jsonl"):
        results = list(replayed(reader_of((tmp_path / name).read_bytes()), configuration(cluster.service.settings)))
        assert results
        assert not differing(results)
        ids += [result.id for result in results]
    newest = [each.id for each in reversed(list(cluster.service.scheduling.log.recent()))]
    assert ids == newest[-len(ids) :]


def test_path_that_cannot_be_written_is_logged_once_and_counted_and_stops_no_decision(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "missing" / "decisions.jsonl"
    cluster, file = recorded(path)
    monkeypatch.setattr(decision_file, "_PAUSE_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "fabricwise.decisions"):
        for _ in range(3):
            cluster.run(2)
            file.write_waiting()
        made = len(list(cluster.service.scheduling.log.recent()))
        assert metric(cluster, "fabricwise_decisions_not_recorded_total") == made
        (message,) = [record.getMessage() for record in caplog.records]
        assert str(path) in message
        path.parent.mkdir()
        cluster.run(1)
        file.write_waiting()
    assert metric(cluster, "fabricwise_decisions_recorded_total") >= 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert list(replayed(reader_of(path.read_bytes()), configuration(cluster.service.settings)))


def test_full_disk_leaves_files_of_complete_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "decisions.jsonl"
    cluster, file = recorded(path)
    monkeypatch.setattr(decision_file, "_PAUSE_SECONDS", 0.0)
    cluster.run(3)
    file.write_waiting()
    assert file._open is not None
    with file._open.file:
        monkeypatch.setattr(file._open, "file", FullDisk(path))
    cluster.run(3)
    file.write_waiting()
    assert metric(cluster, "fabricwise_decisions_not_recorded_total") == 1
    for name in ("decisions.jsonl.1", "decisions.jsonl"):
        text = (tmp_path / name).read_bytes()
        assert text.endswith(b"\n")
        assert all(json.loads(line) for line in text.splitlines())
        assert not differing(list(replayed(reader_of(text), configuration(cluster.service.settings))))


class FullDisk:
    """A file on a disk without room: the first write appends half a line and fails."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, text: bytes) -> int:
        with self._path.open("ab") as file:
            file.write(text[: len(text) // 2])
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


def test_queue_is_bounded_and_what_does_not_fit_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_file, "MOST_WAITING", 4)
    cluster, file = recorded(tmp_path / "decisions.jsonl")
    cluster.run(8)
    made = len(list(cluster.service.scheduling.log.recent()))
    file.write_waiting()
    assert metric(cluster, "fabricwise_decisions_recorded_total") == 4
    assert metric(cluster, "fabricwise_decisions_not_recorded_total") == made - 4


def test_without_the_setting_nothing_is_written() -> None:
    assert RandomCluster(1, nodes=2).service.decision_file is None
