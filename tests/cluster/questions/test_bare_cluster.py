"""Commands that read a cluster once, against a real API server on which nothing of Fabricwise is installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.sources.simulated import cluster_machines, node_manifest
from tests.checkout import ROOT
from tests.cluster.fleets.fleet import pod
from tests.cluster.processes.control_plane import ControlPlane, wait_for
from tests.cluster.processes.one_shot import run
from tests.cluster.processes.required_binaries import require_binaries
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord

pytestmark = pytest.mark.cluster
MODEL = {"layers": 2, "hidden_size": 64, "attention_heads": 4, "kv_heads": 4, "head_size": 16, "parameters": 1_000_000}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with two GPU nodes and two pods, and no CRD, role or Lease of Fabricwise."""
    require_binaries()
    plane = ControlPlane(tmp_path_factory.mktemp("bare"))
    try:
        for name, machine in MACHINES.items():
            node = node_manifest(name, machine)
            plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": node["metadata"]})
            plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": node["status"]}, "status")
        holder = pod("holder", 2)
        holder["spec"]["nodeName"] = NODE
        plane.apply(holder)
        plane.apply(pod("waiting", 2))
        yield plane
    finally:
        plane.close()


MACHINES = cluster_machines({"hgx-h100": 1, "l40s": 1})
NODE = next(iter(MACHINES))


def commands(folder: Path) -> dict[str, list[str]]:
    """Every command that reads a cluster once. The settings switch the Lease off, as for a single replica without rights to Leases."""
    wanted, unleased = folder / "pod.yaml", folder / "unleased.yaml"
    wanted.write_text(yaml.safe_dump(pod("new", 2)))
    unleased.write_text("lease: {enabled: false}\n")
    return {
        "explain": ["explain", str(wanted), "--cluster", "kube", "-o", "json", "--config", str(unleased)],
        "doctor": ["doctor", "-o", "json", "--config", str(unleased)],
        "node": ["node", NODE, "-o", "json", "--config", str(unleased)],
        "fit": ["fit", "--model", json.dumps(MODEL), "--cluster", "kube", "-o", "json"],
        "dump": ["dump"],
        "slots": ["slots", "-o", "json"],
        "defrag": ["defrag", "--size", "8", "-o", "json"],
    }


def written(plane: ControlPlane) -> list[str]:
    """Return the Leases and events of Fabricwise, and the resourceVersions of all pods."""
    leases = plane.client.get("/apis/coordination.k8s.io/v1/leases").json()["items"]
    events = plane.client.get("/api/v1/events").json()["items"]
    return [
        *(lease["metadata"]["name"] for lease in leases if lease["metadata"]["name"] == "fabricwise"),
        *(event["reason"] for event in events if event["source"].get("component") == "fabricwise"),
        *(f"{name} {found['metadata']['resourceVersion']}" for name, found in plane.pods().items()),
    ]


def test_every_command_succeeds_before_anything_is_installed_and_writes_nothing(bare: ControlPlane, tmp_path: Path) -> None:
    before = written(bare)
    answers: dict[str, Any] = {}
    for name, arguments in commands(tmp_path).items():
        status, out, err = run(bare, *arguments)
        assert status in ((0, 1) if name in ("doctor", "node") else (0,)), f"{name}: {err}"
        assert "warning" not in err, name
        answers[name] = json.loads(out)
    assert answers["explain"]["chosen"] in MACHINES
    assert {card["node"] for card in answers["doctor"]["nodes"]} == set(MACHINES)
    assert answers["node"]["node"] == NODE
    free = {row["node"]: row["free_now"] for row in answers["fit"]["nodes"]}
    assert free[NODE] == len(MACHINES[NODE].gpus) - 2, "the bound pod holds two"
    assert [item["kind"] for item in answers["dump"]["items"]] == ["Node", "Node", "Pod", "Pod"]
    assert answers["slots"]["total"]["idle_gpus"] == sum(len(machine.gpus) for machine in MACHINES.values()) - 2
    assert [entry["reason"] for entry in answers["defrag"]["left_out"]] == ["no controller recreates it"]
    assert written(bare) == before


def test_a_dump_of_the_cluster_answers_as_the_cluster_does(bare: ControlPlane, tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    assert run(bare, "dump", "-o", str(file))[0] == 0
    wanted = commands(tmp_path)["explain"][1]
    store, dumped = (json.loads(run(bare, "explain", wanted, "--cluster", cluster, "-o", "json")[1]) for cluster in ("kube", str(file)))
    assert [dumped.pop("cluster"), store.pop("cluster")] == [f"the dump {file}", f"the cluster at {bare.url} (context test)"]
    assert dumped == store


def test_account_that_may_only_list_nodes_gets_an_answer_with_what_was_not_read(bare: ControlPlane, tmp_path: Path) -> None:
    api = "rbac.authorization.k8s.io"
    policy = [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}]
    bare.apply({"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": {"name": "nodes-only"}, "rules": policy})
    subject = {"kind": "ServiceAccount", "name": "fabricwise", "namespace": "fabricwise-system"}
    role = {"apiGroup": api, "kind": "ClusterRole", "name": "nodes-only"}
    binding = {"apiVersion": f"{api}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "nodes-only"}}
    bare.apply(binding | {"subjects": [subject], "roleRef": role})
    wait_for("the role is in force", lambda: run(bare, "dump", account="fabricwise")[0] == 0)
    for name, arguments in commands(tmp_path).items():
        status, out, err = run(bare, *arguments, account="fabricwise")
        assert status in ((0, 1) if name in ("doctor", "node") else (0,)), f"{name}: {err}"
        assert "pods cannot be listed" in err, name
        assert "gputopologies cannot be listed" in err, name
        assert json.loads(out)["unread"], name


def test_account_that_may_list_nothing_gets_one_line(bare: ControlPlane, tmp_path: Path) -> None:
    for name, arguments in commands(tmp_path).items():
        status, out, err = run(bare, *arguments, account="gpu-scheduler")
        lines = [line for line in err.splitlines() if line.startswith("error:")]
        assert (status, out, len(lines)) == (3, "", 1), name
        assert "nodes cannot be listed" in lines[0], name


def test_a_node_with_a_gputopology_is_shown_and_dumped(bare: ControlPlane, tmp_path: Path) -> None:
    for manifest in yaml.safe_load_all((ROOT / "manifests/crd/gputopologies.yaml").read_text()):
        bare.apply(manifest)
    path = "/apis/fabricwise.dev/v1alpha1/gputopologies"
    wait_for("the CRD served", lambda: bare.client.get(path).status_code == 200)
    try:
        manifest = encode(TopologyRecord(NODE, MACHINES[NODE], DeviceStatus(None, (), (), 1.0)))
        wait_for("the CRD discovered", lambda: bare.apply({key: manifest[key] for key in ("apiVersion", "kind", "metadata", "spec")}))
        status, out, err = run(bare, "topo", "show", NODE, "--cluster", "kube", "-o", "json")
        assert status == 0, err
        assert len(json.loads(out)["gpus"]) == len(MACHINES[NODE].gpus)
        kinds = [item["kind"] for item in json.loads(run(bare, "dump")[1])["items"]]
        assert kinds.count("GpuTopology") == 1
    finally:
        bare.client.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gputopologies.fabricwise.dev")
