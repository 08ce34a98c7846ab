"""Commands ask the running extender through a real API server: its service proxy, and a port-forward by way of a kubelet."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from extender.command_header import COMMAND_HEADERS
from extender.sources.simulated import cluster_machines, node_manifest
from tests.cluster.processes.connect_proxy import connect_proxy, egress_configuration, forwarding_kubelet
from tests.cluster.processes.control_plane import ControlPlane, wait_for
from tests.cluster.processes.one_shot import run
from tests.cluster.processes.required_binaries import require_binaries
from tests.conftest import Served

pytestmark = pytest.mark.cluster
POD_ADDRESS, NODE_ADDRESS = "192.0.2.7", "192.0.2.1"
NAMESPACE = "fabricwise-system"
RBAC = "rbac.authorization.k8s.io"
READ = [{"apiGroups": [""], "resources": ["nodes", "pods", "services"], "verbs": ["list", "get"]}]


@pytest.fixture
def installed(served: Served, tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane with one node, on which the served extender runs as a pod behind the service of manifests/base.

    The extender serves the simulated cluster, so that an answer shows whether it comes from the extender or from the API.
    """
    require_binaries()
    with ExitStack() as stack:
        short = Path(stack.enter_context(tempfile.TemporaryDirectory()))  # a Unix socket's path has at most 107 characters
        port = served.client.base_url.port
        assert port is not None
        targets = {f"{POD_ADDRESS}:8888": port}
        stack.enter_context(connect_proxy(short / "egress", targets))
        plane = ControlPlane(tmp_path, (f"--egress-selector-config-file={egress_configuration(tmp_path, short / 'egress')}",))
        stack.callback(plane.close)
        certificate = tmp_path / "certs" / "apiserver.crt", tmp_path / "certs" / "apiserver.key"
        kubelet_port = stack.enter_context(forwarding_kubelet(tmp_path, port, certificate))
        targets[f"{NODE_ADDRESS}:{kubelet_port}"] = kubelet_port
        install(plane, kubelet_port)
        health = f"/api/v1/namespaces/{NAMESPACE}/services/fabricwise:http/proxy/healthz"
        wait_for("the API server knows the endpoints", lambda: plane.client.get(health).text == "ok")
        yield plane


def install(plane: ControlPlane, kubelet_port: int) -> None:
    """Create the node, the extender's pod, its service and the slice with the pod's address."""
    ((name, machine),) = cluster_machines({"l40s": 1}).items()
    node = node_manifest(name, machine)
    plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": node["metadata"]})
    status = node["status"] | {
        "addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
    }
    plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}, "status")
    plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    labels = {"app.kubernetes.io/name": "fabricwise", "app.kubernetes.io/component": "extender"}
    container = {"name": "extender", "image": "none", "ports": [{"name": "http", "containerPort": 8888}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "fabricwise-0", "namespace": NAMESPACE, "labels": labels}}
    plane.apply(pod | {"spec": {"nodeName": name, "containers": [container]}})
    ready = {"phase": "Running", "podIP": POD_ADDRESS, "conditions": [{"type": "Ready", "status": "True"}]}
    plane.apply(pod | {"status": ready}, "status")
    ports = [{"name": "http", "port": 8888, "targetPort": "http"}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "fabricwise", "namespace": NAMESPACE}}
    plane.apply(service | {"spec": {"selector": labels, "ports": ports}})
    target = {"kind": "Pod", "name": "fabricwise-0", "namespace": NAMESPACE}  # the API server proxies only to addresses of pods
    endpoints = {"subsets": [{"addresses": [{"ip": POD_ADDRESS, "targetRef": target}], "ports": [{"name": "http", "port": 8888}]}]}
    plane.apply({"apiVersion": "v1", "kind": "Endpoints", "metadata": service["metadata"]} | endpoints)
    slice_metadata = {"name": "fabricwise-1", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": "fabricwise"}}
    plane.apply(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": slice_metadata,
            "addressType": "IPv4",
            "endpoints": [{"addresses": [POD_ADDRESS], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": 8888, "protocol": "TCP"}],
        }
    )


def allow(plane: ControlPlane, name: str, rules: list[dict[str, Any]]) -> None:
    """Give the account of the extender these rights."""
    plane.apply({"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "fabricwise", "namespace": NAMESPACE}
    binding = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}, "subjects": [subject]}
    plane.apply(binding | {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}})


def doctor(plane: ControlPlane, account: str) -> tuple[set[str], str]:
    """Return (nodes in the answer of `fabricwise doctor`, its notes)."""
    status, out, err = run(plane, "doctor", "-o", "json", account=account)
    assert status in (0, 1), err
    return {card["node"] for card in json.loads(out)["nodes"]}, err


def test_the_running_extender_is_asked_by_the_way_that_the_rights_of_the_account_allow(installed: ControlPlane, served: Served) -> None:
    simulated, own = set(served.cluster.machines), {"l40s-0"}
    nodes, err = doctor(installed, "admin")
    assert (nodes, err) == (
        simulated,
        "note: answered by the extender fabricwise-system/fabricwise, through the API server's service proxy\n",
    )

    allow(installed, "read", READ)
    wait_for("the rights are in force", lambda: run(installed, "dump", account="fabricwise")[0] == 0)
    nodes, err = doctor(installed, "fabricwise")
    assert nodes == own
    assert "the right to get services/proxy in namespace fabricwise-system is missing" in err
    assert "the right to create pods/portforward in namespace fabricwise-system is missing" in err

    allow(installed, "forward", [{"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]}])
    wait_for("the port-forward is allowed", lambda: "portforward in namespace" not in doctor(installed, "fabricwise")[1])
    nodes, err = doctor(installed, "fabricwise")
    assert (nodes, err) == (
        simulated,
        "note: answered by the extender fabricwise-system/fabricwise, through a port-forward to pod fabricwise-system/fabricwise-0\n",
    )

    allow(installed, "proxy", [{"apiGroups": [""], "resources": ["services/proxy"], "verbs": ["get"]}])
    wait_for("the service proxy is allowed", lambda: "service proxy\n" in doctor(installed, "fabricwise")[1])
    assert doctor(installed, "fabricwise")[0] == simulated


def test_extender_without_a_ready_pod_or_a_service_is_named(installed: ControlPlane) -> None:
    assert installed.client.delete(f"/api/v1/namespaces/{NAMESPACE}/endpoints/fabricwise").status_code == 200
    nodes, err = doctor(installed, "admin")
    assert nodes == {"l40s-0"}
    assert "there is no service fabricwise-system/fabricwise with a ready pod" in err
    assert installed.client.delete(f"/api/v1/namespaces/{NAMESPACE}/services/fabricwise").status_code == 200
    nodes, err = doctor(installed, "admin")
    assert nodes == {"l40s-0"}
    assert "there is no service fabricwise-system/fabricwise" in err


def test_api_server_passes_its_own_name_on_as_host_and_commands_are_answered_all_the_same(installed: ControlPlane) -> None:
    path, named = f"/api/v1/namespaces/{NAMESPACE}/services/fabricwise:http/proxy/v1/cluster", {"Host": "a1b2.gr7.eks.example"}
    assert installed.client.get(path).status_code == 200, "the host is an IP address"
    refused = installed.client.get(path, headers=named)
    assert (refused.status_code, refused.json()["error"].split(" ")[0]) == (421, "a1b2.gr7.eks.example")
    assert installed.client.get(path, headers={**named, **COMMAND_HEADERS}).status_code == 200
