"""A pod is bound within seconds after telemetry or a GpuTopology resolves its rejection, on a real kube-scheduler."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from extender.kube.writing.requeue_annotation import REQUEUED_AT
from extender.sources.simulated import node_manifest
from tests.checkout import ROOT
from tests.cluster.fleets.fleet import delete_pods, pod
from tests.cluster.processes.control_plane import ControlPlane, Extender, wait_for
from tests.decision.verdicts.test_telemetry_decisions import machine
from tests.exporters import Exporter, Values, dcgm_text, exporter, used
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord

pytestmark = pytest.mark.cluster
NODE = "wake-0"


@pytest.fixture(scope="module")
def values() -> dict[str, Values]:
    return {f"GPU-{NODE}-{n}": {} for n in range(4)}


@pytest.fixture(scope="module")
def target(values: dict[str, Values]) -> Iterator[Exporter]:
    with exporter(lambda: dcgm_text(values)) as running:
        yield running


@pytest.fixture(scope="module")
def extender(plane: ControlPlane, target: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Extender]:
    config = tmp_path_factory.mktemp("waking") / "extender.yaml"
    telemetry = {"interval_seconds": 0.5, "timeout_seconds": 2, "quiet_seconds": 1, "dcgm": {"port": target.port}}
    config.write_text(yaml.safe_dump({"telemetry": telemetry, "requeue": {"pod_pause_seconds": 0.5}}))
    extender = Extender(plane, "waking-extender", config)
    extender.wait_ready()
    configuration = yaml.safe_load((ROOT / "config/kube-scheduler.yaml").read_text())
    configuration["extenders"][0]["urlPrefix"] = f"{extender.url}/scheduler"
    configuration["leaderElection"] = {"leaderElect": False}
    configuration["profiles"] = [{"schedulerName": "waking-scheduler"}]
    scheduler = plane.start_scheduler("waking-scheduler", configuration, "gpu-scheduler")
    yield extender
    scheduler.stop()
    extender.process.stop()
    extender.close()


def publish(plane: ControlPlane, status: DeviceStatus) -> None:
    manifest = encode(TopologyRecord(NODE, machine("l40s", NODE), status))
    plane.apply({key: manifest[key] for key in ("apiVersion", "kind", "metadata", "spec")})
    plane.apply({key: manifest[key] for key in ("apiVersion", "kind", "metadata", "status")}, "status")


@pytest.fixture
def rig(plane: ControlPlane, extender: Extender, values: dict[str, Values]) -> Iterator[ControlPlane]:
    """The node, its GpuTopology, and its exporter's pod with the address of the test exporter."""
    node = node_manifest(NODE, machine("l40s", NODE))
    plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": node["metadata"]})
    plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "status": node["status"]}, "status")
    publish(plane, DeviceStatus(None, (), (), time.time()))
    exporting: dict[str, Any] = pod("exporter", 0)
    exporting["metadata"]["labels"] = {"app": "nvidia-dcgm-exporter"}
    exporting["spec"]["nodeName"] = NODE
    plane.apply(exporting)
    status = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
    plane.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "exporter", "namespace": "default"}, "status": status}, "status")
    wait_for("telemetry known", lambda: len(_devices(extender)) == 4)
    yield plane
    values.update({uuid: {} for uuid in values})
    delete_pods(plane)
    plane.client.delete(f"/api/v1/nodes/{NODE}")
    plane.client.delete(f"/apis/fabricwise.dev/v1alpha1/gputopologies/{NODE}")


def _devices(extender: Extender) -> list[dict[str, Any]]:
    response = extender.client.get(f"/v1/nodes/{NODE}")
    found: list[dict[str, Any]] = response.json()["telemetry"]["devices"] if response.status_code == 200 else []
    return found


def waiting(name: str, gpus: int) -> dict[str, Any]:
    """A pod for this node alone, because other tests leave nodes behind."""
    manifest = pod(name, gpus, "waking-scheduler")
    manifest["spec"]["nodeSelector"] = {"kubernetes.io/hostname": NODE}
    return manifest


