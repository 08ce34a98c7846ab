"""The kustomize base, object by object, against a real API server; and what its service account may do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.processes.control_plane import ControlPlane

pytestmark = pytest.mark.cluster


def test_api_server_accepts_every_object_of_the_base(plane: ControlPlane) -> None:
    kinds = [manifest["kind"] for manifest in plane.installed]
    assert {"CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ConfigMap", "NetworkPolicy", "DaemonSet"} <= set(kinds)
    assert kinds.count("Deployment") == 2


ALLOWED = [
    ("list", "", "nodes"),
    ("watch", "", "pods"),
    ("watch", "fabricwise.dev", "gputopologies"),
    ("create", "", "events"),
    ("list", "policy", "poddisruptionbudgets"),
]
FORBIDDEN = [
    ("get", "", "secrets"),
    ("create", "", "pods"),
    ("patch", "", "nodes"),
    ("update", "fabricwise.dev", "gputopologies"),
    ("create", "", "pods/binding"),
    ("create", "", "pods/eviction"),
    ("update", "policy", "poddisruptionbudgets"),
]


@pytest.mark.parametrize(("verb", "group", "resource"), ALLOWED + FORBIDDEN)
def test_the_extenders_account_may_only_read_and_post_events(plane: ControlPlane, verb: str, group: str, resource: str) -> None:
    name, _, subresource = resource.partition("/")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:serviceaccount:fabricwise-system:fabricwise",
            "resourceAttributes": {"verb": verb, "group": group, "resource": name, "subresource": subresource},
        },
    }
    answer = plane.client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review).json()
    assert answer["status"]["allowed"] is ((verb, group, resource) in ALLOWED)


def test_kubectl_get_shows_the_printer_columns(plane: ControlPlane) -> None:
    from topology.gputopology.manifest_encoding import encode
    from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
    from topology.platforms import machine_of

    manifest = encode(TopologyRecord("columns", machine_of("dgx-1v"), DeviceStatus(free=(0, 3, 5))))
    plane.apply({key: manifest[key] for key in ("apiVersion", "kind", "metadata", "spec")})
    plane.apply({key: manifest[key] for key in ("apiVersion", "kind", "metadata", "status")}, "status")
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
    table = plane.client.get("/apis/fabricwise.dev/v1alpha1/gputopologies/columns", headers={"Accept": accept}).json()
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names == ["Name", "GPUs", "Product", "Fabric", "Free", "Best-2", "Best-4", "Age"]
    cells = table["rows"][0]["cells"]
    assert cells[1:6] == [8, "Tesla V100-SXM2-32GB", "NV2 mesh", 3, 40]
    plane.client.delete("/apis/fabricwise.dev/v1alpha1/gputopologies/columns")


BAD_SPECS = [
    ({"gpus": [{"index": "zero"}]}, "index"),
    ({"gpus": [{"index": 0, "memoryBytes": -1}]}, "memoryBytes"),
    ({"gpus": [{"index": 0}, {"index": 0}]}, "index"),
    ({}, "gpus"),
]


@pytest.mark.parametrize(("spec", "field"), BAD_SPECS)
def test_schema_refuses_invalid_fields(plane: ControlPlane, spec: dict[str, Any], field: str) -> None:
    manifest = {"apiVersion": "fabricwise.dev/v1alpha1", "kind": "GpuTopology", "metadata": {"name": "bad"}, "spec": spec}
    response = plane.client.post("/apis/fabricwise.dev/v1alpha1/gputopologies", json=manifest)
    assert response.status_code in (400, 422), response.text
    assert field in response.text
