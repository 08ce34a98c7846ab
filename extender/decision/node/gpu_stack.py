"""Pods that hold no GPU: the parts of the GPU stack that run on a node, and all others."""

from __future__ import annotations

import sys
from collections.abc import Mapping

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
    """A pod on a node that holds no GPU. It has no field that nothing reads: a cluster has many of them, and their status changes often."""

    node: str
    full_name: str
    component: str | None
    """A name of `COMPONENTS`; None for a workload without GPUs."""
    ready: bool | None
    """Whether a component is ready; None for a workload, of which nothing reads it."""


def non_gpu_pod(pod: Pod) -> NonGpuPod | None:
    """Return a pod that requests no GPU as `NonGpuPod`.

    None where it is not bound or has ended, and for a pod of a DaemonSet or of the node itself (a static pod) that is no component of the
    GPU stack: it is part of the node, and nothing reads it.
    """
    status = pod.status
    if not pod.spec.node_name or (status is not None and status.phase in ("Succeeded", "Failed")):
        return None
    labels = pod.metadata.labels
    component = _component(labels) if labels else None
    if component is None and any(owner.kind in ("DaemonSet", "Node") for owner in pod.metadata.owner_references or ()):
        return None
    full_name = f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"
    return NonGpuPod(sys.intern(pod.spec.node_name), full_name, component, _is_ready(pod) if component is not None else None)


_LABELS = {pair: name for name, pairs in reversed(COMPONENTS.items()) for pair in pairs}
"""(key, value) -> component; of two with the same label the first of `COMPONENTS`."""
_KEYS = sorted({key for key, _ in _LABELS})
_RANKS = {name: rank for rank, name in enumerate(COMPONENTS)}


def _component(labels: Mapping[str, str]) -> str | None:
    """Return the first component of `COMPONENTS` that the labels name."""
    named = [_LABELS[key, labels[key]] for key in _KEYS if key in labels and (key, labels[key]) in _LABELS]
    return min(named, key=_RANKS.__getitem__, default=None)


def _is_ready(pod: Pod) -> bool:
    status = pod.status
    if status is None or status.phase != "Running":
        return False
    return any(condition.type == "Ready" and condition.status == "True" for condition in status.conditions or ())
