"""The agent against a real API server: what it publishes, its rights, and its behaviour in failures."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.agent.fake_kubelet import Kubelet
from tests.cluster.processes.control_plane import ControlPlane, Process, free_port, wait_for

pytestmark = pytest.mark.cluster
NAMESPACE = ACCOUNT = "fabricwise-agent"
PATH = "/apis/fabricwise.dev/v1alpha1/gputopologies"


def token_on(plane: ControlPlane, node: str) -> str:
    """A token as the kubelet of `node` mounts it into the agent's pod: bound to the pod, hence to the node."""
    plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"agent-{node}", "namespace": NAMESPACE}}
    pod["spec"] = {"nodeName": node, "serviceAccountName": ACCOUNT, "containers": [{"name": "agent", "image": "none"}]}
    made = plane.apply(pod)["metadata"]
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": made["name"], "uid": made["uid"]}},
    }
    answer = plane.client.post(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token", json=request).json()
    token: str = answer["status"]["token"]
    return token


def unbound_token(plane: ControlPlane) -> str:
    """A token of the agent's account that is bound to no pod: it names no node."""
    answer = plane.client.post(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token", json={"spec": {}}).json()
    token: str = answer["status"]["token"]
    return token


def write(plane: ControlPlane, token: str, node: str, subresource: str = "") -> Any:
    manifest: dict[str, Any] = {"apiVersion": "fabricwise.dev/v1alpha1", "kind": "GpuTopology", "metadata": {"name": node}}
    manifest |= {"status": {"free": []}} if subresource else {"spec": {"gpus": []}}
    headers = {"Content-Type": "application/apply-patch+yaml", "Authorization": f"Bearer {token}"}
    params = {"fieldManager": "fabricwise-agent", "force": "true"}
    import json

    return plane.client.patch(f"{PATH}/{node}{subresource}", params=params, headers=headers, content=json.dumps(manifest))


@pytest.fixture(autouse=True)
def _clean(plane: ControlPlane) -> Iterator[None]:
    """Delete the nodes, pods and topologies afterwards, because other tests count them."""
    yield
    for path in ("/api/v1/nodes", PATH, f"/api/v1/namespaces/{NAMESPACE}/pods"):
        for item in plane.client.get(path).json()["items"]:
            plane.client.delete(f"{path}/{item['metadata']['name']}", params={"gracePeriodSeconds": "0"})


def test_a_forged_write_to_another_nodes_object_is_refused(plane: ControlPlane) -> None:
    own, other = token_on(plane, "own-node"), token_on(plane, "other-node")
    wait_for("the policy in force", lambda: write(plane, own, "other-node").status_code == 403)
    assert write(plane, own, "own-node").status_code in (200, 201)
    assert write(plane, own, "own-node", "/status").status_code == 200
    assert write(plane, other, "other-node").status_code in (200, 201)
    for subresource in ("", "/status"):
        refused = write(plane, own, "other-node", subresource)
        assert refused.status_code == 403
        assert "an agent may write only the GpuTopology of its own node own-node, not of other-node" in refused.text
    assert "its token names none" in write(plane, unbound_token(plane), "own-node").text


def kubeconfig_with(plane: ControlPlane, token: str, folder: Path) -> Path:
    """A kubeconfig of the control plane with that token."""
    config = yaml.safe_load(plane.kubeconfig("admin").read_text())
    config["users"][0]["user"] = {"token": token}
    path = folder / "agent.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def test_an_agent_that_may_not_read_nodes_publishes_without_an_owner(plane: ControlPlane, tmp_path: Path) -> None:
    config = kubeconfig_with(plane, token_on(plane, "no-owner"), tmp_path)
    with running_node(plane, "no-owner", tmp_path, config) as node:
        found = node.until("the first publication", lambda status: status.get("freeCount") == 8)
        assert "ownerReferences" not in found["metadata"]
        wait_for("readiness", lambda: node.readiness().status_code == 200)
        assert "has no owner reference" in node.agent.tail()


# name -> (node of the token, node name that the agent is given, words of its readiness)
REFUSED: dict[str, tuple[str | None, str, str]] = {
    "a token without a node": (None, "any-node", "run the agent as a pod on Kubernetes 1.30 or later"),
    "a node name that is not the token's": ("right-node", "wrong-node", "set NODE_NAME from spec.nodeName"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_agent_that_may_not_publish_is_not_ready_and_says_what_to_do(plane: ControlPlane, tmp_path: Path, case: str) -> None:
    bound_to, name, words = REFUSED[case]
    token = token_on(plane, bound_to) if bound_to else unbound_token(plane)
    wait_for("the policy in force", lambda: write(plane, token, "not-that-node").status_code == 403)
    with running_node(plane, name, tmp_path, kubeconfig_with(plane, token, tmp_path)) as node:
        wait_for("the refusal", lambda: words in node.readiness().text)
        assert node.readiness().status_code == 503
        assert plane.client.get(f"{PATH}/{name}").status_code == 404


def test_unknown_node_name_is_reported_with_a_remedy(plane: ControlPlane, tmp_path: Path) -> None:
    with running_node(plane, "no-such-node", tmp_path, plane.kubeconfig("admin"), registered=False) as node:
        wait_for("the refusal", lambda: "there is no Node no-such-node" in node.readiness().text)
        assert plane.client.get(f"{PATH}/no-such-node").status_code == 404


ALLOWED = [("patch", "fabricwise.dev", "gputopologies"), ("create", "fabricwise.dev", "gputopologies")]
FORBIDDEN = [("delete", "fabricwise.dev", "gputopologies")]
FORBIDDEN += [("list", "", "pods"), ("get", "", "nodes"), ("get", "", "secrets"), ("patch", "", "nodes")]


@pytest.mark.parametrize(("verb", "group", "resource"), ALLOWED + FORBIDDEN)
def test_account_of_the_agent_has_rights_to_gputopologies_only(plane: ControlPlane, verb: str, group: str, resource: str) -> None:
    attributes = {"verb": verb, "group": group, "resource": resource}
    user = {"user": f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}", "resourceAttributes": attributes}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": user}
    answer = plane.client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review).json()
    assert answer["status"]["allowed"] is ((verb, group, resource) in ALLOWED)


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_an_event_is_posted_once_with_the_extenders_rights(plane: ControlPlane) -> None:
    from extender.decision.report.prediction_outcomes import Known
    from extender.kube.api_client import api_client
    from extender.kube.api_requests import ApiRequests
    from extender.kube.writing.events import PodEvents

    known = Known("0123456789", "default", "slow", "gpu-node", (0, 2), 20.0)
    for _ in range(2):  # as two replicas would
        events = PodEvents(ApiRequests(api_client(str(plane.kubeconfig("fabricwise")))))
        events.floor_missed(known, 200.0)
        events._posting.shutdown(wait=True)
    found = [e for e in plane.client.get("/api/v1/namespaces/default/events").json()["items"] if e["involvedObject"]["name"] == "slow"]
    assert [event["reason"] for event in found] == ["BandwidthBelowFloor"]
    assert found[0]["message"] == "asked for 200 GB/s all-reduce bandwidth, got GPUs 0,2 of gpu-node, which give 20"


class Node:
    """One node: a kubelet's socket, the agent's process, its object on the server."""

    def __init__(self, plane: ControlPlane, name: str, platform: str, folder: Path, kubeconfig: Path, registered: bool) -> None:
        self.plane, self.name, self.lost = plane, name, folder / "lost"
        if registered:
            plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        self.kubelet = Kubelet(folder / "kubelet.sock")
        self.port = free_port()
        os.environ["FAKE_LOST"] = str(self.lost)
        command = [sys.executable, "-m", "tests.agent.fake_driver_process", platform, "agent", "--node-name", name, "--interval", "0.3"]
        command += ["--pod-resources", str(self.kubelet.socket), "--host-root", str(folder), "--port", str(self.port)]
        command += ["--hardware-interval", "1", "--kubeconfig", str(kubeconfig)]
        self.agent: Process = plane.run(f"agent-{name}", command)

    def readiness(self) -> httpx.Response:
        """What the agent's /readyz answers."""
        return httpx.get(f"http://127.0.0.1:{self.port}/readyz")

    def published(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.client.get(f"{PATH}/{self.name}").json()
        return found

    def until(self, what: str, check: Any, seconds: float = 30.0) -> dict[str, Any]:
        def fits() -> dict[str, Any] | None:
            found = self.published()
            return found if found["kind"] == "GpuTopology" and check(found.get("status") or {}) else None

        found: dict[str, Any] = wait_for(what, fits, seconds)
        return found


@contextmanager
def running_node(plane: ControlPlane, name: str, folder: Path, kubeconfig: Path, registered: bool = True) -> Iterator[Node]:
    """A DGX-1V whose agent runs until the block ends."""
    node = Node(plane, name, "dgx-1v", folder, kubeconfig, registered)
    try:
        yield node
    finally:
        node.agent.stop()
        node.kubelet.close()


@pytest.fixture
def node(plane: ControlPlane, tmp_path: Path) -> Iterator[Node]:
    name = f"gpu-{tmp_path.name[-20:].strip('_').replace('_', '-')}".lower()
    with running_node(plane, name, tmp_path, plane.kubeconfig("admin")) as node:
        yield node


def test_agent_publishes_the_right_state_after_each_failure(plane: ControlPlane, node: Node) -> None:
    """First publication, allocation, kill -9, API server down, kubelet socket down, lost GPU."""
    found = node.until("the first publication", lambda status: status.get("freeCount") == 8)
    uid = plane.client.get(f"/api/v1/nodes/{node.name}").json()["metadata"]["uid"]
    assert found["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": uid}]
    assert found["spec"]["fabric"] == "NV2 mesh"
    assert found["spec"]["driverVersion"] == "570.86.15"
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    cells = plane.client.get(f"{PATH}/{node.name}", headers=accept).json()["rows"][0]["cells"]
    assert cells[:6] == [node.name, 8, "Tesla V100-SXM2-32GB", "NV2 mesh", 8, 40]

    node.kubelet.held = {("team", "llm", "c"): {"nvidia.com/gpu": ["GPU-00000000", "GPU-00000003"]}}
    held = node.until("the holder", lambda status: status.get("freeCount") == 6)
    assert [entry["index"] for entry in held["status"]["allocated"]] == [0, 3]

    node.agent.kill()
    node.kubelet.held = {}
    time.sleep(1)
    assert node.published()["status"]["freeCount"] == 6, "the last published state stays"
    node.agent.start()
    node.until("the state after kill -9", lambda status: status.get("freeCount") == 8)

    plane.api_server.kill()
    node.kubelet.held = {("team", "other", "c"): {"nvidia.com/gpu": ["GPU-00000005"]}}
    time.sleep(3)
    plane.api_server.start()
    plane.wait_ready()
    node.until("what happened during the outage", lambda status: status.get("freeCount") == 7, 70)

    node.kubelet.failing = True
    silent = node.until("no claims without the kubelet", lambda status: "free" not in status)
    assert {"allocated", "freeCount", "best2Gbps", "best4Gbps"}.isdisjoint(silent["status"])
    assert "the device manager is not ready" in silent["status"]["allocationsUnknown"]
    cells = plane.client.get(f"{PATH}/{node.name}", headers=accept).json()["rows"][0]["cells"]
    assert cells[4:7] == [None, None, None], "kubectl get gputopo shows no count that nothing knows"
    assert node.readiness().status_code == 503
    assert "kubelet: " in node.readiness().text
    node.kubelet.failing = False
    node.until("claims again", lambda status: status.get("freeCount") == 7 and "allocationsUnknown" not in status)
    wait_for("readiness", lambda: node.readiness().status_code == 200)

    node.lost.write_text("6")
    sick = node.until("the lost GPU", lambda status: status.get("unhealthy"))
    assert sick["status"]["unhealthy"] == [{"index": 6, "reason": "GPU is lost"}]
    assert sick["status"]["freeCount"] == 6
    node.lost.unlink()
    node.until("the GPU back", lambda status: "unhealthy" not in status)
