"""The table of pods: its pages are those of all rows made anew, and a page costs what has changed, not the size of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.decision.cycle.assumed_pods import AssumedPod
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.evaluate.verdict import Evidence
from extender.decision.report.live.pod_rows import PodRow
from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import NodeGone, PodGone
from extender.kube.objects.decode import seen
from extender.scheduling.cluster_store import ClusterStore
from extender.web.live.pod_table import IDLE_SECONDS, STEP_ROWS, PodQuery, PodTable
from extender.web.live.sorted_keys import STEP_KEYS, SortedKeys
from tests.decision.reports.all_pod_rows import all_pod_rows, worst_first
from tests.objects import GPU, node, pod, topology
from topology.gputopology.topology_record import Allocation, DeviceStatus

NODES = ("gpu-a", "gpu-b", "absent")
PODS = ("one", "two", "three")
BRIDGED = "a100-pcie-bridge-pairs"
ALL = PodQuery()
TWO = Demand(((2, False),), 2)


class Cluster:
    """A store whose clock the test moves, and the table of its pods."""

    def __init__(self) -> None:
        self.store, self.now_seconds, self.version, self.waits = ClusterStore(GPU, warm_tables=False), 0.0, 0, 0
        self.table = PodTable(self.moment, self.wait)
        self.store.apply(seen("Node", node(name)) for name in NODES[:2])

    def moment(self) -> Moment:
        return self.store.moment(self.now_seconds)

    def wait(self) -> None:
        self.waits += 1

    def see(self, kind: str, manifest: dict[str, Any]) -> None:
        self.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.version)
        self.store.apply((seen(kind, manifest),))

    def do(self, operation: str, name: str, where: str) -> None:
        """Do one thing to a pod and a node."""
        match operation:
            case "bind":
                self.see("Pod", pod(2, name=name, node=where))
            case "wait":
                self.see("Pod", pod(2, name=name))
            case "delete":
                self.version += 1
                self.store.apply((PodGone(f"uid-{name}", self.version),))
            case "assume":
                now = self.now_seconds
                self.store.assume(AssumedPod(f"uid-{name}", "team", name, where, TWO, Evidence(), now, now + 2, "decision"))
            case "release":
                self.store.release(f"uid-{name}")
            case "report":
                held = tuple(Allocation(index, f"uid-{name}", "team", name) for index in (0, 4))
                self.see("GpuTopology", topology(where, BRIDGED, DeviceStatus((1, 2, 3, 5, 6, 7), held)))
            case "remove the node":
                self.store.apply((NodeGone(where),))
            case "add the node":
                self.see("Node", node(where))
            case "tick":
                self.now_seconds += 1


OPERATIONS = ("bind", "wait", "delete", "assume", "release", "report", "remove the node", "add the node", "tick")
QUERIES = (
    ALL,
    PodQuery(namespace="team"),
    PodQuery(node="gpu-a"),
    PodQuery(state="pending"),
    PodQuery(search="t"),
    PodQuery("team", "gpu-b"),
)


def wanted(rows: Sequence[PodRow], query: PodQuery) -> list[PodRow]:
    """The rows that are asked for, by the words of the API's description."""
    return [
        row
        for row in rows
        if query.namespace in (None, row.namespace)
        and query.node in (None, row.node)
        and query.state in (None, row.state)
        and (query.search is None or query.search in f"{row.namespace}/{row.name}" or query.search in (row.node or ""))
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from(OPERATIONS), st.sampled_from(PODS), st.sampled_from(NODES)), max_size=4), max_size=6))
def test_pages_are_those_of_all_rows_after_any_changes(batches: list[list[tuple[str, str, str]]]) -> None:
    cluster = Cluster()
    for batch in batches:
        for operation in batch:
            cluster.do(*operation)
        rows = all_pod_rows(cluster.moment())
        for query in QUERIES:
            expected = wanted(rows, query)
            page = cluster.table.by_name(query, None, 100)
            assert (page.rows, page.total) == (expected, len(expected)), query
            assert cluster.table.by_need(query, 100).rows == worst_first(expected), query
            for row in expected:
                assert cluster.table.by_name(query, row.position, 1).rows == expected[expected.index(row) + 1 :][:2]


