"""The report of a node in the GPU Operator's DRA mode: it is judged by what it should have there."""

from __future__ import annotations

from typing import Any

from extender.decision.report.checks.node_checks import node_report
from extender.decision.state.snapshot import Snapshot
from extender.sources.simulated_dra import allocated, claim_manifest, class_manifest, exact_request, slice_manifests
from extender.telemetry.conditions import TUNING
from tests.dra.dra_objects import bare_node, cluster, topology_of
from tests.objects import GPU, snapshot
from topology.platforms import machine_of


def checks(state: Snapshot) -> dict[str, tuple[str, str]]:
    """Check -> (status, evidence) of node n."""
    found = node_report("n", state, GPU, TUNING)
    assert found is not None
    return {one["check"]: (one["status"], one["evidence"]) for one in found["checks"]}


def component(name: str, **labels: str) -> dict[str, Any]:
    """A pod of the GPU stack on node n."""
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    meta = {"name": name, "namespace": "gpu-operator", "uid": name, "labels": labels, "ownerReferences": [{"kind": "DaemonSet"}]}
    return {"kind": "Pod", "metadata": meta, "spec": {"nodeName": "n", "containers": [{"name": "c"}]}, "status": status}


def test_node_in_dra_mode_needs_neither_device_plugin_nor_gfd_nor_validator() -> None:
    driver = component("dra", **{"nvidia-dra-driver-gpu-component": "kubelet-plugin"})
    elsewhere = [
        component(name, app=app) for name, app in (("plugin", "nvidia-device-plugin-daemonset"), ("v", "nvidia-operator-validator"))
    ]
    for one in elsewhere:
        one["spec"]["nodeName"] = "another"
    found = checks(cluster(driver, *elsewhere))
    assert found["components"] == ("pass", "ready: dra-driver")
    assert found["advertised"] == ("pass", "ResourceSlices name 8 GPUs, the agent 8")
    assert found["labelled"][0] == "pass"
    assert found["validated"][0] == "unknown"


def test_slices_that_miss_a_gpu_fail_the_node() -> None:
    machine = machine_of("hgx-h100", "n")
    state = snapshot(bare_node("n"), topology_of("n", machine), *slice_manifests("n", machine, range(7)), class_manifest())
    assert checks(state)["advertised"] == ("fail", "ResourceSlices name 7 GPUs, the agent 8")


def test_class_that_cannot_be_evaluated_fails_the_node_by_name() -> None:
    machine = machine_of("hgx-h100", "n")
    state = snapshot(bare_node("n"), topology_of("n", machine), *slice_manifests("n", machine), class_manifest(expression="1 +"))
    status, evidence = checks(state)["advertised"]
    assert status == "fail"
    assert "DeviceClass gpu.nvidia.com" in evidence


def test_no_class_for_the_resource_is_a_warning() -> None:
    machine = machine_of("hgx-h100", "n")
    state = snapshot(bare_node("n"), topology_of("n", machine), *slice_manifests("n", machine), class_manifest(resource=None))
    assert checks(state)["advertised"][0] == "warn"


def test_claim_that_holds_a_vanished_device_is_a_warning() -> None:
    held = allocated(claim_manifest("held", [exact_request()], "team"), "n", ["gpu-99"], [("uid", "other")])
    status, evidence = checks(cluster(held))["advertised"]
    assert status == "warn"
    assert "claim team/held holds gpu-99 of pool n" in evidence


def test_tainted_device_fails_the_health_check_by_its_name() -> None:
    machine = machine_of("hgx-h100", "n")
    (one,) = slice_manifests("n", machine)
    one["spec"]["devices"][2]["taints"] = [{"key": "gpu.nvidia.com/gpu-lost", "value": "true", "effect": "NoExecute"}]
    state = snapshot(bare_node("n"), topology_of("n", machine), one, class_manifest())
    assert checks(state)["healthy"] == ("fail", "device gpu-2: taint gpu.nvidia.com/gpu-lost=true:NoExecute")
