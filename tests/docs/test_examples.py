"""The manifests in examples/ are placed by the simulated cluster as their comments say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.decision.request.annotations import ANNOTATIONS
from tests.checkout import ROOT
from tests.cli.commands import Commands

EXAMPLES = {path.name: path for path in sorted((ROOT / "examples").glob("*.yaml"))}
PLACED = {
    "pod.yaml": (["hgx-b200-0"], 14),
    "deployment.yaml": (["hgx-h100-0"], 3),
    "vllm.yaml": (["hgx-b200-0"], 3),
    "leaderworkerset.yaml": (["hgx-b200-0", "hgx-b200-0"], 2),
}
"""Example -> the node chosen per pod template, and how many nodes of the simulated cluster are feasible."""

CLUSTER = "cluster-in-use.yaml"
"""An example for --cluster, which docs/capacity.md shows the answers about."""


def explained(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """One answer per pod template of the example."""
    ended = Commands(monkeypatch, capsys)("explain", str(EXAMPLES[name]), "--cluster", "simulated", "-o", "json")
    assert (ended.status, ended.err) == (0, "")
    answer = json.loads(ended.out)
    return list(answer["explanations"]) if "explanations" in answer else [answer]


def test_every_example_is_tested() -> None:
    assert set(EXAMPLES) == {*PLACED, CLUSTER}


def test_the_example_cluster_is_read_completely(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Commands(monkeypatch, capsys)("defrag", "--size", "8", "--cluster", str(EXAMPLES[CLUSTER]), "-o", "json")
    answer = json.loads(ended.out)
    assert (ended.status, ended.err, answer["unread"], answer["slots_after"]) == (0, "", [], 1)


@pytest.mark.parametrize("name", PLACED)
def test_an_example_is_placed_where_its_demands_are_met(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes, feasible = PLACED[name]
    answers = explained(name, monkeypatch, capsys)
    assert [answer["chosen"] for answer in answers] == nodes
    for answer in answers:
        assert len([row for row in answer["nodes"] if row["feasible"]]) == feasible
        assert answer.get("warnings", []) == []


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def annotations_in(value: Any) -> list[str]:
    """The names of all annotations under our prefix, at any depth."""
    if isinstance(value, list):
        return [name for item in value for name in annotations_in(item)]
    if not isinstance(value, dict):
        return []
    own = [name for name in value.get("annotations", {}) if name.startswith("fabricwise.dev/")]
    return own + [name for item in value.values() for name in annotations_in(item)]


@pytest.mark.parametrize("name", PLACED)
def test_an_example_uses_known_annotations_and_the_scheduler_of_the_base(name: str) -> None:
    known = {annotation.key for annotation in ANNOTATIONS}
    for document in documents(EXAMPLES[name]):
        assert set(annotations_in(document)) <= known
    assert "schedulerName: gpu-scheduler" in EXAMPLES[name].read_text()
