"""A node whose agent cannot ask its kubelet: the status says that the allocations are unknown, and device use is predicted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from extender.decision.report.checks.node_checks import node_report
from extender.decision.state.changes import ClockTicked
from extender.decision.state.fold.reducer import fold
from extender.telemetry.conditions import TUNING
from tests.decision.reports.test_node_reports import Rack, state_of
from tests.node_state.allocation_objects import NOW, free, running, topology, view
from tests.objects import GPU, node, pod, snapshot
from topology.gputopology.manifest_decoding import decode
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.manifest_fields import MAX_REASON_LENGTH
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.platforms import machine_of

REASON = "/var/lib/kubelet/pod-resources/kubelet.sock: no such socket"
UNKNOWN = DeviceStatus(None, (), ((3, "GPU is lost"),), NOW, allocations_unknown=REASON)


def manifest(status: DeviceStatus = UNKNOWN) -> dict[str, Any]:
    return encode(TopologyRecord("n", machine_of("t4", "u"), status))


def test_unknown_allocations_have_no_counts_and_survive_the_round_trip() -> None:
    status = manifest()["status"]
    assert status["allocationsUnknown"] == REASON
    assert {"free", "allocated", "freeCount", "best2Gbps", "best4Gbps"}.isdisjoint(status)
    assert decode(manifest()) == TopologyRecord("n", machine_of("t4", "u"), UNKNOWN)


def test_status_of_a_node_without_free_gpus_has_a_free_count_of_zero() -> None:
    status = manifest(DeviceStatus(free=()))["status"]
    assert (status["freeCount"], status["free"]) == (0, [])


def test_devices_of_bound_pods_are_predicted_and_the_note_says_why() -> None:
    bound = pod(2, name="a", node="n")
    healthy = replace(UNKNOWN, unhealthy=())
    assert sorted(free(view(manifest(healthy), bound))) == sorted(free(view(topology(None), bound))), "as without any status"
    node_view = view(manifest(), bound)
    assert {len(gpus) for gpus in free(node_view)} == {1}, "four, less the lost one, less the two of the pod"
    assert node_view.state.note.endswith(f"allocations unknown ({REASON}): device use predicted")


def test_devices_that_a_pods_own_status_names_remain_known() -> None:
    assert free(view(manifest(), running("a", (0, 1)))) == [(2,)]


def test_note_on_a_status_that_is_stale_and_unknown_says_stale() -> None:
    state = fold(snapshot(node("n", 4), manifest()), ClockTicked(NOW + 3600), GPU)
    assert "status stale since" in state.views["n"].state.note
    assert "allocations unknown" not in state.views["n"].state.note


def test_node_checks_warn_of_unknown_allocations() -> None:
    rack = Rack("blind")
    rack.status = DeviceStatus(None, (), (), rack.status.observed_at_seconds, allocations_unknown=REASON)
    card = node_report("blind", state_of([rack]), GPU, TUNING)
    assert card is not None
    check = next(check for check in card["checks"] if check["check"] == "topology")
    assert check["status"] == "warn"
    assert REASON in check["evidence"]
    assert check["remedy"]


@pytest.mark.parametrize(("length", "accepted"), [(MAX_REASON_LENGTH, True), (MAX_REASON_LENGTH + 1, False)])
def test_reason_for_unknown_allocations_is_bounded_in_length(length: int, accepted: bool) -> None:
    encoded = manifest()
    encoded["status"]["allocationsUnknown"] = "x" * length
    if accepted:
        decode(encoded)
    else:
        with pytest.raises(ValueError, match="allocationsUnknown"):
            decode(encoded)
