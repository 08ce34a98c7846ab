"""Nodes that share or divide their GPUs, and pods that request MIG devices or replicas."""

from __future__ import annotations

from typing import Any

from tests.objects import node, pod


def shared_node(offered: int = 4, count: int = 1, **labels: str) -> dict[str, Any]:
    """A node with `count` GPUs that offers `offered`; in label names, `__` stands for a dot."""
    given = {"nvidia.com/" + name.replace("__", "."): value for name, value in labels.items()}
    return node("n", offered, labels={"nvidia.com/gpu.count": str(count), "nvidia.com/gpu.memory": "15360", **given})


def offering(resources: dict[str, int], **labels: str) -> dict[str, Any]:
    """A node that offers resources under names of their own."""
    manifest = node("n", 0, labels=labels)
    amounts = {name: str(count) for name, count in resources.items()}
    manifest["status"] = {"capacity": amounts, "allocatable": amounts}
    return manifest


def slices(resource: str, count: int, **annotations: str) -> dict[str, Any]:
    """A pod that requests a resource of MIG devices or replicas."""
    container = {"name": "c", "resources": {"limits": {resource: str(count)}}}
    return pod(spec={"containers": [container]}, annotations={f"fabricwise.dev/{k.replace('_', '-')}": v for k, v in annotations.items()})
