"""A snapshot of a burst on the real kube-scheduler: every decision is made again as it was, also with hidden names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Commands
from tests.cluster.fleets.fleet import Kubelets
from tests.cluster.fleets.rig import Rig, rigged, url_of
from tests.cluster.processes.control_plane import ControlPlane

pytestmark = pytest.mark.cluster

NODES = {"dgx-1v": 30, "hgx-h100": 20, "a100-pcie-bridge-pairs": 20, "rtx4090": 20, "l4": 10}
PODS = 500


@pytest.fixture(scope="module")
def rig(plane: ControlPlane) -> Iterator[Rig]:
    with rigged(plane, "replay", NODES) as rig:
        rig.extender({"limits": {"decision_log_bytes": 256 << 20}})  # the answers to 500 pods on 100 nodes take more than the default
        yield rig


def snapshot_of(rig: Rig, path: Path, *options: str) -> Path:
    """The archive of the running extender."""
    answer = rig.extenders[0].client.get("/v1/snapshot", params={"decisions": 20_000, **dict(option.split("=") for option in options)})
    assert answer.status_code == 200, answer.text
    path.write_bytes(answer.content)
    return path


def replayed(commands: Commands, path: Path) -> dict[str, Any]:
    """What `fabricwise replay` prints."""
    ended = commands("replay", str(path), "-o", "json")
    assert ended.out, ended.err
    answer: dict[str, Any] = json.loads(ended.out)
    return answer


def test_every_decision_of_a_burst_is_identical_when_replayed_also_with_hidden_names(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [1] * (PODS * 8 // 10) + [2] * (PODS * 14 // 100) + [4] * (PODS * 6 // 100)
    with Kubelets(rig.fleet, "replay-pod") as kubelets:
        for number, size in enumerate(sizes):
            rig.create(rig.pod(f"replay-pod-{number:03d}", size, "replay-scheduler", min_busbw="20" if size == 2 and number % 3 else None))
        rig.scheduler("replay-scheduler", url_of(rig.extenders[0].client))
        rig.wait_bound("replay-pod", len(sizes), 240.0)
        rig.wait_given(kubelets, len(sizes))
    commands = Commands(monkeypatch, capsys)
    plain = replayed(commands, snapshot_of(rig, tmp_path / "plain.zip"))
    hidden = replayed(commands, snapshot_of(rig, tmp_path / "hidden.zip", "hash_names=true"))
    for name, answer in (("plain", plain), ("hidden", hidden)):
        size = (tmp_path / f"{name}.zip").stat().st_size
        with capsys.disabled():
            print(f"\n{name}: {size >> 10} KiB, {answer['decisions']} decisions, {answer['identical']} identical")
        assert answer["different"] == answer["not_replayable"] == 0, answer["listed"][:3]
        assert answer["decisions"] >= len(sizes)
        assert answer["complete"]
