"""Kubernetes objects for tests, as parsed JSON."""

from __future__ import annotations

from typing import Any

from extender.decision.request.kubernetes_objects import Pod
from extender.decision.state.changes import Change, Listed
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import KINDS, seen
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.platforms import machine_of

GPU = "nvidia.com/gpu"


def container(gpus: object = None, name: str = "server", **more: Any) -> dict[str, Any]:
    """A container that requests GPUs by its limit."""
    return {"name": name, **({"resources": {"limits": {GPU: gpus}}} if gpus is not None else {}), **more}


def pod(*gpus: object, name: str = "llm", node: str | None = None, **more: Any) -> dict[str, Any]:
    """A pod with one container per given number of GPUs."""
    spec: dict[str, Any] = {"containers": [container(count, f"c{i}") for i, count in enumerate(gpus)] or [container()]}
    if node:
        spec["nodeName"] = node
    meta = {"name": name, "namespace": "team", "uid": f"uid-{name}", "annotations": more.pop("annotations", None)}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec | more.pop("spec", {}), **more}


def pod_struct(manifest: dict[str, Any]) -> Pod:
    """The pod as the decision gets it."""
    change = seen("Pod", manifest)
    decoded: Pod = change.pod  # type: ignore[union-attr]
    return decoded


def node(
    name: str, gpus: int = 8, product: str | None = None, memory_mib: int | None = None, labels: dict[str, str] | None = None
) -> dict[str, Any]:
    """A node with GFD labels where product and memory are given."""
    gfd = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": str(memory_mib) if memory_mib else None}
    all_labels = {key: value for key, value in gfd.items() if value} | (labels or {})
    amounts = {"cpu": "64", GPU: str(gpus)}
    status = {"capacity": amounts, "allocatable": amounts}
    return {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": all_labels}, "status": status}


def topology(name: str, platform: str, status: DeviceStatus | None = None) -> dict[str, Any]:
    """A GpuTopology of a bundled platform."""
    return encode(TopologyRecord(name, machine_of(platform), status))


def snapshot(*manifests: dict[str, Any]) -> Snapshot:
    """A synced snapshot of these objects."""
    changes: list[Change] = [Listed(listed, tuple(seen(kind, m) for m in manifests if m["kind"] == kind)) for kind, listed in KINDS.items()]
    return fold_all(Snapshot(), changes, GPU)
