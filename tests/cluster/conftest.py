"""One real control plane for all cluster tests; without its binaries the tests are skipped with a message, or fail if they are required."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from tests.checkout import ROOT
from tests.cluster.processes.control_plane import ControlPlane, wait_for
from tests.cluster.processes.kustomize_base import base_objects
from tests.cluster.processes.required_binaries import require_binaries


@pytest.fixture(scope="session")
def plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver with manifests/base applied and the CRD served."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():  # a build takes minutes: its progress is shown
        require_binaries()
    plane = ControlPlane(tmp_path_factory.mktemp("plane"))
    try:
        plane.installed = [plane.apply(manifest) for manifest in base_objects()]
        plane.installed += [plane.apply(manifest) for manifest in base_objects(ROOT / "manifests/agent")]
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gputopologies.fabricwise.dev"

        def established() -> bool:
            conditions = plane.client.get(path).json()["status"].get("conditions") or []
            return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)

        wait_for("the CRD established", established)
        wait_for("the CRD served", lambda: plane.client.get("/apis/fabricwise.dev/v1alpha1/gputopologies").status_code == 200)
        yield plane
    finally:
        plane.close()
