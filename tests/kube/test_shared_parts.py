"""Objects that are decoded share what they have in common, and are equal to objects that share nothing."""

from __future__ import annotations

import gc
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.request.kubernetes_objects import Node
from extender.decision.state.changes import NodeSeen
from extender.decision.state.pods import bound_pod, held_demand
from extender.kube.objects.decode import seen
from extender.sources.dump import read_dump
from tests.machines import machines
from tests.objects import GPU, node, pod, pod_struct, topology
from topology.gputopology.manifest_decoding import decode
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import Machine, TopologyError, with_gpus, with_uuids
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of

AMOUNTS = st.dictionaries(st.sampled_from(["cpu", GPU]), st.sampled_from(["1", "8", 1, 1.0, True, 8]))
LISTS = st.lists(st.fixed_dictionaries({"type": st.sampled_from(["Ready", "DiskPressure"]), "status": st.sampled_from(["True", "False"])}))
TAINTS = st.lists(st.fixed_dictionaries({"key": st.sampled_from(["a", "b"]), "effect": st.just("NoSchedule")}))
LABELS = st.dictionaries(st.text(max_size=3), st.text(max_size=3))
MANIFESTS = st.fixed_dictionaries(
    {"metadata": st.fixed_dictionaries({"name": st.just("n")}, optional={"labels": LABELS})},
    optional={
        "status": st.fixed_dictionaries({}, optional={"allocatable": AMOUNTS, "capacity": AMOUNTS, "conditions": LISTS}),
        "spec": st.fixed_dictionaries({}, optional={"taints": TAINTS, "unschedulable": st.booleans()}),
    },
)


def node_of(manifest: dict[str, Any]) -> Node:
    change = seen("Node", manifest)
    assert isinstance(change, NodeSeen)
    return change.node


@given(st.lists(MANIFESTS, max_size=4))
def test_node_that_shares_parts_equals_one_that_is_decoded_alone(manifests: list[dict[str, Any]]) -> None:
    """Compared as text, because 1, 1.0 and True are equal but not the same amount."""
    for manifest in manifests:
        assert msgspec.json.encode(node_of(manifest)) == msgspec.json.encode(msgspec.convert(manifest, Node, strict=False))


def test_nodes_with_the_same_resources_share_them_and_the_texts_of_their_labels() -> None:
    labels = {"feature.node.kubernetes.io/cpu-cpuid.AVX512": "present"}
    first, second = (node_of(json.loads(json.dumps(node(name, labels=labels)))) for name in ("a", "b"))
    assert first.status is second.status
    (key, value), (other_key, other_value) = *(first.metadata.labels or {}).items(), *(second.metadata.labels or {}).items()
    assert key is other_key
    assert value is other_value


def test_machines_that_differ_by_uuids_alone_share_links_and_table() -> None:
    first, second = (decode(json.loads(json.dumps(encode(TopologyRecord(name, machine_of("hgx-h100", name)))))) for name in ("a", "b"))
    assert first.machine.gpus[0].uuid != second.machine.gpus[0].uuid
    assert first.machine.nvlinks is second.machine.nvlinks
    assert first.machine.pcie_paths is second.machine.pcie_paths
    assert first.machine.like is second.machine.like
    assert table_for(first.machine) is table_for(second.machine)


@given(machines(nics=True))
def test_table_of_a_decoded_machine_is_the_table_of_an_equal_machine_that_shares_nothing(machine: Machine) -> None:
    decoded = decode(encode(TopologyRecord("n", machine))).machine
    assert decoded == machine
    assert table_for(decoded) is table_for(machine)


def test_machine_whose_gpus_are_altered_is_no_longer_like_the_one_it_was_made_from() -> None:
    machine = decode(topology("n", "hgx-h100")).machine
    shared = with_uuids(machine, [f"GPU-{position}" for position in range(8)])
    assert shared.like is machine
    assert with_gpus(shared, numa_node=0).like is None
    assert replace(shared, cpu_model="other").like is None


def test_repeated_uuids_are_refused_also_for_a_machine_whose_like_is_known() -> None:
    manifest = encode(TopologyRecord("n", machine_of("hgx-h100", "n")))
    assert decode(manifest).machine.like is not None
    manifest["spec"]["gpus"][1]["uuid"] = manifest["spec"]["gpus"][0]["uuid"]
    with pytest.raises(TopologyError, match="uuids repeat"):
        decode(manifest)


def test_pods_with_the_same_requests_share_them_and_keep_how_amounts_are_written() -> None:
    def bound(name: str, cpu: object) -> Any:
        decoded = pod_struct(pod(2, name=name, node="n", spec={"containers": [_container(cpu)], "nodeName": "n"}))
        return bound_pod(decoded, held_demand(decoded, GPU), GPU)

    first, second, other = bound("a", "1"), bound("b", "1"), bound("c", "1.0")
    assert first.demand is second.demand
    assert first.others is second.others
    assert [str(amount) for _, amount in other.others] == ["1.0"]
    assert [str(amount) for _, amount in first.others] == ["1"]


def _container(cpu: object) -> dict[str, Any]:
    return {"name": "c", "resources": {"limits": {GPU: "2", "cpu": cpu}}}


def test_dump_is_read_one_object_at_a_time(tmp_path: Path) -> None:
    """All objects of a dump at once, as dictionaries, would take more memory than its text."""
    unread = {f"key-{number}": "x" * 50 for number in range(200)}
    items = [{**node(f"n{number}"), "unread": unread} for number in range(200)]
    path = tmp_path / "dump.json"
    path.write_text(json.dumps({"kind": "List", "items": items}))
    gc.collect()
    tracemalloc.start()
    try:
        listing = read_dump(path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(listing.listed[0].changes) == 200
    assert peak_bytes < 2.5 * path.stat().st_size, "the text, once as bytes and once as str, and few objects"


def test_dump_with_a_number_that_json_cannot_hold_is_read_as_yaml_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "dump.json"
    item = json.dumps(node("n") | {"unread": "HUGE"}).replace('"HUGE"', "1e999")
    path.write_text(f'{{"kind": "List", "items": [{item}]}}')
    assert len(read_dump(path).listed[0].changes) == 1