def filled(pods: int) -> Cluster:
    """A cluster of which half of the pods wait and half are bound to two nodes."""
    cluster = Cluster()
    cluster.store.apply(
        seen("Pod", pod(1, name=f"p{number:04}", node=NODES[number % 2] if number % 4 < 2 else None)) for number in range(pods)
    )
    return cluster


@pytest.mark.parametrize("pods", [100, 1000])
def test_work_for_a_page_is_that_of_the_pods_that_have_changed(pods: int) -> None:
    cluster = filled(pods)
    table = cluster.table
    assert table.by_name(ALL, None, 10).total == pods
    assert (table.made, table.looked) == (pods, pods)
    for _ in range(3):
        table.by_name(ALL, "team/p0050", 10)
        table.by_need(ALL, 10)
        table.by_name(PodQuery(search="p00"), None, 10)
    assert (table.made, table.looked) == (pods, pods), "nothing has changed, so no pod is looked at"
    cluster.see("Node", node("gpu-c"))
    table.by_name(ALL, None, 10)
    assert (table.made, table.looked) == (pods, pods), "no pod is on the new node"
    cluster.do("bind", "new", "gpu-c")
    cluster.do("wait", "later", "")
    assert table.by_name(ALL, None, 10).total == pods + 2
    assert (table.made, table.looked) == (pods + 2, pods + 2), "only the new pods are looked at"


def test_first_page_gives_way_to_verbs_after_each_step() -> None:
    pods = 40 * STEP_ROWS
    cluster = filled(pods)
    cluster.table.by_name(ALL, None, 10)
    assert cluster.waits >= pods // STEP_ROWS + pods // STEP_KEYS
    cluster.waits = 0
    cluster.table.by_need(PodQuery(search="nothing"), 10)
    assert cluster.waits >= pods // STEP_KEYS, "a search looks at all rows, in steps"


def test_rows_that_nothing_asks_for_are_dropped_because_they_hold_an_old_state() -> None:
    cluster = filled(10)
    table = cluster.table
    table.by_name(ALL, None, 10)
    used = table._used_seconds
    table.forget_if_idle(used + IDLE_SECONDS - 1)
    assert len(table._kept) == 10
    table.forget_if_idle(used + IDLE_SECONDS + 1)
    assert (table._shown, table._kept) == (None, {})
    assert table.by_name(ALL, None, 100).total == 10


def test_table_starts_anew_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = filled(10)
    with monkeypatch.context() as broken:
        broken.setattr("extender.web.live.pod_table.worst_key", lambda _row: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            cluster.table.by_name(ALL, None, 10)
    assert cluster.table.by_name(ALL, None, 100).rows == all_pod_rows(cluster.moment())


@given(st.lists(st.tuples(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60))), max_size=8))
def test_keys_stay_in_order_whatever_is_removed_and_added(changes: list[tuple[set[int], set[int]]]) -> None:
    keys: SortedKeys[int] = SortedKeys(lambda: None)
    present: set[int] = set()
    for unwanted, wanted_now in changes:
        removed = unwanted & present
        added = wanted_now - (present - removed)
        keys.change(removed, added)
        present = (present - removed) | added
        assert list(keys.keys) == sorted(present)


@pytest.mark.parametrize(("present", "added"), [(0, 5_000), (5_000, 5_000), (50_000, 1_000)])
def test_many_keys_are_added_in_steps(present: int, added: int) -> None:
    waits: list[int] = []
    keys: SortedKeys[int] = SortedKeys(lambda: waits.append(1))
    keys.change((), range(0, 2 * present, 2))
    waits.clear()
    keys.change((), range(1, 2 * added, 2))
    assert list(keys.keys) == sorted([*range(0, 2 * present, 2), *range(1, 2 * added, 2)])
    assert len(waits) >= added // STEP_KEYS
