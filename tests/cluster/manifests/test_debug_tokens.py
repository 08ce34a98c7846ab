"""Bearer tokens of the debug port on a real API server: TokenReview, SubjectAccessReview, and the rights of manifests/debug-tokens."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import yaml

from tests.checkout import ROOT
from tests.cluster.processes.control_plane import ControlPlane, Extender, free_port, wait_for

pytestmark = pytest.mark.cluster

RIGHTS = ROOT / "manifests/debug-tokens/rbac.yaml"


@dataclass
class Guarded:
    """An extender whose debug port needs tokens."""

    plane: ControlPlane
    debug_url: str
    verbs_url: str

    def get(self, path: str, token: str | None, method: str = "GET") -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.request(method, f"{self.debug_url}{path}", headers=headers, timeout=20)

    def token_of(self, account: str) -> str:
        """A new token of a service account, which is made if it does not exist."""
        self.plane.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": "default"}})
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
        answer = self.plane.client.post(f"/api/v1/namespaces/default/serviceaccounts/{account}/token", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["status"]["token"])

    def bind(self, role: str, account: str) -> None:
        """Bind a ClusterRole to a service account."""
        self.plane.apply(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": f"{role}-{account}"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "default"}],
            }
        )


@pytest.fixture(scope="module")
def guarded(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Without the rights of manifests/debug-tokens at first: the first test adds them."""
    port = free_port()
    config = tmp_path_factory.mktemp("tokens") / "extender.yaml"
    server: dict[str, Any] = {"debug_port": port, "debug_auth": {"mode": "kubernetes", "kept_seconds": 0.2}}
    config.write_text(yaml.safe_dump({"telemetry": {"source": "off"}, "server": server}))
    extender = Extender(plane, "debug-tokens", config)
    try:
        extender.wait_ready()
        wait_for("the debug port is open", lambda: httpx.get(f"http://127.0.0.1:{port}/", timeout=5).status_code == 200)
        yield Guarded(plane, f"http://127.0.0.1:{port}", extender.url)
    finally:
        extender.close()


def test_without_rights_to_review_nothing_is_shown_and_with_them_a_viewer_sees_the_cluster(guarded: Guarded) -> None:
    viewer, stranger = guarded.token_of("viewer"), guarded.token_of("stranger")
    refused = guarded.get("/v1/cluster", viewer)
    assert refused.status_code == 503
    assert "apply manifests/debug-tokens" in refused.json()["error"]
    for manifest in yaml.safe_load_all(RIGHTS.read_text()):
        guarded.plane.apply(manifest)
    wait_for("the rights are in force", lambda: guarded.get("/v1/cluster", viewer).status_code != 503)
    denied = guarded.get("/v1/cluster", viewer)
    assert denied.status_code == 403
    assert "system:serviceaccount:default:viewer may not get /v1/cluster" in denied.json()["error"]
    guarded.bind("fabricwise-viewer", "viewer")
    wait_for("the viewer is bound", lambda: guarded.get("/v1/cluster", viewer).status_code == 200)
    wait_for("the cluster is listed", lambda: guarded.get("/v1/cluster", viewer).json()["synced"])
    assert guarded.get("/v1/explain", viewer, "POST").status_code == 400, "a viewer may ask; this is no pod"
    assert guarded.get("/v1/cluster", stranger).status_code == 403


# name -> token
INVALID = {"no token": None, "a random one": secrets.token_hex(16), "a forged one": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."}


@pytest.mark.parametrize("case", INVALID)
def test_token_that_the_api_server_does_not_know_is_refused(guarded: Guarded, case: str) -> None:
    response = guarded.get("/v1/nodes", INVALID[case])
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_token_of_a_deleted_account_passes_no_more(guarded: Guarded) -> None:
    token = guarded.token_of("leaver")
    guarded.bind("fabricwise-viewer", "leaver")
    wait_for("the leaver is bound", lambda: guarded.get("/v1/cluster", token).status_code == 200)
    guarded.plane.client.delete("/api/v1/namespaces/default/serviceaccounts/leaver")
    wait_for("the token is refused", lambda: guarded.get("/v1/cluster", token).status_code == 401)


def test_stream_needs_a_token_and_follows_the_cluster(guarded: Guarded) -> None:
    token = guarded.token_of("viewer")
    guarded.bind("fabricwise-viewer", "viewer")
    assert guarded.get("/v1/stream", None).status_code == 401
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.stream("GET", f"{guarded.debug_url}/v1/stream", headers=headers, timeout=20) as response:
        assert response.status_code == 200
        assert next(response.iter_lines()) == "event: resync"


def test_verbs_health_and_files_need_no_token(guarded: Guarded) -> None:
    assert httpx.get(f"{guarded.verbs_url}/metrics").status_code == 200
    assert httpx.get(f"{guarded.verbs_url}/v1/cluster").status_code == 404
    for path in ("/", "/docs", "/openapi.json"):
        assert guarded.get(path, None).status_code == 200


REVIEWS = [
    ("authentication.k8s.io", "tokenreviews", "create", True),
    ("authorization.k8s.io", "subjectaccessreviews", "create", True),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "list", False),
    ("", "secrets", "get", False),
    ("", "serviceaccounts/token", "create", False),
]


@pytest.mark.parametrize(("group", "resource", "verb", "allowed"), REVIEWS)
def test_the_rights_are_those_to_review_alone(guarded: Guarded, group: str, resource: str, verb: str, allowed: bool) -> None:
    for manifest in yaml.safe_load_all(RIGHTS.read_text()):
        guarded.plane.apply(manifest)
    name, _, subresource = resource.partition("/")
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": "system:serviceaccount:fabricwise-system:fabricwise",
            "resourceAttributes": {"verb": verb, "group": group, "resource": name, "subresource": subresource},
        },
    }
    answer = guarded.plane.client.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", json=review).json()
    assert answer["status"]["allowed"] is allowed
