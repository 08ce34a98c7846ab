"""Workload classes: on which nodes the shipped ones allow pods, errors in their file, and its changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.cli.admission_policies import render
from extender.decision.state.changes import ClassesSeen, TelemetrySeen, TopologySeen
from extender.decision.state.fold.reducer import fold, fold_all
from extender.decision.state.snapshot import Snapshot
from extender.errors import SettingsError
from extender.scheduling.cluster_store import ClusterStore
from extender.sources.class_file import ClassFile, load_classes
from extender.telemetry.readings import DeviceReading
from tests.checkout import ROOT
from tests.decision.verdicts.test_decision import ask, machine
from tests.decision.verdicts.test_telemetry_decisions import machine as with_uuids
from tests.node_state.shared_nodes import shared_node, slices
from tests.objects import GPU, node, pod, snapshot
from tests.pod_request.refusals import refusal
from tests.waiting import wait
from topology.gputopology.topology_record import TopologyRecord

CLASSES = load_classes(ROOT / "config/workload-classes.yaml")
WHOLE, SLICED, TURNS, SHARES = "hgx-h100", "mig", "time-sliced", "mps"


def renamed(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    manifest["metadata"]["name"] = name
    return manifest


def everything() -> Snapshot:
    """One node of every kind. There is telemetry for the nodes with whole GPUs, except `hgx-h100-blind`."""
    mixed = node("mig-mixed", 0)
    mixed["status"]["allocatable"]["nvidia.com/mig-1g.5gb"] = mixed["status"]["capacity"]["nvidia.com/mig-1g.5gb"] = "7"
    state = snapshot(
        node("hgx-h100", 8), node("hgx-h100-blind", 8), node("dgx-a100", 8), node("l40s", 4), mixed,
        renamed(shared_node(4, 1, gpu__product="Tesla-T4-SHARED"), "time-sliced"),
        renamed(shared_node(10, 1, **{"gpu__sharing-strategy": "mps"}), "mps"),
        renamed(shared_node(7, 7, gpu__product="NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"), "mig-single"),
    )  # fmt: skip
    platforms = {"hgx-h100": "hgx-h100", "hgx-h100-blind": "hgx-h100", "dgx-a100": "dgx-a100", "l40s": "l40s"}
    changes: list[Any] = [ClassesSeen(CLASSES)]
    for name, platform in platforms.items():
        record = with_uuids(platform, name)
        changes.append(TopologySeen(name, TopologyRecord(name, record)))
        if name != "hgx-h100-blind":
            free = {gpu.index: gpu.memory_bytes or 0 for gpu in record.gpus}
            found = tuple(DeviceReading(f"GPU-{name}-{n}", fb_used_bytes=0, fb_free_bytes=size, xid=0) for n, size in free.items())
            changes.append(TelemetrySeen(name, 0.0, found, (), (), "test"))
    return fold_all(state, changes, GPU)


def asks(size: int, name: str | None, **more: str) -> dict[str, Any]:
    keys = {f"fabricwise.dev/{key.replace('_', '-')}": value for key, value in more.items()}
    return pod(size, annotations=keys | ({"fabricwise.dev/workload-class": name} if name else {}))


BOARDS = {"hgx-h100", "hgx-h100-blind", "dgx-a100", "l40s"}
# (class, GPUs) -> nodes it may land on
LANDS: dict[tuple[str, int], set[str]] = {
    ("small-shared-inference", 1): BOARDS | {"time-sliced", "mps", "mig-single"},
    ("batch-inference", 1): BOARDS | {"mig-single"},
    ("notebook", 1): {"time-sliced", "mps", "mig-single"},
    ("full-gpu-production-inference", 1): BOARDS - {"hgx-h100-blind"},
    ("full-gpu-production-inference", 4): BOARDS - {"hgx-h100-blind"},
    ("large-model-production-inference", 4): {"hgx-h100"},
    ("fine-tuning", 4): BOARDS,
}


@pytest.mark.parametrize(("name", "size"), LANDS)
def test_pod_of_each_shipped_class_is_placed_only_on_nodes_that_the_class_allows(name: str, size: int) -> None:
    answer = ask(everything(), asks(size, name))
    assert {row["node"] for row in answer["nodes"] if row["feasible"]} == LANDS[name, size]


def test_every_shipped_class_is_tested() -> None:
    assert {name for name, _ in LANDS} == set(CLASSES)


def test_each_node_that_a_class_excludes_has_its_own_reason() -> None:
    answer = ask(everything(), asks(4, "large-model-production-inference"))
    reasons = {row["node"]: row["rejection"]["reason"] for row in answer["nodes"] if not row["feasible"]}
    assert reasons == {
        "hgx-h100-blind": "GPU telemetry is unknown and the pod's class requires it",
        "dgx-a100": "GPU memory class is none the pod allows",
        "l40s": "GPU memory class is none the pod allows",
        "mig-mixed": "node has fewer GPUs than the pod requests",
        "time-sliced": "node shares its GPUs in a way the pod does not allow",
        "mps": "node shares its GPUs in a way the pod does not allow",
        "mig-single": "node shares its GPUs in a way the pod does not allow",
    }


def test_class_applies_to_mig_devices_under_resource_names_of_their_own() -> None:
    state = everything()
    for name, expected in (("notebook", None), ("fine-tuning", "node shares its GPUs in a way the pod does not allow")):
        found = refusal(state, slices("nvidia.com/mig-1g.5gb", 1, workload_class=name), "mig-mixed")
        assert (found[0] if found else None) == expected


def test_stricter_of_pod_and_class_applies_and_a_contradiction_is_rejected() -> None:
    state = everything()
    assert refusal(state, asks(1, "small-shared-inference", sharing="mps"), "time-sliced") is not None
    assert refusal(state, asks(1, "small-shared-inference", sharing="mps"), "mps") is None
    assert refusal(state, asks(4, "fine-tuning", sharing="mig"), "hgx-h100") == (
        "pod asks for what its workload class does not allow",
        False,
    )
    assert refusal(state, asks(4, "large-model-production-inference", min_busbw="400"), "hgx-h100") == (
        "bandwidth floor out of reach",
        False,
    )


def test_unknown_class_is_rejected_unless_no_classes_are_loaded() -> None:
    assert refusal(everything(), asks(1, "large-models"), "hgx-h100") == ("pod names a workload class that is not defined", False)
    assert refusal(snapshot(*machine("n", "hgx-h100")), asks(1, "large-models")) is None


def test_class_restricts_pools_and_products_but_an_unknown_product_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(
        yaml.safe_dump({"classes": [{"name": "prod", "pools": [{"pool": "gold", "zone": "a"}, {"pool": "silver"}], "products": ["H100"]}]})
    )
    made = {n: node(n, 8, p, labels=labels) for n, p, labels in (
        ("gold", "NVIDIA-H100-80GB-HBM3", {"pool": "gold", "zone": "a"}),
        ("other-zone", "NVIDIA-H100-80GB-HBM3", {"pool": "gold", "zone": "b"}),
        ("silver", "NVIDIA-H100-80GB-HBM3", {"pool": "silver"}), ("wrong", "NVIDIA-A100-SXM4-80GB", {"pool": "silver"}),
        ("unlabelled", None, {"pool": "silver"}),
    )}  # fmt: skip
    state = fold(snapshot(*made.values()), ClassesSeen(load_classes(path)), GPU)
    assert refusal(state, asks(1, "prod"), "gold") is None
    assert refusal(state, asks(1, "prod"), "silver") is None
    assert refusal(state, asks(1, "prod"), "unlabelled") is None, "unknown is not refused"
    assert refusal(state, asks(1, "prod"), "other-zone") == ("node is in no pool of the pod's workload class", False)
    assert refusal(state, asks(1, "prod"), "wrong") == ("GPU product is none the pod's workload class allows", False)


def test_weights_of_a_class_replace_the_settings() -> None:
    row = ask(everything(), asks(1, "batch-inference"))["nodes"][0]
    assert {name: score["weight"] for name, score in row["scores"].items()} == {
        "link": 0.5, "fragmentation": 0.4, "memory": 0.1, "pressure": 0.05
    }  # fmt: skip


WRONG = {
    "classes: [{name: Big}]": "name",
    "classes: [{name: a}, {name: a}]": "class a is defined twice",
    "classes: [{name: a, sharing: []}]": "class a: ",
    "classes: [{name: a, sharing: [half]}]": "class a: ",
    "classes: [{name: a, min_link: warp}]": "class a: ",
    "classes: [{name: a, memory_classes_gb: [79]}]": "class a: memory_classes_gb 79 is none of",
    "classes: [{name: a, weights: {linc: 1}}]": "linc",
    "classes: [{name: a, pools: [{}]}]": "a pool without labels would be every node",
    "kinds: []": "kinds",
    "": "expected one document",
    "a: [": "neither JSON nor YAML",
}


@pytest.mark.parametrize("text", WRONG)
def test_error_in_the_classes_file_names_file_and_class(tmp_path: Path, text: str) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(Exception, match=r"workload classes .*classes\.yaml") as error:
        load_classes(path)
    assert WRONG[text] in str(error.value)


def test_changed_classes_file_is_read_again_and_a_malformed_one_is_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text("classes: [{name: a}]")
    store = ClusterStore(GPU)
    file = ClassFile(path, store)
    file.start()
    assert set(store.snapshot.classes) == {"a"}
    path.write_text("classes: [{name: b}]")
    wait("b read", lambda: set(store.snapshot.classes) == {"b"})
    path.write_text("classes: [{name: B!}]")
    wait("the malformed file read", lambda: any(record.levelname == "ERROR" for record in caplog.records))
    assert set(store.snapshot.classes) == {"b"}
    file.stop()
    with pytest.raises(SettingsError):
        ClassFile(tmp_path / "nowhere.yaml", store)


def test_admission_policies_name_every_class_and_can_omit_mutation() -> None:
    manifests = render(CLASSES, "gpu-scheduler")
    assert [one["kind"] for one in manifests] == [
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding",
    ]  # fmt: skip
    assert all(name in manifests[0]["spec"]["validations"][0]["message"] for name in CLASSES)
    assert len(render(CLASSES, "gpu-scheduler", None)) == 2
