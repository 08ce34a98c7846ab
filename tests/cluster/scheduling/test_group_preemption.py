"""Pod groups against a real kube-apiserver and kube-scheduler 1.37 with the feature gate GenericWorkload, which is off by default.

The binaries are not built by these tests: they lie in the cache folder of version `VERSION`, beside those of the other cluster tests.
`tests/cluster/assets/control_plane_build` makes them once its go.mod requires that version.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from extender.sources.simulated import cluster_machines
from tests.checkout import ROOT
from tests.cluster.assets.kube_assets import BINARIES, cache_folder
from tests.cluster.fleets.fleet import Fleet, pod
from tests.cluster.processes.control_plane import ControlPlane, Extender, wait_for
from tests.cluster.processes.kustomize_base import base_objects

pytestmark = pytest.mark.cluster
VERSION = "v1.37.2"
GATE = "--feature-gates=GenericWorkload=true"
GROUPS = "/apis/scheduling.k8s.io/v1beta1/namespaces/default/podgroups"


@pytest.fixture(scope="module")
def plane_1_37(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of Kubernetes 1.37 that serves PodGroups, with the CRD and two priority classes."""
    folder = cache_folder().parent / VERSION
    if not all((folder / name).is_file() for name in BINARIES):
        pytest.skip(f"NOT TESTED with pod groups: no kube-apiserver and kube-scheduler {VERSION} in {folder.name} of the cache")
    flags = [GATE, "--runtime-config=scheduling.k8s.io/v1beta1=true"]
    plane = ControlPlane(tmp_path_factory.mktemp("groups"), flags, lambda name: folder / name)
    try:
        for manifest in base_objects():
            plane.apply(manifest)
        wait_for("the CRD served", lambda: plane.client.get("/apis/fabricwise.dev/v1alpha1/gputopologies").status_code == 200)
        for name, value in (("high", 1000), ("low", 1)):
            plane.apply({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value})
        yield plane
    finally:
        plane.close()


@pytest.fixture
def extender(plane_1_37: ControlPlane) -> Iterator[Extender]:
    """The extender and a kube-scheduler that calls it, for two nodes with eight GPUs."""
    fleet = Fleet(plane_1_37, cluster_machines({"hgx-h100": 2}))
    fleet.create()
    config = plane_1_37.folder / "extender.yaml"
    config.write_text(yaml.safe_dump({"telemetry": {"source": "off"}}))
    extender = Extender(plane_1_37, "groups-extender", config)
    extender.wait_ready()
    configuration = yaml.safe_load((ROOT / "config/kube-scheduler.yaml").read_text())
    configuration |= {"leaderElection": {"leaderElect": False}, "profiles": [{"schedulerName": "groups"}]}
    configuration["extenders"][0] |= {"urlPrefix": f"{extender.url}/scheduler", "httpTimeout": "5s"}
    scheduler = plane_1_37.start_scheduler("groups", configuration, "admin", GATE)
    yield extender
    scheduler.stop()
    extender.close()


def create(plane: ControlPlane, name: str, gpus: int, priority: str, group: str | None = None) -> None:
    """Create a pod, which may belong to a PodGroup."""
    manifest: dict[str, Any] = pod(name, gpus, "groups")
    manifest["spec"] |= {"terminationGracePeriodSeconds": 0, "priorityClassName": priority}
    if group is not None:
        manifest["spec"]["schedulingGroup"] = {"podGroupName": group}
    response = plane.client.post("/api/v1/namespaces/default/pods", json=manifest)
    assert response.status_code == 201, response.text


def test_group_that_must_preempt_is_bound_although_kube_scheduler_never_calls_preempt(plane_1_37: ControlPlane, extender: Extender) -> None:
    plane, victims, members = plane_1_37, ("victim-1", "victim-2"), ("member-1", "member-2", "member-3")
    for name in victims:
        create(plane, name, 8, "low")
    wait_for("the victims are bound", lambda: all(plane.node_of(name) for name in victims))
    spec = {"schedulingPolicy": {"gang": {"minCount": len(members)}}, "priorityClassName": "high"}
    group = {"apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", "metadata": {"name": "gang"}, "spec": spec}
    assert plane.client.post(GROUPS, json=group).status_code == 201
    for name in members:
        create(plane, name, 4, "high", "gang")
    wait_for("the group is bound", lambda: all(plane.node_of(name) for name in members))
    assert not set(victims) & set(plane.pods())
    verbs = {decision["verb"] for name in members for decision in extender.decisions(f"default/{name}") or extender.decisions(name)}
    assert verbs == {"filter", "prioritize"}
    metrics = extender.client.get("/metrics").text
    assert 'fabricwise_verb_seconds_count{verb="preempt"} 0.0' in metrics
