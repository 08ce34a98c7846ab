"""The end of a pod takes precedence over an older status of the agent."""

from __future__ import annotations

from typing import Any

import pytest

from extender.decision.node.allocation.ended_pods import MOST_ENDED, UNSURE_SECONDS
from extender.decision.state.changes import Change, ClockTicked, Listed, PodGone
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import gone, seen
from tests.objects import GPU, node, pod, snapshot
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.platforms import machine_of

ALL = (0, 1, 2, 3)


def report(at: float, **held: tuple[int, ...]) -> dict[str, Any]:
    """The agent's GpuTopology of a machine with four GPUs: indices per pod name, as PodResources gives them, without uids."""
    entries = tuple(Allocation(index, None, "team", name) for name, indices in held.items() for index in indices)
    taken = {entry.index for entry in entries}
    status = DeviceStatus(tuple(index for index in ALL if index not in taken), entries, (), at)
    return encode(TopologyRecord("n", machine_of("t4", "u"), status))


def bound(gpus: int, name: str, uid: str | None = None, phase: str = "Running", devices: tuple[int, ...] = ()) -> dict[str, Any]:
    """A pod on the node, with the devices that its own status names."""
    manifest = pod(gpus, name=name, node="n", status={"phase": phase})
    manifest["metadata"]["uid"] = uid or f"uid-{name}"
    if devices:
        resources = [{"name": GPU, "resources": [{"resourceID": f"GPU-u-{index}"} for index in devices]}]
        manifest["status"]["containerStatuses"] = [{"name": "c0", "allocatedResourcesStatus": resources}]
    return manifest


def start(*pods: dict[str, Any], **held: tuple[int, ...]) -> Snapshot:
    """A node with a status of its agent. `held`: nvidia-smi indices per pod name."""
    return snapshot(node("n", 4), report(1.0, **held), *pods)


def then(state: Snapshot, *changes: Change) -> Snapshot:
    """The state after further changes."""
    return fold_all(state, changes, GPU)


def free(state: Snapshot) -> list[tuple[int, ...]]:
    """The free sets as nvidia-smi indices, most probable first."""
    return [tuple(index for index in ALL if mask >> index & 1) for mask, _ in state.views["n"].state.free_sets]


def held_by_a() -> Snapshot:
    return start(bound(2, "a"), a=(0, 1))


# name -> what the API server shows of a pod that holds GPUs 0 and 1
ENDS: dict[str, list[Change]] = {
    "deleted": [gone("Pod", bound(2, "a"))],
    "succeeded": [seen("Pod", bound(2, "a", phase="Succeeded"))],
    "failed": [seen("Pod", bound(2, "a", phase="Failed"))],
    "failed, then deleted": [seen("Pod", bound(2, "a", phase="Failed")), gone("Pod", bound(2, "a"))],
    "no longer listed": [Listed("pods", ())],
}


@pytest.mark.parametrize("case", ENDS)
def test_end_of_a_pod_frees_its_gpus_before_the_agent_reports(case: str) -> None:
    assert free(held_by_a()) == [(2, 3)]
    state = then(held_by_a(), *ENDS[case])
    assert free(state) == [ALL]
    assert state.views["n"].state.free_count == 4


def test_first_status_after_the_end_that_names_the_pod_does_not_take_its_gpus() -> None:
    state = then(held_by_a(), PodGone("uid-a"), seen("GpuTopology", report(2.0, a=(0, 1), b=(2,))))
    assert free(state) == [(0, 1, 3)], "GPU 2 is held by a pod that the API server has not shown yet"


def test_second_status_after_the_end_that_names_the_pod_takes_its_gpus() -> None:
    """The kubelet does not know of the end, for example because it cannot reach the API server."""
    late = [seen("GpuTopology", report(at, a=(0, 1))) for at in (2.0, 3.0)]
    assert free(then(held_by_a(), PodGone("uid-a"), *late)) == [(2, 3)]


def test_topology_with_changed_hardware_and_equal_status_is_no_further_status() -> None:
    changed = report(1.0, a=(0, 1))
    writes: list[Change] = []
    for version in ("550.1", "550.2", "550.3"):
        changed = {**changed, "spec": {**changed["spec"], "driverVersion": version}}
        writes.append(seen("GpuTopology", changed))
    assert free(then(held_by_a(), PodGone("uid-a"), *writes)) == [ALL]


def test_ended_pod_is_forgotten_when_a_status_does_not_name_it() -> None:
    state = then(held_by_a(), PodGone("uid-a"))
    assert [ended.key for ended in state.ended["n"]] == ["uid-a"]
    assert not then(state, seen("GpuTopology", report(2.0))).ended
    assert not then(state, gone("Node", node("n", 4))).ended


