"""The watch of resource.k8s.io: absent, forbidden, of an older version, or late."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from extender.kube.objects import resources
from extender.kube.watching import watch as watch_module
from extender.sources.simulated_dra import slice_manifests
from tests.dra.dra_objects import bare_node
from tests.kube.watching.scripted_watch import NODES, Rig, page
from tests.objects import node
from topology.platforms import machine_of

SLICES, RULES_V1 = "/apis/resource.k8s.io/v1/resourceslices", "/apis/resource.k8s.io/v1/devicetaintrules"
DRA_PATHS = [resource.path for resource in resources.DRA_RESOURCES]


def test_without_resource_k8s_io_nothing_is_watched_and_nothing_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for path in DRA_PATHS:
        rig.script.replies[path, "list"] = [(404, b"{}")] * 50
    rig.script.replies[RULES_V1.replace("v1", "v1beta2"), "list"] = [(404, b"{}")] * 50
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    with caplog.at_level("INFO"):
        rig.start()
        rig.wait(lambda: rig.store.snapshot.synced)
        time.sleep(0.3)
    assert [rig.script.count(path, "list") for path in DRA_PATHS] == [1] * 5
    assert sum(rig.script.count(path, "watch") for path in DRA_PATHS) == 0
    assert not [record for record in caplog.records if "resource" in record.getMessage()]


def test_forbidden_resource_k8s_io_is_said_once_per_kind_and_keeps_nothing_waiting(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in DRA_PATHS:
        rig.script.replies[path, "list"] = [(403, b"{}")] * 50
    rig.script.replies[NODES, "list"] = [page(node("a"))]
    monkeypatch.setattr(watch_module, "RESOURCES", tuple(replace(one, absent_retry_seconds=0.05) for one in resources.RESOURCES))
    with caplog.at_level("INFO"):
        rig.start()
        rig.wait(lambda: rig.store.snapshot.synced)
        rig.wait(lambda: rig.script.count(SLICES, "list") > 2)
    told = [record.getMessage() for record in caplog.records if "resourceslices" in record.getMessage()]
    assert len(told) == 1
    assert "RBAC" in told[0]


def test_device_taint_rules_are_read_by_the_version_that_the_api_server_serves(rig: Rig) -> None:
    beta = RULES_V1.replace("v1", "v1beta2")
    rule = {"metadata": {"name": "sick"}, "spec": {"taint": {"key": "a", "effect": "NoSchedule"}}}
    rig.script.replies[RULES_V1, "list"] = [(404, b"{}")]
    rig.script.replies[beta, "list"] = [page(rule)]
    rig.start()
    rig.wait(lambda: "sick" in rig.store.snapshot.dra.devicetaintrules)


def test_nodes_are_not_judged_before_the_slices_are_listed(rig: Rig) -> None:
    rig.script.replies[SLICES, "list"] = [(500, b"{}"), (500, b"{}"), page(slice_manifests("a", machine_of("t4"))[0])]
    rig.script.replies[NODES, "list"] = [page(bare_node("a"))]
    rig.start()
    rig.wait(lambda: rig.store.snapshot.synced)
    assert rig.store.snapshot.dra.devices_of("a").devices
