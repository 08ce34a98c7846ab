"""DeviceTaintRules for devices that telemetry has excluded: written by the leader, removed when the device recovers."""

from __future__ import annotations

from typing import Any

import pytest

from extender.adapters.kube_device_taints import DeviceTaintRules
from extender.adapters.manifests import gone, seen
from extender.decision.changes import Change, ClockTicked, TelemetrySeen, fold_all
from extender.decision.cluster import Snapshot
from extender.decision.device_faults import taint_changes
from extender.device_taints import DeviceTaints
from extender.live import LiveCluster
from extender.metrics import Metrics
from extender.reports import Reports
from extender.supervision import Supervisor
from extender.telemetry.readings import DeviceReading
from tests.dra.objects import cluster
from tests.objects import GPU
from topology.agent.publisher import ApiError
from topology.platforms import machine_of

MACHINE = machine_of("hgx-h100", "n")


def look(seconds: float, xid: int = 0, position: int = 3) -> Change:
    """A look at all GPUs of node n, one of which reports an XID."""
    readings = tuple(
        DeviceReading(gpu.uuid or "", index=gpu.index, xid=xid if place == position else 0) for place, gpu in enumerate(MACHINE.gpus)
    )
    return TelemetrySeen("n", seconds, readings, (), (), "test")


def after(*changes: Change, state: Snapshot | None = None) -> Snapshot:
    return fold_all(cluster() if state is None else state, changes, GPU)


def rule_of(state: Snapshot) -> dict[str, Any]:
    """The one rule that there should be."""
    (device,) = taint_changes(state).create
    return {"apiVersion": "resource.k8s.io/v1", **device.manifest()}


def test_device_that_telemetry_excludes_gets_a_rule_that_names_it() -> None:
    rule = rule_of(after(ClockTicked(0.0, 0.0), look(1.0, 79)))
    assert rule["spec"]["deviceSelector"] == {"driver": "gpu.nvidia.com", "pool": "n", "device": "gpu-3"}
    assert rule["spec"]["taint"] == {"key": "fabricwise.dev/faulty", "value": "xid", "effect": "NoSchedule"}


def test_rule_that_is_there_is_not_written_again_and_stays_while_the_fault_lasts() -> None:
    state = after(ClockTicked(0.0, 0.0), look(1.0, 79))
    state = after(seen("DeviceTaintRule", rule_of(state)), look(2.0, 79), state=state)
    assert not taint_changes(state).create
    assert not taint_changes(state).delete


def test_rule_is_removed_when_the_device_has_recovered() -> None:
    state = after(ClockTicked(0.0, 0.0), look(1.0, 79))
    state = after(seen("DeviceTaintRule", rule_of(state)), look(1_000.0), ClockTicked(1_000.0, 1_000.0), state=state)
    state = after(look(2_000.0), ClockTicked(2_000.0, 2_000.0), look(2_001.0), state=state)
    assert len(taint_changes(state).delete) == 1


def test_rule_stays_while_telemetry_is_unknown() -> None:
    rule = rule_of(after(ClockTicked(0.0, 0.0), look(1.0, 79)))
    assert taint_changes(cluster(rule)).delete == ()


def test_rule_of_another_author_is_never_deleted() -> None:
    rule = rule_of(after(ClockTicked(0.0, 0.0), look(1.0, 79)))
    rule["metadata"] = {"name": "theirs"}
    state = after(look(1.0), state=cluster(rule))
    assert taint_changes(state).delete == ()


def test_rule_for_a_device_that_no_slice_names_is_removed() -> None:
    state = after(ClockTicked(0.0, 0.0), look(1.0, 79))
    rule = rule_of(state)
    slices = [{"metadata": {"name": name}} for name in state.dra.resourceslices]
    state = after(seen("DeviceTaintRule", rule), *(gone("ResourceSlice", one) for one in slices), state=state)
    assert taint_changes(state).delete == (rule["metadata"]["name"],)


@pytest.mark.parametrize("leads", [True, False])
def test_only_the_leader_writes(leads: bool) -> None:
    live, reports, written = LiveCluster(GPU, warm_tables=False), Reports(), list[str]()
    live._snapshot = after(ClockTicked(0.0, 0.0), look(1.0, 79))
    reports.leading = lambda: leads

    def taint(manifest: dict[str, Any]) -> bool:
        written.append(manifest["metadata"]["name"])
        return True

    reports.taint = taint
    reports.untaint = lambda _: True
    DeviceTaints(live, reports, Supervisor(Metrics())).look()
    assert len(written) == int(leads)


class Api:
    """An API server that serves one version, or refuses."""

    def __init__(self, version: str | None, status: int = 404) -> None:
        self.version, self.status, self.asked = version, status, list[str]()

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(path)
        if self.version is None or f"/{self.version}/" not in path:
            raise ApiError(self.status, "refused")
        assert manifest["apiVersion"] == f"resource.k8s.io/{self.version}"
        return {}


@pytest.mark.parametrize(
    ("api", "done"), [(Api("v1"), True), (Api("v1beta2"), True), (Api(None), False), (Api(None, 403), False), (Api(None, 409), True)]
)
def test_rule_is_written_by_the_version_that_is_served_and_a_refusal_is_said_once(
    api: Api, done: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rules = DeviceTaintRules(api)  # type: ignore[arg-type]
    assert [rules.create({"kind": "DeviceTaintRule"}) for _ in range(3)] == [done] * 3
    assert len(caplog.records) == (0 if done else 1)
