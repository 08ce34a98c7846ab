"""`doctor --smoke` against a real API server; the kubelet is played by the test."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from extender.adapters.kube_client import api_client
from extender.adapters.kube_objects import KubeObjects
from extender.adapters.smoke import smoke
from tests.cluster.control_plane import ControlPlane

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")]


def play_kubelet(plane: ControlPlane, phase: str, seen: list[dict[str, Any]], stop: threading.Event) -> None:
    while not stop.wait(0.1):
        for pod in plane.pods().values():
            if pod["metadata"]["name"].startswith("fabricwise-smoke-") and pod["status"].get("phase") == "Pending":
                seen.append(pod)
                meta = {"name": pod["metadata"]["name"], "namespace": "default"}
                plane.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": {"phase": phase}}, "status")


def left(plane: ControlPlane) -> list[str]:
    return [name for name in plane.pods() if name.startswith("fabricwise-smoke-")]


@pytest.mark.parametrize(("phase", "passed"), [("Succeeded", True), ("Failed", False)])
def test_a_sample_that_ends_is_told_and_cleaned_up(plane: ControlPlane, phase: str, passed: bool) -> None:
    seen: list[dict[str, Any]] = []
    stop = threading.Event()
    kubelet = threading.Thread(target=play_kubelet, args=(plane, phase, seen, stop))
    kubelet.start()
    api = KubeObjects(api_client(str(plane.kubeconfig("admin"))))
    found, evidence = smoke(api, "gpu-1", "cuda-sample:1", "nvidia.com/gpu", "default", 20)
    stop.set()
    kubelet.join()
    assert (found, phase.lower() in evidence) == (passed, True)
    assert seen[0]["spec"]["nodeName"] == "gpu-1"
    assert left(plane) == []


def test_a_sample_that_hangs_ends_at_its_deadline_and_is_cleaned_up(plane: ControlPlane) -> None:
    api = KubeObjects(api_client(str(plane.kubeconfig("admin"))))
    started = time.monotonic()
    passed, evidence = smoke(api, "gpu-1", "cuda-sample:1", "nvidia.com/gpu", "default", 2)
    assert not passed
    assert "did not end within 2 s" in evidence
    assert time.monotonic() - started < 10
    assert left(plane) == []


def test_a_pod_that_cannot_be_made_is_told(plane: ControlPlane) -> None:
    api = KubeObjects(api_client(str(plane.kubeconfig("admin"))))
    assert smoke(api, "gpu-1", "x", "nvidia.com/gpu", "no-such-namespace", 2)[1].startswith("pod not created: ")
