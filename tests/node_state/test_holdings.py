"""Which pod holds which GPUs by two sources, and whether predictions were right."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.evaluate.verdict import Evidence, Prospect
from extender.decision.report.prediction_outcomes import became_known, compare
from extender.decision.state.changes import ClockTicked, PodGone
from extender.decision.state.fold.reducer import fold, fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import seen
from tests.node_state.allocation_objects import NOW, free, running, topology, view
from tests.objects import GPU, node, pod, snapshot
from topology.gputopology.topology_record import Allocation, DeviceStatus


def test_devices_are_known_from_the_pods_own_status_without_the_agent() -> None:
    node_view = view(topology(None), running("a", (1, 3)))
    assert free(node_view) == [(0, 2)]
    assert node_view.known == {"uid-a": (0b1010,)}


def test_devices_are_known_per_container() -> None:
    assert view(topology(None), running("a", (0,), (2, 3))).known == {"uid-a": (0b1, 0b1100)}


@pytest.mark.parametrize(("observed", "left"), [(NOW - 60, (0, 2)), (NOW + 60, (0, 1))])
def test_where_pod_and_agent_disagree_the_newer_counts_and_the_disagreement_is_reported(observed: float, left: tuple[int, ...]) -> None:
    status = DeviceStatus(allocated=(Allocation(2, "uid-a"), Allocation(3, "uid-a")), observed_at_seconds=observed)
    node_view = view(topology(status), running("a", (1, 3)))
    assert free(node_view) == [left]
    assert node_view.disagreements == ("pod team/a: its status names GPUs [1, 3], the agent [2, 3]",)


def test_no_disagreement_is_reported_where_pod_and_agent_agree() -> None:
    status = DeviceStatus(allocated=(Allocation(1, "uid-a"), Allocation(3, "uid-a")), observed_at_seconds=NOW)
    assert view(topology(status), running("a", (1, 3))).disagreements == ()


# name -> (status, pods, free sets)
CASES: dict[str, tuple[DeviceStatus, list[dict[str, Any]], list[tuple[int, ...]]]] = {
    "a device of an unknown pod is taken": (DeviceStatus(allocated=(Allocation(0, "gone"),)), [], [(1, 2, 3)]),
    "a device allocated to no pod is taken": (DeviceStatus(allocated=(Allocation(0),)), [], [(1, 2, 3)]),
    "a device that is neither free nor allocated is taken": (DeviceStatus(free=(1, 2)), [], [(1, 2)]),
    "a pod that the status does not know yet is predicted": (
        DeviceStatus(free=(0, 1), allocated=(Allocation(2, "uid-b"), Allocation(3, "uid-b"))),
        [pod(2, name="b", node="n"), pod(1, name="new", node="n")],
        [(0,), (1,)],
    ),
    "a pod by name": (DeviceStatus(allocated=(Allocation(3, None, "team", "b"),)), [pod(1, name="b", node="n")], [(0, 1, 2)]),
    "a device id that the machine does not have": (DeviceStatus(), [running("a", (0, 1), prefix="GPU-other-")], [(0, 1), (2, 3)]),
    "a replica of a GPU": (DeviceStatus(), [running("a", (2,), prefix="GPU-u-")], [(0, 1, 3)]),
    "sick GPUs": (DeviceStatus(free=(0, 1, 2, 3), unhealthy=((1, "lost"),)), [], [(0, 2, 3)]),
}


@pytest.mark.parametrize("case", CASES)
def test_free_sets_follow_from_the_agents_status_and_the_pods(case: str) -> None:
    status, pods, expected = CASES[case]
    assert sorted(free(view(topology(status), *pods))) == expected


def test_pod_with_a_replica_holds_the_gpu_of_the_replica() -> None:
    manifest = running("a", (2,))
    manifest["status"]["containerStatuses"][0]["allocatedResourcesStatus"][0]["resources"][0]["resourceID"] = "GPU-u-2::5"
    assert free(view(topology(None), manifest)) == [(0, 1, 3)]


def test_devices_of_other_vendors_and_of_finished_init_containers_are_free() -> None:
    manifest = running("a", (2,))
    statuses = manifest["status"]["containerStatuses"][0]["allocatedResourcesStatus"]
    statuses.append({"name": "rdma/hca", "resources": [{"resourceID": "mlx5_0"}]})
    manifest["spec"]["initContainers"] = [{"name": "init"}]
    manifest["status"]["initContainerStatuses"] = [
        {"name": "init", "allocatedResourcesStatus": [{"name": GPU, "resources": [{"resourceID": "GPU-u-0"}]}]}
    ]
    assert free(view(topology(None), manifest)) == [(0, 1, 3)]


def test_stale_status_counts_only_for_unhealthy_gpus_and_the_note_says_since_when() -> None:
    status = DeviceStatus(
        free=(), allocated=tuple(Allocation(i, "gone") for i in range(3)), unhealthy=((3, "lost"),), observed_at_seconds=NOW
    )
    fresh, stale = view(topology(status), now=NOW + 299), view(topology(status), now=NOW + 301)
    assert free(fresh) == [()]
    assert free(stale) == [(0, 1, 2)], "an unhealthy GPU remains unhealthy"
    assert fresh.stale_since_seconds is None
    assert stale.stale_since_seconds == NOW + 300
    assert stale.state.note.endswith("status stale since 2026-09-21T14:18:20Z: device use predicted")
    assert stale.state.table is not None


def test_status_becomes_stale_with_time_and_a_new_one_is_fresh() -> None:
    status = DeviceStatus(free=(0,), observed_at_seconds=NOW)
    state = snapshot(node("n", 4), topology(status))
    assert state.views["n"].stale_since_seconds is None, "without a clock nothing is stale"
    ticked = fold(state, ClockTicked(NOW + 10), GPU)
    assert ticked.views["n"] is state.views["n"], "a tick that makes nothing stale changes nothing"
    late = fold(ticked, ClockTicked(NOW + 400), GPU)
    assert late.views["n"].stale_since_seconds is not None
    again = fold(late, seen("GpuTopology", topology(DeviceStatus(free=(0,), observed_at_seconds=NOW + 390))), GPU)
    assert again.views["n"].stale_since_seconds is None


def states() -> tuple[Snapshot, Snapshot]:
    before = snapshot(node("n", 4), topology(None), pod(2, name="a", node="n"))
    return before, fold(before, seen("Pod", running("a", (1, 3))), GPU)


def test_devices_of_a_pod_become_known_once() -> None:
    before, after = states()
    (known,) = became_known(before, after)
    assert (known.namespace, known.name, known.node, known.gpus) == ("team", "a", "n", (1, 3))
    assert known.busbw_gbps == 10.0
    again = fold_all(after, [seen("Pod", running("a", (1, 3))), seen("Node", node("n", 3))], GPU)
    assert became_known(after, again) == ()
    assert became_known(after, fold(after, PodGone("uid-a"), GPU)) == ()


def test_outcome_says_whether_the_set_was_predicted() -> None:
    (known,) = became_known(*states())
    right = Evidence(expected_gbps=9.0, prospects=(Prospect((0, 2), 0.5, 10.0), Prospect((1, 3), 0.5, 10.0)))
    assert compare(known, right).in_support is True
    assert compare(known, Evidence(prospects=(Prospect((0, 2), 1.0, 10.0),))).in_support is False
    many = Evidence(prospects=tuple(Prospect((0, n), 1 / 16, 10.0) for n in range(16)))
    assert compare(known, many).in_support is None, "there are more predicted sets than are kept"