def unschedulable(plane: ControlPlane, name: str, reason: str) -> bool:
    conditions = plane.pods()[name]["status"].get("conditions") or []
    return any(c["type"] == "PodScheduled" and c["status"] == "False" and reason in c.get("message", "") for c in conditions)


def seconds_to_bound(plane: ControlPlane, name: str) -> float:
    started = time.monotonic()
    wait_for(f"{name} bound", lambda: plane.node_of(name) == NODE, 30)
    return time.monotonic() - started


def test_freed_memory_binds_the_pod_within_seconds(rig: ControlPlane, extender: Extender, values: dict[str, Values]) -> None:
    values.update({uuid: used(60_000) for uuid in values})
    wait_for("memory seen", lambda: all(d["fb_used_bytes"] == 60_000 << 20 for d in _devices(extender)))
    rig.apply(waiting("starved", 2))
    wait_for("rejected", lambda: unschedulable(rig, "starved", "GPU memory is in use by processes unknown to Kubernetes"))
    time.sleep(12)  # longer than kube-scheduler's backoff, after which it does not try again by itself
    values.update({uuid: {} for uuid in values})
    took = seconds_to_bound(rig, "starved")
    print(f"memory freed to bound: {took:.1f} s")
    assert took < 10, "and not the five-minute flush"
    assert REQUEUED_AT in rig.pods()["starved"]["metadata"]["annotations"]


def test_unfenced_gpu_binds_the_pod_within_seconds(rig: ControlPlane, extender: Extender, values: dict[str, Values]) -> None:
    values[f"GPU-{NODE}-1"] = {"DCGM_FI_DEV_XID_ERRORS": 79}
    wait_for("fenced", lambda: any(d["fenced"] for d in _devices(extender)))
    rig.apply(waiting("fenced", 4))
    wait_for("rejected", lambda: unschedulable(rig, "fenced", "GPU reports a fatal XID error"))
    values[f"GPU-{NODE}-1"] = {}
    assert seconds_to_bound(rig, "fenced") < 15


def test_healthy_gpus_in_a_topology_bind_the_pod_within_seconds(rig: ControlPlane) -> None:
    publish(rig, DeviceStatus(None, (), tuple((n, "Xid 79") for n in range(4)), time.time()))
    time.sleep(1)
    rig.apply(waiting("sick", 2))
    wait_for("rejected", lambda: unschedulable(rig, "sick", "too few healthy GPUs"))
    publish(rig, DeviceStatus(None, (), (), time.time()))
    assert seconds_to_bound(rig, "sick") < 15


def test_extender_may_patch_only_the_requeue_annotation(rig: ControlPlane) -> None:
    rig.apply(pod("victim", 0, "nobody"))
    config = yaml.safe_load(rig.kubeconfig("fabricwise").read_text())
    token = config["users"][0]["user"]["token"]
    url = f"{rig.url}/api/v1/namespaces/default/pods/victim"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"}

    def patch(body: dict[str, Any]) -> httpx.Response:
        return httpx.patch(url, json=body, headers=headers, verify=False, timeout=10)

    def refused(body: dict[str, Any]) -> bool:
        response = patch(body)
        return response.status_code == 403 and "the extender may" in response.text

    wait_for("the policy in force", lambda: refused({"metadata": {"labels": {"app": "mine"}}}))
    assert patch({"metadata": {"annotations": {REQUEUED_AT: "now"}}}).status_code == 200
    assert refused({"metadata": {"annotations": {"other": "x"}}})
    containers = rig.pods()["victim"]["spec"]["containers"]
    assert refused({"spec": {"containers": [containers[0] | {"image": "evil"}]}})
    assert refused({"spec": {"activeDeadlineSeconds": 1}})
    assert refused({"metadata": {"finalizers": ["example.com/mine"]}})
