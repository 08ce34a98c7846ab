"""The rows of the cluster: each GPU has one state, and a row is made anew only if its node differs."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPods
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.report.live.cluster_rows import NodeRow, fabric_kind, node_row
from extender.decision.report.live.device_states import Awaited, gpu_states
from extender.decision.state.snapshot import MOST_RECENT
from extender.kube.objects.decode import seen
from extender.scheduling.cluster_store import ClusterStore
from extender.sources.simulated import SimulatedCluster, cluster_machines, simulated
from extender.web.live.row_table import RowTable
from tests.objects import GPU, node, pod, snapshot, topology
from topology.bandwidth.fabric import fabric_name
from topology.gputopology.topology_record import Allocation, DeviceStatus
from topology.platforms import machine_of

SHARE = 0.85


def row_of(*manifests: dict[str, Any], name: str = "n", awaited: tuple[Awaited, ...] = ()) -> NodeRow:
    state = snapshot(*manifests)
    return node_row(state.views[name], state.nodes[name], awaited, 0, SHARE)


def held(index: int, name: str = "llm") -> Allocation:
    return Allocation(index, f"uid-{name}", "team", name)


H100 = node("n", 8, "NVIDIA-H100-80GB-HBM3")
FREE_STATUS = DeviceStatus(free=tuple(range(8)))

# name -> (objects, awaited pods, letters, whether they are in the machine's order)
STATES: dict[str, tuple[list[dict[str, Any]], tuple[Awaited, ...], str, bool]] = {
    "all free": ([H100, topology("n", "hgx-h100", FREE_STATUS)], (), "ffffffff", True),
    "taken by position": (
        [H100, topology("n", "hgx-h100", DeviceStatus((0, 1, 2, 3, 6, 7), (held(4), held(5)))), pod(2, node="n")],
        (),
        "ffffttff",
        True,
    ),
    "unhealthy": ([H100, topology("n", "hgx-h100", DeviceStatus((0, 1, 2, 4, 5, 6, 7), (), ((3, "Xid 79"),)))], (), "fffxffff", True),
    "devices of a pod are predicted": ([H100, topology("n", "hgx-h100"), pod(8, node="n")], (), "????????", True),
    "assumed on the likely GPUs": (
        [H100, topology("n", "hgx-h100", FREE_STATUS)],
        (Awaited("team/next", 2, (6, 7)),),
        "ffffffaa",
        True,
    ),
    "assumed on other GPUs where the likely ones are taken": (
        [H100, topology("n", "hgx-h100", DeviceStatus(tuple(range(6)), (held(6), held(7)))), pod(2, node="n")],
        (Awaited("team/next", 2, (6, 7)),),
        "aafffftt",
        True,
    ),
    "more assumed than free": ([H100, topology("n", "hgx-h100", FREE_STATUS)], (Awaited("team/next", 99, ()),), "aaaaaaaa", True),
    "node offers fewer than it has": ([node("n", 6), topology("n", "hgx-h100", FREE_STATUS)], (), "ffffff??", True),
    "unknown topology is counted": ([node("n", 4, "some GPU"), pod(1, node="n")], (Awaited("team/next", 2, ()),), "taaf", False),
}


@pytest.mark.parametrize("case", STATES)
def test_each_gpu_of_a_row_has_one_state(case: str) -> None:
    manifests, awaited, letters, by_position = STATES[case]
    row = row_of(*manifests, awaited=awaited)
    assert (row.states, row.states_by_position) == (letters, by_position)
    assert row.free + row.taken + row.assumed + row.excluded + row.unknown == row.gpus == len(row.states)


def test_gpu_whose_memory_an_unknown_process_uses_is_excluded_until_the_process_ends() -> None:
    cluster, store = simulated(GPU, {"hgx-h100": 1}), ClusterStore(GPU)
    store.apply(cluster.listing())
    states = []
    for seconds, used_bytes in ((1.0, 0), (2.0, 60 << 30), (3.0, 0)):
        cluster.stray("hgx-h100-0", 3, used_bytes)
        store.apply(cluster.telemetry(seconds))
        found = gpu_states(store.snapshot.views["hgx-h100-0"], (), SHARE)
        states.append((found.letters, found.why.get(3)))
    assert states == [
        ("ffffffff", None),
        ("fffxffff", "60.0 GiB of its memory are in use by processes that Kubernetes does not know"),
        ("ffffffff", None),
    ]


FABRICS = {
    "hgx-h100": "NVSwitch",
    "dgx-1v": "NVLink mesh",
    "a40-bridge-pairs": "NVLink bridges",
    "a100-pcie-bridge-pairs": "NVLink bridges",
    "l40s": "PCIe",
}


@pytest.mark.parametrize("platform", FABRICS)
def test_kind_of_fabric_of_a_platform(platform: str) -> None:
    assert fabric_kind(fabric_name(machine_of(platform))) == FABRICS[platform]


LABELLED: dict[str, tuple[dict[str, Any], tuple[bool, str | None]]] = {
    "cordoned": ({"spec": {"unschedulable": True}}, (False, "cordoned")),
    "not ready": ({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, (False, "not ready")),
    "ready": ({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}, (True, None)),
}


@pytest.mark.parametrize("case", LABELLED)
def test_row_says_whether_the_node_takes_pods(case: str) -> None:
    parts, expected = LABELLED[case]
    manifest = node("n", 8)
    for key, value in parts.items():
        manifest[key] = {**manifest.get(key, {}), **value}
    row = row_of(manifest)
    assert (row.schedulable, row.why_unschedulable) == expected


def test_row_has_the_labels_of_zone_and_pool() -> None:
    row = row_of(node("n", 8, labels={"topology.kubernetes.io/zone": "z1", "cloud.google.com/gke-nodepool": "h100"}))
    assert (row.zone, row.pool) == ("z1", "h100")


def test_contradicted_topology_is_a_problem_of_its_row() -> None:
    row = row_of(node("n", 8, "Tesla-T4"), topology("n", "hgx-h100"))
    assert row.topology == "contradicted"
    assert row.problems == 1
    assert row.fabric == "unknown"


def moment_of(store: ClusterStore, assumed: AssumedPods = NO_ASSUMED_PODS) -> Moment:
    return Moment(store.snapshot, assumed, 0.0)


def filled(counts: dict[str, int]) -> tuple[ClusterStore, SimulatedCluster]:
    cluster, store = SimulatedCluster(cluster_machines(counts), GPU), ClusterStore(GPU)
    store.apply(cluster.listing())
    return store, cluster


def test_only_rows_of_changed_nodes_are_made_anew() -> None:
    store, cluster = filled({"t4": 40})
    looks: list[int] = []
    table = RowTable(GPU, SHARE, lambda: looks.append(1), give_way_rows=1)
    changed, removed = table.update(moment_of(store))
    assert (len(changed), removed, len(looks)) == (40, [], 40)
    looks.clear()
    assert table.update(moment_of(store)) == ([], [])
    assert looks == []
    cluster.bind(pod(1, name="one"), "t4-7", store)
    changed, _ = table.update(moment_of(store))
    assert [b'"name":"t4-7"' in row for row in changed] == [True]
    assert len(looks) == 1


def test_rows_are_compared_one_by_one_where_too_many_batches_have_passed() -> None:
    store, _ = filled({"t4": 3})
    table = RowTable(GPU, SHARE, lambda: None)
    table.update(moment_of(store))
    before = store.snapshot.revision
    for number in range(MOST_RECENT + 10):
        store.apply((seen("Node", node("t4-1", 4, labels={"number": str(number)})),))
    store.apply((seen("Node", node("t4-2", 4, labels={"topology.kubernetes.io/zone": "moved"})),))
    assert store.snapshot.changed_since(before) is None
    changed, _ = table.update(moment_of(store))
    assert {row.zone for row in table.rows() if row.name == "t4-2"} == {"moved"}
    assert any(b'"name":"t4-2"' in row for row in changed)


def test_totals_are_the_sums_over_the_rows_after_any_changes() -> None:
    store, cluster = filled({"t4": 3, "hgx-h100": 1})
    table = RowTable(GPU, SHARE, lambda: None)
    for number, name in enumerate(("t4-0", "hgx-h100-0", "t4-2")):
        table.update(moment_of(store))
        cluster.bind(pod(2, name=f"p{number}"), name, store)
    store.apply((seen("Node", node("plugin-down", 0)),))
    table.update(moment_of(store))
    rows, totals = table.rows(), table.totals
    assert len(rows) == totals.nodes == 5
    for field in ("gpus", "free", "taken", "assumed", "excluded", "unknown"):
        assert getattr(totals, field) == sum(getattr(row, field) for row in rows)
    assert totals.taken == 6
