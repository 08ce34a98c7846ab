"""The agent's manifests on a real API server and scheduler: no warning, and a pod on every node with NVIDIA GPUs whatever its taints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.checkout import ROOT
from tests.cluster.processes.control_plane import ControlPlane, wait_for
from tests.cluster.processes.kustomize_base import base_objects
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.manifest_fields import MAX_REASON_LENGTH
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.platforms import machine_of

pytestmark = pytest.mark.cluster
FOLDERS = ("base", "agent", "bind", "steering")
SCHEDULER = "plain-for-agents"


@pytest.mark.parametrize("folder", FOLDERS)
def test_applying_a_kustomization_gives_no_warning(plane: ControlPlane, folder: str) -> None:
    """The API server sends a `Warning` header, which kubectl prints, for a pod template that PodSecurity would refuse or warn of."""
    warnings: dict[str, str] = {}
    for manifest in base_objects(ROOT / "manifests" / folder):
        response = plane.client.patch(
            plane.path(manifest),
            params={"fieldManager": "tests", "force": "true", "dryRun": "All"},
            content=yaml.safe_dump(manifest),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        assert response.status_code in (200, 201), response.text
        if "Warning" in response.headers:
            warnings[f"{manifest['kind']} {manifest['metadata']['name']}"] = response.headers["Warning"]
    assert warnings == {}


def test_a_pod_that_the_agents_namespace_forbids_elsewhere_gives_a_warning_there(plane: ControlPlane) -> None:
    """The API server enforces PodSecurity: the same DaemonSet in the extender's namespace causes a warning."""
    daemonset = agent_daemonset()
    daemonset["metadata"]["namespace"] = "fabricwise-system"
    response = plane.client.post("/apis/apps/v1/namespaces/fabricwise-system/daemonsets", params={"dryRun": "All"}, json=daemonset)
    assert response.status_code == 201, response.text
    assert "hostPath" in response.headers["Warning"]


def agent_daemonset() -> dict[str, Any]:
    return next(manifest for manifest in base_objects(ROOT / "manifests/agent") if manifest["kind"] == "DaemonSet")


def test_schema_and_decoder_have_the_same_bound_for_a_reason(plane: ControlPlane) -> None:
    path = "/apis/fabricwise.dev/v1alpha1/gputopologies"
    manifest = encode(TopologyRecord("bounded", machine_of("t4"), DeviceStatus(allocations_unknown="x" * MAX_REASON_LENGTH)))
    spec, status = ({key: manifest[key] for key in ("apiVersion", "kind", "metadata", part)} for part in ("spec", "status"))
    plane.apply(spec)
    try:
        plane.apply(status, "status")
        status["status"]["allocationsUnknown"] += "x"
        headers = {"Content-Type": "application/merge-patch+json"}
        refused = plane.client.patch(f"{path}/bounded/status", json={"status": status["status"]}, headers=headers)
        assert refused.status_code == 422
        assert "allocationsUnknown" in refused.text
    finally:
        plane.client.delete(f"{path}/bounded")


GFD = {"nvidia.com/gpu.present": "true"}
TAINTS: dict[str, list[dict[str, str]]] = {
    "no taint": [],
    "nvidia.com/gpu": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}],
    "accelerator=nvidia:NoSchedule": [{"key": "accelerator", "value": "nvidia", "effect": "NoSchedule"}],
    "dedicated:NoExecute": [{"key": "dedicated", "value": "ml", "effect": "NoExecute"}],
    "two taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "value": "c", "effect": "NoExecute"}],
}
LABELS: dict[str, tuple[dict[str, str], bool]] = {
    "GPU feature discovery": (GFD, True),
    "NFD as the GPU Operator sets it up": ({"feature.node.kubernetes.io/pci-10de.present": "true"}, True),
    "NFD as it is by default, data centre GPU": ({"feature.node.kubernetes.io/pci-0302_10de.present": "true"}, True),
    "NFD as it is by default, display GPU": ({"feature.node.kubernetes.io/pci-0300_10de.present": "true"}, True),
    "GKE": ({"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}, True),
    "AKS": ({"kubernetes.azure.com/accelerator": "nvidia"}, True),
    "Karpenter on AWS": ({"karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia"}, True),
    "AKS, AMD": ({"kubernetes.azure.com/accelerator": "amd"}, False),
    "Karpenter on AWS, Habana": ({"karpenter.k8s.aws/instance-gpu-manufacturer": "habana"}, False),
    "GFD, no GPU": ({"nvidia.com/gpu.present": "false"}, False),
    "a node without GPUs": ({}, False),
}


@pytest.fixture(scope="module")
def scheduling(plane: ControlPlane) -> Iterator[None]:
    """A kube-scheduler without extender, and the RuntimeClass that the agent's pods name."""
    plane.apply({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"})
    configuration = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
    election = {"leaderElection": {"leaderElect": False}, "profiles": [{"schedulerName": SCHEDULER}]}
    scheduler = plane.start_scheduler(SCHEDULER, configuration | election, "admin")
    yield
    scheduler.stop()
    plane.client.delete("/apis/node.k8s.io/v1/runtimeclasses/nvidia")


def lands(plane: ControlPlane, labels: dict[str, str], taints: list[dict[str, str]]) -> bool:
    """Whether kube-scheduler binds a pod of the agent's DaemonSet to a node with those labels and taints."""
    labels = labels | {"kubernetes.io/hostname": "candidate", "kubernetes.io/os": "linux"}
    plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "candidate", "labels": labels}, "spec": {"taints": taints}})
    room = {"cpu": "4", "memory": "8Gi", "pods": "10"}
    plane.apply(
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "candidate"}, "status": {"allocatable": room, "capacity": room}}, "status"
    )
    template = agent_daemonset()["spec"]["template"]
    spec = template["spec"] | {"schedulerName": SCHEDULER}
    spec["nodeSelector"] = spec.get("nodeSelector", {}) | {"kubernetes.io/hostname": "candidate"}
    path = "/api/v1/namespaces/fabricwise-agent/pods"
    made = plane.client.post(path, json={"metadata": {"name": "agent-candidate", "labels": template["metadata"]["labels"]}, "spec": spec})
    assert made.status_code == 201, made.text

    def decided() -> str | None:
        pod = plane.client.get(f"{path}/agent-candidate").json()
        if pod["spec"].get("nodeName"):
            return "bound"
        conditions = pod["status"].get("conditions", [])
        return "refused" if any(one["type"] == "PodScheduled" and one["status"] == "False" for one in conditions) else None

    try:
        return bool(wait_for("the scheduler's decision", decided) == "bound")
    finally:
        plane.client.delete(f"{path}/agent-candidate", params={"gracePeriodSeconds": "0"})
        plane.client.delete("/api/v1/nodes/candidate")


@pytest.mark.usefixtures("scheduling")
@pytest.mark.parametrize("case", TAINTS)
def test_gpu_node_with_any_taint_gets_an_agent(plane: ControlPlane, case: str) -> None:
    assert lands(plane, GFD, TAINTS[case])


@pytest.mark.usefixtures("scheduling")
@pytest.mark.parametrize("case", LABELS)
def test_the_labels_by_which_nodes_with_nvidia_gpus_are_found(plane: ControlPlane, case: str) -> None:
    labels, found = LABELS[case]
    assert lands(plane, labels, []) is found
