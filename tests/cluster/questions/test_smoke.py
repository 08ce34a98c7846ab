"""`doctor --smoke` against a real API server and kube-scheduler; the test acts as the kubelet."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from extender.decision.report.checks.node_checks import Check, Status
from extender.kube.api_client import api_client
from extender.kube.api_requests import ApiRequests
from extender.kube.smoke_test import PRIORITY_CLASS, Sample, smoke, smoke_priority
from extender.sources.simulated import node_manifest
from tests.cluster.fleets.fleet import delete_pods, pod
from tests.cluster.processes.control_plane import ControlPlane, wait_for
from topology.platforms import machine_of

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")]
NODE, OTHER, GPUS = "smoke-1", "smoke-2", 4
SMOKE_POD = "fabricwise-smoke-"


@pytest.fixture(scope="module")
def nodes(plane: ControlPlane) -> Iterator[None]:
    """Two nodes of four GPUs, and the default scheduler, which would also place pods that other tests have left pending."""
    delete_pods(plane)
    for name in (NODE, OTHER):
        node = node_manifest(name, machine_of("l40s"))
        plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": node["metadata"]})
        plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": node["status"]}, "status")
    configuration = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
    scheduler = plane.start_scheduler("smoke", {**configuration, "leaderElection": {"leaderElect": False}}, "admin")
    yield
    scheduler.stop()
    for name in (NODE, OTHER):
        plane.client.delete(f"/api/v1/nodes/{name}")


@pytest.fixture
def api(plane: ControlPlane, nodes: None) -> Iterator[ApiRequests]:
    yield ApiRequests(api_client(str(plane.kubeconfig("admin"))))
    delete_pods(plane)


def sample(seconds: float = 20, namespace: str = "default") -> Sample:
    return Sample(NODE, "cuda-sample:1", "nvidia.com/gpu", namespace, seconds)


def hold(plane: ControlPlane, name: str, gpus: int, **spec: Any) -> None:
    """A pod that is bound to the node and that no kubelet has admitted."""
    manifest = pod(name, gpus)
    manifest["spec"] |= {"nodeName": NODE, **spec}
    plane.apply(manifest)


@contextmanager
def kubelet(plane: ControlPlane, status: dict[str, Any] | None) -> Iterator[list[dict[str, Any]]]:
    """Give bound samples this status, and finish the deletion of deleted ones. Yields the names of all samples."""
    seen: list[dict[str, Any]] = []
    stop = threading.Event()

    def play() -> None:
        while not stop.wait(0.1):
            try:
                found = [one for name, one in plane.pods().items() if name.startswith(SMOKE_POD) and one["spec"].get("nodeName")]
                for one in found:
                    name = one["metadata"]["name"]
                    seen.append(one)
                    if one["metadata"].get("deletionTimestamp"):
                        path = f"/api/v1/namespaces/default/pods/{name}"
                        plane.client.request("DELETE", path, params={"gracePeriodSeconds": "0"})
                    elif status is not None and one["status"]["phase"] == "Pending":
                        meta = {"name": name, "namespace": "default"}
                        plane.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "status": status}, "status")
            except (httpx.HTTPError, AssertionError):
                continue  # the sample was deleted meanwhile

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield seen
    finally:
        wait_for("no sample left", lambda: not any(name.startswith(SMOKE_POD) for name in plane.pods()))
        stop.set()
        thread.join()


ENDS: dict[str, tuple[dict[str, Any], Status, str]] = {
    "succeeded": ({"phase": "Succeeded"}, Status.PASS, "cuda-sample:1 succeeded"),
    "failed": ({"phase": "Failed"}, Status.FAIL, "cuda-sample:1 failed"),
    "not admitted": ({"phase": "Failed", "reason": "UnexpectedAdmissionError"}, Status.UNKNOWN, "in favour of another pod"),
    "no GPU left": ({"phase": "Failed", "reason": "OutOfnvidia.com/gpu"}, Status.UNKNOWN, "in favour of another pod"),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_sample_is_placed_by_the_scheduler_on_its_node_and_deleted_when_it_has_ended(
    plane: ControlPlane, api: ApiRequests, name: str
) -> None:
    status, expected, evidence = ENDS[name]
    hold(plane, "holder", GPUS - 1)
    with kubelet(plane, status) as seen, smoke_priority(api):
        check = smoke(api, sample())
    assert (check.status, evidence in check.evidence) == (expected, True), check
    assert {one["spec"]["nodeName"] for one in seen} == {NODE}
    assert seen[0]["spec"]["priority"] < 0
    assert seen[0]["spec"]["preemptionPolicy"] == "Never"


def test_a_node_whose_gpus_are_all_bound_gets_no_sample_though_no_kubelet_has_admitted_its_pods(
    plane: ControlPlane, api: ApiRequests
) -> None:
    hold(plane, "one", GPUS - 1)
    hold(plane, "two", 1)
    before = set(plane.pods())
    check = smoke(api, sample())
    assert check.status is Status.UNKNOWN
    assert "all GPUs in use, 4 of 4 nvidia.com/gpu" in check.evidence
    assert set(plane.pods()) == before


def test_gpus_of_pods_that_have_ended_are_free(plane: ControlPlane, api: ApiRequests) -> None:
    hold(plane, "ended", GPUS)
    ended = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ended", "namespace": "default"}, "status": {"phase": "Succeeded"}}
    plane.apply(ended, "status")
    with kubelet(plane, {"phase": "Succeeded"}), smoke_priority(api):
        assert smoke(api, sample()).status is Status.PASS


class TakenMeanwhile(ApiRequests):
    """An API server on which another pod, of still lower priority, takes the last GPU just before the sample is created."""

    plane: ControlPlane

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        if path.endswith("/pods"):
            hold(self.plane, "quick", GPUS, priorityClassName="still-lower")
        return super().create(path, manifest)


def test_a_sample_whose_gpu_is_taken_meanwhile_is_skipped_and_preempts_no_pod(plane: ControlPlane, api: ApiRequests) -> None:
    lower = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "still-lower"}, "value": -2_000_000}
    plane.apply(lower)
    late = TakenMeanwhile(api_client(str(plane.kubeconfig("admin"))))
    late.plane = plane
    with kubelet(plane, {"phase": "Succeeded"}), smoke_priority(api):
        check = smoke(late, sample())
    assert (check.status, "Insufficient nvidia.com/gpu" in check.evidence) == (Status.UNKNOWN, True), check
    assert "deletionTimestamp" not in plane.pods()["quick"]["metadata"]


def test_a_sample_that_hangs_on_its_node_fails_at_its_deadline_and_is_deleted(plane: ControlPlane, api: ApiRequests) -> None:
    with kubelet(plane, None), smoke_priority(api):
        check = smoke(api, sample(3))
    assert (check.status, "did not end within 3 s" in check.evidence) == (Status.FAIL, True), check


def test_sample_that_no_scheduler_places_is_unknown(plane: ControlPlane, api: ApiRequests) -> None:
    nowhere = Sample(NODE, "cuda-sample:1", "nvidia.com/gpu", "default", 1, "absent-scheduler")
    with smoke_priority(api):
        check = smoke(api, nowhere)
    assert (check.status, "absent-scheduler did not place" in check.evidence) == (Status.UNKNOWN, True), check
    assert not any(name.startswith(SMOKE_POD) for name in plane.pods())


def test_sample_whose_pod_cannot_be_created_is_unknown(api: ApiRequests) -> None:
    check = smoke(api, sample(namespace="no-such-namespace"))
    assert (check.status, check.evidence.startswith("pod not created: ")) == (Status.UNKNOWN, True)


def test_priority_class_is_deleted_after_the_samples_unless_it_existed_before(plane: ControlPlane, api: ApiRequests) -> None:
    path = f"/apis/scheduling.k8s.io/v1/priorityclasses/{PRIORITY_CLASS}"
    installed = plane.client.get(path).json()
    with smoke_priority(api):
        pass
    assert plane.client.get(path).status_code == 200, "that of manifests/base stays"
    plane.client.delete(path)
    try:
        with smoke_priority(api):
            made = plane.client.get(path).json()
        assert plane.client.get(path).status_code == 404
        assert [made[key] for key in ("value", "preemptionPolicy")] == [installed[key] for key in ("value", "preemptionPolicy")]
    finally:
        plane.apply(
            {key: installed[key] for key in ("apiVersion", "kind", "value", "preemptionPolicy")} | {"metadata": {"name": PRIORITY_CLASS}}
        )


def test_doctor_reports_samples_without_failing_a_busy_node(
    plane: ControlPlane, api: ApiRequests, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.cli.commands import Commands

    hold(plane, "busy", GPUS)
    fabricwise = Commands(monkeypatch, capsys)
    with kubelet(plane, {"phase": "Succeeded"}):
        ended = fabricwise("doctor", "--smoke", "cuda-sample:1", "-o", "json", "--kubeconfig", str(plane.kubeconfig("admin")))
    checks: dict[str, Check] = {}
    for card in json.loads(ended.out)["nodes"]:
        check = next(one for one in card["checks"] if one["check"] == "smoke")
        checks[card["node"]] = Check("smoke", Status(check["status"]), check["evidence"])
    assert checks[NODE].status is Status.UNKNOWN
    assert checks[OTHER].status is Status.PASS
