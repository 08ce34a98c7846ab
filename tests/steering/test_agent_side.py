"""What the agent tells the steerer and publishes of it, and how the extender predicts such a node."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from extender.decision.node.node_sources import NO_TIMES, NodeSources, Times
from extender.decision.node.node_view import node_view
from extender.decision.node.steered_kubelet import steered_kubelet
from extender.decision.request.kubernetes_objects import Node
from extender.steering.proxies.counts import Counts
from tests.topology.crd_bounds import full_manifest
from topology.agent.steerer import SteererFolder
from topology.devices.facts_file import decode_facts
from topology.devices.prediction import DevicePlugin, Kubelet
from topology.devices.steering import steered_set
from topology.gputopology.manifest_decoding import decode
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, SteeringStatus, TopologyRecord
from topology.machine.hardware import TopologyError
from topology.placement.shared_tables import table_for
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
    assert found == SteeringStatus("0.1.0", ("nvidia.com/gpu",), "mixed", (), (), 1, (("timeout", 1),), 0)


def test_steerer_that_has_ended_is_not_published(tmp_path: Path) -> None:
    clock = Clock()
    report(tmp_path, clock, "nvidia.com/gpu")
    clock.now += 11
    assert SteererFolder(tmp_path, dict, clock).steering(MACHINE, ALL_FREE) is None


@pytest.mark.parametrize("document", ["", "{", "[]", '{"version": 1}', json.dumps({"version": "x" * 100}), '{"unknown": ' + "[" * 30_000])
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


PRESSURES = [
    # what, load readings of GPU 0 in turn -> what is told after the last
    ("one reading", [0.9], 0.0),
    ("two equal ones", [0.9, 0.9], 0.75),
    ("a moment between idle ones", [0.0, 1.0, 0.0], 0.0),
    ("a moment between busy ones", [1.0, 1.0, 0.0, 1.0], 1.0),
    ("busy, then idle", [1.0, 1.0, 0.0, 0.0], 0.0),
    ("below a quarter", [0.24, 0.24], 0.0),
    ("readings of one step", [0.51, 0.74, 0.6], 0.5),
    ("rising", [0.3, 0.6, 0.9], 0.5),
]


@pytest.mark.parametrize(("what", "readings", "told"), PRESSURES, ids=[case[0] for case in PRESSURES])
def test_load_of_a_gpu_that_no_pod_holds_is_told_and_published_in_quarters_once_it_lasts(
    tmp_path: Path, what: str, readings: list[float], told: float
) -> None:
    clock, load = Clock(), {0: 0.0}
    report(tmp_path, clock, "nvidia.com/gpu")
    folder = SteererFolder(tmp_path, dict, clock, lambda: load)
    published = None
    for reading in readings:
        load[0] = reading
        published = folder.steering(MACHINE, ALL_FREE)
    assert published is not None
    assert dict(published.pressure).get(0, 0.0) == told
    assert decode_facts((tmp_path / "devices.json").read_bytes()).steering.known.pressure_of(0) == told


def test_load_of_a_gpu_that_a_pod_holds_is_not_told(tmp_path: Path) -> None:
    clock = Clock()
    report(tmp_path, clock, "nvidia.com/gpu")
    folder = SteererFolder(tmp_path, dict, clock, lambda: dict.fromkeys(range(8), 1.0))
    status = replace(ALL_FREE, free=(1, 2, 3, 4, 5, 6, 7), allocated=(Allocation(0, None, "team", "llm"),))
    published = [folder.steering(MACHINE, status) for _ in range(2)][-1]
    assert published is not None
    assert published.pressure == tuple((index, 1.0) for index in range(1, 8))


HGX = machine_of("hgx-h100", "gpu-node")


def test_steerer_and_extender_choose_by_the_same_facts(tmp_path: Path) -> None:
    clock = Clock()
    report(tmp_path, clock, "nvidia.com/gpu")
    used, load = {0: 60 * GIB, 1: 2 * GIB}, {2: 0.8, 3: 0.3, 4: 0.1}
    folder = SteererFolder(tmp_path, lambda: used, clock, lambda: load)
    status = replace(ALL_FREE, unhealthy=((7, "Xid 79"),))
    published = [folder.steering(HGX, status) for _ in range(2)][-1]
    facts = decode_facts((tmp_path / "devices.json").read_bytes())
    record = TopologyRecord("gpu-node", HGX, replace(status, steering=published))
    kubelet = steered_kubelet(Kubelet(), record, "nvidia.com/gpu", False)
    assert kubelet.steering == facts.steering
    predictor = table_for(HGX).predictor
    for size in range(1, 8):
        (outcome,) = predictor.predict(0b11111111, ((size, False),), kubelet).outcomes
        assert outcome.taken == steered_set(facts.table, 0b11111111, 0, size, facts.steering)
    assert steered_set(facts.table, 0b11111111, 0, 3, facts.steering) == 0b1110000, "the three calm ones: 4, 5 and 6"


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


STEERING = SteeringStatus("0.1.0", ("nvidia.com/gpu",), "mixed", ((0, 60 * GIB),), ((5, 0.75),), 5, (("timeout", 1),), 1)


def test_status_with_a_steerer_survives_encoding() -> None:
    record = TopologyRecord("gpu-node", MACHINE, replace(ALL_FREE, steering=STEERING))
    assert decode(encode(record)) == record


@pytest.mark.parametrize(("field", "entry"), [("unknownMemory", {"index": 77, "bytes": 1}), ("pressure", {"index": 77, "level": 0.5})])
def test_load_on_a_gpu_that_does_not_exist_is_refused(field: str, entry: dict[str, Any]) -> None:
    manifest = full_manifest()
    manifest["status"]["steering"][field] = [entry]
    with pytest.raises(TopologyError, match=rf"steering\.{field} names GPU 77"):
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
