"""Pods beside the workloads: the parts of the GPU stack that run on a node, and guests that ask for no GPU. Pure."""

from __future__ import annotations

import msgspec

from extender.decision.objects import Pod

COMPONENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "driver": (("app", "nvidia-driver-daemonset"),),
    "toolkit": (("app", "nvidia-container-toolkit-daemonset"),),
    "device-plugin": (
        ("app", "nvidia-device-plugin-daemonset"), ("app.kubernetes.io/name", "nvidia-device-plugin"), ("name", "nvidia-device-plugin-ds"),
    ),
    "gfd": (("app", "gpu-feature-discovery"), ("app.kubernetes.io/name", "gpu-feature-discovery")),
    "dcgm-exporter": (("app", "nvidia-dcgm-exporter"), ("app.kubernetes.io/name", "dcgm-exporter")),
    "validator": (("app", "nvidia-operator-validator"),),
    "mig-manager": (("app", "nvidia-mig-manager"),),
    "dra-driver": (("nvidia-dra-driver-gpu-component", "kubelet-plugin"), ("app.kubernetes.io/name", "nvidia-dra-driver-gpu")),
}  # fmt: skip
"""Component -> labels its pods carry, any of them: the GPU Operator's, the Helm charts', NVIDIA's static manifest's."""


class Resident(msgspec.Struct, frozen=True, gc=False):
    """A pod on a node that holds no GPU."""

    node: str
    full_name: str
    component: str | None
    """A name of `COMPONENTS`; None: a guest."""
    ready: bool
    daemon: bool
    """Whether a DaemonSet or the kubelet itself put it there: it belongs to the node."""


def resident(pod: Pod) -> Resident | None:
    """A bound pod that has not ended, as a resident; who holds GPUs is none, unless he is a component."""
    status = pod.status
    if not pod.spec.node_name or (status is not None and status.phase in ("Succeeded", "Failed")):
        return None
    labels = pod.metadata.labels or {}
    component = next((name for name, told in COMPONENTS.items() if any(labels.get(key) == value for key, value in told)), None)
    conditions = {one.type: one.status for one in (status.conditions or () if status else ())}
    owners = {owner.kind for owner in pod.metadata.owner_references or ()}
    full_name = f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"
    ready = status is not None and status.phase == "Running" and conditions.get("Ready") == "True"
    return Resident(pod.spec.node_name, full_name, component, ready, bool(owners & {"DaemonSet", "Node"}))
