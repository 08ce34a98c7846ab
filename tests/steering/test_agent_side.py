"""What the agent tells the steerer and publishes of it, and how the extender predicts such a node."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from extender.decision.node.node_view import NO_TIMES, NodeSources, Times, node_view
from extender.decision.request.kubernetes_objects import Node
from extender.steering.counts import Counts
from tests.crd_bounds import full_manifest
from topology.agent.steerer import SteererFolder
from topology.devices.facts_file import decode_facts
from topology.devices.prediction import DevicePlugin
from topology.gputopology import Allocation, DeviceStatus, SteeringStatus, TopologyRecord, decode, encode
from topology.machine.hardware import TopologyError
from topology.platforms import machine_of

GIB = 1 << 30
MACHINE = machine_of("a100-pcie-bridge-pairs", "gpu-node")
ALL_FREE = DeviceStatus(tuple(range(8)))


class Clock:
    def __init__(self) -> None:
        self.now = 1_770_000_000.0

    def __call__(self) -> float:
        return self.now


def report(folder: Path, clock: Clock, *resources: str) -> None:
    """What a steerer writes that serves these resources."""
    counts = Counts()
    for resource in resources:
        counts.listed(resource, 8)
        counts.steered(resource, "function", 0.001)
        counts.forwarded(resource, "timeout", 0.1)
    (folder / "steering.json").write_bytes(counts.report("0.1.0", clock.now))


def test_steerers_report_is_published_with_its_version_resources_and_counts(tmp_path: Path) -> None:
    clock = Clock()
    report(tmp_path, clock, "nvidia.com/gpu")
    found = SteererFolder(tmp_path, dict, clock).steering(MACHINE, ALL_FREE)
    assert found == SteeringStatus("0.1.0", ("nvidia.com/gpu",), "mixed", (), 1, (("timeout", 1),), 0)


def test_steerer_that_has_ended_is_not_published(tmp_path: Path) -> None:
    clock = Clock()
    report(tmp_path, clock, "nvidia.com/gpu")
    clock.now += 11
    assert SteererFolder(tmp_path, dict, clock).steering(MACHINE, ALL_FREE) is None


@pytest.mark.parametrize("document", ["", "{", "[]", '{"version": 1}', json.dumps({"version": "x" * 100})])
def test_report_that_cannot_be_read_is_that_of_no_steerer(tmp_path: Path, document: str) -> None:
    (tmp_path / "steering.json").write_text(document)
    assert SteererFolder(tmp_path, dict, Clock()).steering(MACHINE, ALL_FREE) is None


def test_node_without_the_shared_folder_has_no_steerer_and_writes_nothing(tmp_path: Path) -> None:
    assert SteererFolder(tmp_path / "none", dict, Clock()).steering(MACHINE, ALL_FREE) is None
    assert list(tmp_path.iterdir()) == []


def test_memory_on_a_gpu_that_no_pod_holds_is_told_once_it_lasts(tmp_path: Path) -> None:
    clock = Clock()
    report(tmp_path, clock, "nvidia.com/gpu")
    used = {0: 60 * GIB + 5, 1: 70 * GIB, 2: GIB // 2}
    folder = SteererFolder(tmp_path, lambda: used, clock)
    status = replace(ALL_FREE, free=(0, 2, 3, 4, 5, 6, 7), allocated=(Allocation(1, None, "team", "llm"),))
    first, second = folder.steering(MACHINE, status), folder.steering(MACHINE, status)
    assert first is not None
    assert second is not None
    assert (first.unknown_memory, second.unknown_memory) == ((), ((0, 60 * GIB),))
    told = decode_facts((tmp_path / "devices.json").read_bytes())
    assert told.steering.known.crowded == 0b1


def test_facts_are_renewed_although_nothing_changes(tmp_path: Path) -> None:
    clock = Clock()
    folder = SteererFolder(tmp_path, dict, clock)
    folder.steering(MACHINE, ALL_FREE)
    clock.now += 60
    folder.steering(MACHINE, ALL_FREE)
    assert decode_facts((tmp_path / "devices.json").read_bytes()).written_at_seconds == clock.now


def test_gpu_that_is_unhealthy_is_told_as_excluded(tmp_path: Path) -> None:
    SteererFolder(tmp_path, dict, Clock()).steering(MACHINE, replace(ALL_FREE, unhealthy=((3, "Xid 79"),)))
    assert decode_facts((tmp_path / "devices.json").read_bytes()).steering.known.excluded == 0b1000


STEERING = SteeringStatus("0.1.0", ("nvidia.com/gpu",), "mixed", ((0, 60 * GIB),), 5, (("timeout", 1),), 1)


def test_status_with_a_steerer_survives_encoding() -> None:
    record = TopologyRecord("gpu-node", MACHINE, replace(ALL_FREE, steering=STEERING))
    assert decode(encode(record)) == record


def test_unknown_memory_on_a_gpu_that_does_not_exist_is_refused() -> None:
    manifest = full_manifest()
    manifest["status"]["steering"]["unknownMemory"] = [{"index": 77, "bytes": 1}]
    with pytest.raises(TopologyError, match=r"steering\.unknownMemory names GPU 77"):
        decode(manifest)


def node(**labels: str) -> Node:
    amounts = {"nvidia.com/gpu": "8"}
    manifest: dict[str, Any] = {"metadata": {"name": "gpu-node", "labels": labels}, "status": {"allocatable": amounts, "capacity": amounts}}
    return msgspec.convert(manifest, Node)


def plugin_of(status: DeviceStatus, resource: str = "nvidia.com/gpu", times: Times = NO_TIMES, label: str | None = None) -> DevicePlugin:
    labels = {} if label is None else {"fabricwise.dev/device-plugin": label}
    view = node_view(NodeSources(node(**labels), TopologyRecord("gpu-node", MACHINE, status), (), times), resource)
    return view.state.kubelet.device_plugin


def test_node_whose_agent_publishes_a_steerer_is_predicted_by_its_function_and_what_it_knows() -> None:
    view = node_view(NodeSources(node(), TopologyRecord("gpu-node", MACHINE, replace(ALL_FREE, steering=STEERING)), ()), "nvidia.com/gpu")
    assert view.state.kubelet.device_plugin is DevicePlugin.STEERED
    assert view.state.table is not None
    (outcome,) = view.state.table.predictor.predict(0b11111111, ((2, False),), view.state.kubelet).outcomes
    assert (outcome.taken, outcome.probability) == (0b1100, 1.0)


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("no steerer", plugin_of(ALL_FREE)),
        ("another resource", plugin_of(replace(ALL_FREE, steering=replace(STEERING, resources=("nvidia.com/mig-1g.5gb",))))),
        ("a stale status", plugin_of(replace(ALL_FREE, steering=STEERING, observed_at_seconds=0.0), times=Times(1e6))),
    ],
)
def test_other_node_is_predicted_as_nvidias_plugin_alone(what: str, found: DevicePlugin) -> None:
    assert found is DevicePlugin.NVIDIA


def test_node_labelled_with_another_plugin_is_not_predicted_as_steered() -> None:
    found = plugin_of(replace(ALL_FREE, steering=STEERING), label="uniform")
    assert found is DevicePlugin.UNIFORM
