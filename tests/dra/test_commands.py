"""`explain`, `node` and `doctor` on a dump of a cluster whose nodes Dynamic Resource Allocation serves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from extender.sources.dump_fields import dump_fields
from extender.sources.simulated import SimulatedCluster, cluster_machines
from extender.sources.simulated_dra import claim_manifest, exact_request
from tests.cli.commands import Commands
from tests.dra.dra_objects import claim_pod
from tests.objects import pod

DRA_NODE = "hgx-h100-0"


@pytest.fixture
def fabricwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(monkeypatch, capsys)


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A dump with one DRA node, of which a pod holds two GPUs, one node with a device plugin, and a claim that is not allocated."""
    cluster = SimulatedCluster(cluster_machines({"hgx-h100": 1, "t4": 1}), dra=frozenset({DRA_NODE}))
    cluster.bind(pod(2, name="other"), DRA_NODE)
    manifests = [*cluster.manifests(), claim_manifest("mine", [exact_request(4)], "team")]
    items = [dump_fields(manifest["kind"], manifest.get("apiVersion", "v1"), manifest) for manifest in manifests]
    path = tmp_path / "dump.json"
    path.write_text(json.dumps({"kind": "List", "items": items}))
    return path


@pytest.mark.parametrize("kind", ["extended resource", "claim"])
def test_explain_predicts_the_set_that_the_allocator_chooses(fabricwise: Commands, dump: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(pod(4, name="new") if kind == "extended resource" else claim_pod("mine")))
    ended = fabricwise("explain", str(path), "--cluster", str(dump), "-o", "json")
    assert ended.status == 0, ended.err
    answer = json.loads(ended.out)
    assert answer["chosen"] == DRA_NODE
    (row,) = [row for row in answer["nodes"] if row["node"] == DRA_NODE]
    assert [entry["gpus"] for entry in row["predicted"]] == [[2, 3, 4, 5]]


def test_explain_names_the_claims_of_a_pod_in_its_title(fabricwise: Commands, dump: Path, tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump(claim_pod("mine")))
    ended = fabricwise("explain", str(path), "--cluster", str(dump))
    assert "asks by claims for 4 of gpu.nvidia.com" in ended.out


def test_node_and_doctor_read_resource_slices(fabricwise: Commands, dump: Path) -> None:
    report = json.loads(fabricwise("node", DRA_NODE, "--cluster", str(dump), "-o", "json").out)
    checks = {check["check"]: check for check in report["checks"]}
    assert checks["advertised"]["evidence"] == "ResourceSlices name 8 GPUs, the agent 8"
    doctor = json.loads(fabricwise("doctor", "--cluster", str(dump), "-o", "json").out)
    assert DRA_NODE in json.dumps(doctor)
