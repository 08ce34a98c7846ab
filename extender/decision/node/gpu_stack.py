"""Pods that hold no GPU: the parts of the GPU stack that run on a node, and all others."""

from __future__ import annotations

import msgspec

from extender.decision.request.kubernetes_objects import Pod

COMPONENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "driver": (("app", "nvidia-driver-daemonset"),),
    "toolkit": (("app", "nvidia-container-toolkit-daemonset"),),
    "device-plugin": (
        ("app", "nvidia-device-plugin-daemonset"),
        ("app.kubernetes.io/name", "nvidia-device-plugin"),
        ("name", "nvidia-device-plugin-ds"),
    ),
    "gfd": (("app", "gpu-feature-discovery"), ("app.kubernetes.io/name", "gpu-feature-discovery")),
    "dcgm-exporter": (("app", "nvidia-dcgm-exporter"), ("app.kubernetes.io/name", "dcgm-exporter")),
    "validator": (("app", "nvidia-operator-validator"),),
    "mig-manager": (("app", "nvidia-mig-manager"),),
    "dra-driver": (("nvidia-dra-driver-gpu-component", "kubelet-plugin"), ("app.kubernetes.io/name", "nvidia-dra-driver-gpu")),
}
"""Component -> labels, any of which its pods carry: those of the GPU Operator, of the Helm charts and of NVIDIA's static manifests."""


class NonGpuPod(msgspec.Struct, frozen=True, gc=False):
    """A pod on a node that holds no GPU."""

    node: str
    full_name: str
    component: str | None
    """A name of `COMPONENTS`; None where it is no part of the GPU stack."""
    ready: bool
    daemon: bool
    """Whether a DaemonSet or the node itself (a static pod) owns it: it is part of the node, not a workload."""


def non_gpu_pod(pod: Pod) -> NonGpuPod | None:
    """Return a pod that requests no GPU as `NonGpuPod`; None where it is not bound or has ended."""
    status = pod.status
    if not pod.spec.node_name or (status is not None and status.phase in ("Succeeded", "Failed")):
        return None
    labels = pod.metadata.labels or {}
    component = next((name for name, pairs in COMPONENTS.items() if any(labels.get(key) == value for key, value in pairs)), None)
    conditions = {condition.type: condition.status for condition in (status.conditions or () if status else ())}
    owners = {owner.kind for owner in pod.metadata.owner_references or ()}
    full_name = f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"
    ready = status is not None and status.phase == "Running" and conditions.get("Ready") == "True"
    return NonGpuPod(pod.spec.node_name, full_name, component, ready, bool(owners & {"DaemonSet", "Node"}))
