"""The rows of pods: where each is, which GPUs it holds, how fast they are joined, or why it waits."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.report.live.pod_rows import PodRow
from extender.decision.state.snapshot import Snapshot
from tests.decision.reports.all_pod_rows import all_pod_rows, worst_first
from tests.objects import node, pod, snapshot, topology
from topology.gputopology.topology_record import Allocation, DeviceStatus

BRIDGED = "a100-pcie-bridge-pairs"


def rows_of(state: Snapshot) -> list[PodRow]:
    return all_pod_rows(Moment(state, NO_ASSUMED_PODS, 0.0))


def on_bridged(name: str, *gpus: int, **more: Any) -> list[dict[str, Any]]:
    """A node with bridged pairs, and a pod that holds the given GPUs."""
    held = tuple(Allocation(index, f"uid-{name}", "team", name) for index in gpus)
    free = tuple(index for index in range(8) if index not in gpus)
    return [node("gpu-a"), topology("gpu-a", BRIDGED, DeviceStatus(free, held)), pod(len(gpus), name=name, node="gpu-a", **more)]


def test_bound_pod_has_its_gpus_and_their_bandwidth() -> None:
    (paired,) = rows_of(snapshot(*on_bridged("paired", 0, 1)))
    (apart,) = rows_of(snapshot(*on_bridged("apart", 0, 4)))
    assert (paired.state, paired.node, paired.devices) == ("bound", "gpu-a", (0, 1))
    assert paired.busbw_gbps is not None
    assert apart.busbw_gbps is not None
    assert paired.busbw_gbps > 2 * apart.busbw_gbps


def test_bound_pod_has_what_the_best_gpus_of_its_node_would_give_and_its_share_of_it() -> None:
    (paired,) = rows_of(snapshot(*on_bridged("paired", 0, 1)))
    (apart,) = rows_of(snapshot(*on_bridged("apart", 0, 4)))
    assert paired.best_gbps == paired.busbw_gbps == apart.best_gbps
    assert (paired.share_of_best, apart.share_of_best < 0.5) == (1.0, True)


def test_worst_first_has_pending_pods_then_the_smallest_share_of_the_best_then_unknown_ones_by_name() -> None:
    (paired,) = rows_of(snapshot(*on_bridged("a-paired", 0, 1)))
    (apart,) = rows_of(snapshot(*on_bridged("z-apart", 0, 4)))
    (single,) = rows_of(snapshot(*on_bridged("b-single", 3)))
    (pending,) = rows_of(snapshot(node("gpu-a"), pod(4, name="y-pending")))
    assert [row.name for row in worst_first([single, paired, apart, pending])] == ["y-pending", "z-apart", "a-paired", "b-single"]


def test_bandwidth_of_one_gpu_has_no_meaning() -> None:
    (row,) = rows_of(snapshot(*on_bridged("single", 3)))
    assert (row.devices, row.busbw_gbps, row.best_gbps) == ((3,), None, None)


def test_gpus_of_a_pod_without_agent_are_unknown() -> None:
    (row,) = rows_of(snapshot(node("gpu-a"), pod(2, node="gpu-a")))
    assert (row.gpus, row.devices, row.busbw_gbps) == (2, None, None)


def test_pending_pod_has_the_message_of_kube_scheduler() -> None:
    message = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
    conditions = [{"type": "PodScheduled", "status": "False", "message": message}]
    (row,) = rows_of(snapshot(node("gpu-a"), pod(4, status={"conditions": conditions})))
    assert (row.state, row.node, row.gpus, row.message) == ("pending", None, 4, message)


@pytest.mark.parametrize("names", [["a-b", "a"], ["b", "a", "a0"]])
def test_position_orders_the_rows(names: list[str]) -> None:
    rows = rows_of(snapshot(node("gpu-a"), *(pod(1, name=name) for name in names)))
    assert [row.position for row in rows] == sorted(row.position for row in rows)


def test_floor_of_a_bound_pod_is_shown() -> None:
    (row,) = rows_of(snapshot(*on_bridged("floored", 0, 1, annotations={"fabricwise.dev/min-busbw": "100"})))
    assert row.floor_gbps == 100
