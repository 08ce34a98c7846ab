"""The rendered policies on a real API server: what is refused, what is added."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from extender.cli.admission_policies import GOVERNED, KEY, render
from extender.sources.class_file import load_classes
from tests.checkout import ROOT
from tests.cluster.fleets.fleet import delete_pods, pod
from tests.cluster.processes.control_plane import ControlPlane, wait_for

pytestmark = pytest.mark.cluster
CLASSES = load_classes(ROOT / "config/workload-classes.yaml")


def mutating_version(plane: ControlPlane) -> str | None:
    """The newest version of MutatingAdmissionPolicy that the server has."""
    for version in ("v1", "v1beta1"):
        answer = plane.client.get(f"/apis/admissionregistration.k8s.io/{version}").json()
        if any(one["name"] == "mutatingadmissionpolicies" for one in answer.get("resources", [])):
            return version
    return None


@pytest.fixture
def governed(plane: ControlPlane) -> Iterator[ControlPlane]:
    plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "governed", "labels": {GOVERNED: "true"}}})
    yield plane
    for version, kind in (("v1", "validating"), ("v1", "mutating"), ("v1beta1", "mutating")):
        for suffix in ("policybindings", "policies"):
            plane.client.delete(f"/apis/admissionregistration.k8s.io/{version}/{kind}admission{suffix}/fabricwise-workload-classes")
    plane.client.request("DELETE", "/api/v1/namespaces/governed/pods", params={"gracePeriodSeconds": "0"})
    delete_pods(plane)


def create(plane: ControlPlane, name: str, gpus: int, namespace: str = "governed", **spec: Any) -> httpx.Response:
    manifest = pod(name, gpus, spec.pop("scheduler", "default-scheduler"))
    manifest["metadata"]["namespace"] = namespace
    manifest["metadata"]["annotations"] = {KEY: spec.pop("named")} if "named" in spec else {}
    manifest["spec"] |= spec
    return plane.client.post(f"/api/v1/namespaces/{namespace}/pods", json=manifest)


TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def test_validating_policy_refuses_pods_without_class_scheduler_or_tolerations(governed: ControlPlane) -> None:
    for manifest in render(CLASSES, "gpu-scheduler", None):
        governed.apply(manifest)
    wait_for("the policy in force", lambda: create(governed, "probe", 1, scheduler="gpu-scheduler").status_code == 403)
    nameless = create(governed, "nameless", 1, scheduler="gpu-scheduler", tolerations=[TOLERATION])
    assert "must name its workload class in annotation fabricwise.dev/workload-class" in nameless.json()["message"]
    assert create(governed, "unknown", 1, named="big", scheduler="gpu-scheduler", tolerations=[TOLERATION]).status_code == 403
    elsewhere = create(governed, "elsewhere", 1, named="notebook", tolerations=[TOLERATION])
    assert "must be scheduled by gpu-scheduler" in elsewhere.json()["message"]
    bare = create(governed, "bare", 1, named="notebook", scheduler="gpu-scheduler")
    assert "must tolerate taint nvidia.com/gpu:NoSchedule" in bare.json()["message"]
    assert create(governed, "good", 1, named="notebook", scheduler="gpu-scheduler", tolerations=[TOLERATION]).status_code == 201
    assert create(governed, "wide", 1, named="notebook", scheduler="gpu-scheduler", tolerations=[{"operator": "Exists"}]).status_code == 201
    assert create(governed, "no-gpu", 0).status_code == 201, "not governed"
    assert create(governed, "free", 1, namespace="default").status_code == 201, "another namespace"


def test_mutation_adds_scheduler_and_tolerations(governed: ControlPlane) -> None:
    version = mutating_version(governed)
    if version is None:
        pytest.skip("NOT TESTED: this kube-apiserver has no MutatingAdmissionPolicy")
    for manifest in render(CLASSES, "gpu-scheduler", version):
        governed.apply(manifest)

    def added() -> dict[str, Any] | None:
        response = create(governed, "plain", 2, named="fine-tuning")
        if response.status_code == 201:
            found: dict[str, Any] = response.json()["spec"]
            governed.client.delete("/api/v1/namespaces/governed/pods/plain", params={"gracePeriodSeconds": "0"})
            return found if found["schedulerName"] == "gpu-scheduler" else None
        return None

    spec = wait_for("the policies in force", added)
    assert TOLERATION in [{key: one.get(key) for key in TOLERATION} for one in spec["tolerations"]]
    own = create(governed, "own", 2, named="fine-tuning", tolerations=[TOLERATION])
    assert own.status_code == 201, own.text
    assert sum(one.get("key") == "nvidia.com/gpu" for one in own.json()["spec"]["tolerations"]) == 1
    assert create(governed, "nameless", 1).status_code == 403
