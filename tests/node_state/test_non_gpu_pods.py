"""What is kept of a pod without GPUs: what a node check reads, and nothing of pods that no check reads."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.state.fold.reducer import fold
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import seen
from tests.objects import GPU, pod

DRIVER = {"app": "nvidia-driver-daemonset"}
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
PENDING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}


def kept(labels: dict[str, str] | None = None, owner: str | None = None, node: str | None = "n", **more: Any) -> tuple[object, ...] | None:
    """(component, whether it is ready) of what the state keeps of a pod; None where it keeps nothing."""
    manifest = pod(name="p", node=node, **more)
    manifest["metadata"] |= {"labels": labels, "ownerReferences": [{"kind": owner, "name": "o"}] if owner else None}
    entry = fold(Snapshot(), seen("Pod", manifest), GPU).non_gpu_pods.get("uid-p")
    return None if entry is None else (entry.component, entry.ready)


CASES: dict[str, tuple[dict[str, Any], tuple[object, ...] | None]] = {
    "a workload": ({"owner": "ReplicaSet"}, (None, None)),
    "a workload that is ready": ({"owner": "ReplicaSet", "status": READY}, (None, None)),
    "a pod without an owner": ({}, (None, None)),
    "a pod of a DaemonSet": ({"owner": "DaemonSet"}, None),
    "a static pod": ({"owner": "Node"}, None),
    "a component that is ready": ({"labels": DRIVER, "owner": "DaemonSet", "status": READY}, ("driver", True)),
    "a component that is not ready": ({"labels": DRIVER, "owner": "DaemonSet", "status": PENDING}, ("driver", False)),
    "a component without status": ({"labels": DRIVER}, ("driver", False)),
    "labels of two components": (
        {"labels": {"app.kubernetes.io/name": "dcgm-exporter", "app": "gpu-feature-discovery"}, "status": READY},
        ("gfd", True),
    ),
    "a pod that is not bound": ({"node": None}, None),
    "a pod that has ended": ({"status": {"phase": "Succeeded"}}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_state_keeps_of_a_pod_without_gpus_what_a_node_check_reads(case: str) -> None:
    pod_of_case, expected = CASES[case]
    assert kept(**pod_of_case) == expected


def test_status_of_a_workload_without_gpus_changes_nothing() -> None:
    state = fold(Snapshot(), seen("Pod", pod(name="p", node="n")), GPU)
    assert fold(state, seen("Pod", pod(name="p", node="n", status=READY)), GPU) is state