def test_completed_pod_in_the_first_list_holds_nothing_although_the_status_names_it() -> None:
    pods = Listed("pods", (seen("Pod", bound(2, "a", phase="Succeeded")),))
    topologies = Listed("topologies", (seen("GpuTopology", report(1.0, a=(0, 1))),))
    for order in ([pods, topologies], [topologies, pods]):
        state = fold_all(Snapshot(), [Listed("nodes", (seen("Node", node("n", 4)),)), *order], GPU)
        assert free(state) == [ALL]


def test_pod_of_the_same_name_does_not_inherit_what_an_older_status_says_of_the_deleted_one() -> None:
    state = then(start(bound(1, "web-0", "first"), **{"web-0": (3,)}), PodGone("first"), seen("Pod", bound(1, "web-0", "second")))
    assert state.views["n"].known == {}
    assert len(free(state)) == 4, "each of the four may be the one that it holds"


def test_late_status_of_a_deleted_pod_is_not_of_the_new_one_of_that_name() -> None:
    """The status names it for the first time after its end; its own status tells which devices it held."""
    state = then(start(bound(1, "web-0", "first", devices=(3,))), PodGone("first"), seen("Pod", bound(1, "web-0", "second")))
    assert then(state, seen("GpuTopology", report(2.0, **{"web-0": (3,)}))).views["n"].known == {}


def test_pod_of_the_same_name_gets_the_devices_of_a_status_that_differs() -> None:
    state = then(start(bound(1, "web-0", "first"), **{"web-0": (3,)}), PodGone("first"), seen("Pod", bound(1, "web-0", "second")))
    state = then(state, seen("GpuTopology", report(2.0, **{"web-0": (1,)})))
    assert state.views["n"].known == {"second": (0b0010,)}
    assert free(state) == [(0, 2, 3)]


def test_pod_of_the_same_name_with_the_same_devices_is_known_after_the_second_status() -> None:
    state = then(start(bound(1, "web-0", "first"), **{"web-0": (3,)}), PodGone("first"), seen("Pod", bound(1, "web-0", "second")))
    again = [seen("GpuTopology", report(at, **{"web-0": (3,)})) for at in (2.0, 3.0)]
    assert then(state, *again).views["n"].known == {"second": (0b1000,)}


def test_pod_that_is_bound_before_an_end_probably_did_not_get_those_gpus() -> None:
    """Its devices are unknown, and GPUs 0 and 1 were probably not free when the kubelet admitted it."""
    state = then(held_by_a(), seen("Pod", bound(2, "b")), PodGone("uid-a"))
    chances = dict(state.views["n"].state.free_sets)
    assert max(chances, key=lambda mask: chances[mask]) == 0b0011
    assert chances[0b0011] > 0.75
    assert len(chances) > 1, "the kubelet may have freed them before the API server showed it"


def test_gpus_of_a_terminating_pod_may_be_free_already_but_are_not_counted() -> None:
    going = bound(2, "a")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:30Z"
    state = then(held_by_a(), seen("Pod", going)).views["n"].state
    assert dict(state.free_sets).keys() == {0b1100, 0b1111}
    assert state.free_sets[0][0] == 0b1100
    assert state.free_count == 2


def test_kubelet_may_not_have_freed_the_gpus_when_the_phase_says_that_the_pod_ended() -> None:
    state = then(held_by_a(), ClockTicked(None, 100.0), seen("Pod", bound(2, "a", phase="Succeeded")))
    assert free(state) == [ALL, (2, 3)]
    assert state.views["n"].state.free_count == 4
    assert free(then(state, ClockTicked(None, 100.0 + UNSURE_SECONDS))) == [ALL]
    assert free(then(state, PodGone("uid-a"))) == [ALL], "the kubelet deletes it after it has freed the devices"


def test_gpus_of_a_pod_deleted_by_force_are_free_at_once() -> None:
    """The kubelet assigns them to other pods although containers may still run."""
    assert free(then(held_by_a(), ClockTicked(None, 100.0), PodGone("uid-a"))) == [ALL]


def test_ended_pods_are_remembered_within_bounds() -> None:
    pods = [bound(1, f"p{number}") for number in range(MOST_ENDED + 40)]
    state = then(start(), *(change for manifest in pods for change in (seen("Pod", manifest), gone("Pod", manifest))))
    assert len(state.ended["n"]) == MOST_ENDED
