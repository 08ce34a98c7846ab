"""DeviceTaintRules for devices that telemetry has excluded: written by the leader, removed when the device recovers."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.report.device_faults import taint_changes
from extender.decision.state.changes import Change, ClockTicked, Listed, TelemetrySeen
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import KINDS, gone, seen
from extender.kube.writing.device_taint_rules import DeviceTaintRules
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.device_taints import DeviceTaints
from extender.scheduling.supervision import Supervisor
from extender.sources.simulated_dra import class_manifest
from extender.telemetry.readings import DeviceReading
from tests.dra.dra_objects import cluster, dra_node
from tests.objects import GPU
from tests.scheduling.cluster_writers import RecordingWriter, SettableLeadership, cluster_of
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
    store, writer = ClusterStore(GPU, warm_tables=False), RecordingWriter()
    manifests = [*dra_node("n"), class_manifest()]
    store.apply([Listed(listed, tuple(seen(kind, m) for m in manifests if m["kind"] == kind)) for kind, listed in KINDS.items()])
    store.apply([ClockTicked(0.0, 0.0), look(1.0, 79)])
    DeviceTaints(store, cluster_of(writer, SettableLeadership(leads)), Supervisor(Metrics())).reconcile()
    assert len(writer.taint_rules) == int(leads)


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
