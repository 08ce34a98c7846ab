"""What the agent publishes to an API server that fails: when, with which owner, and what it says of a refusal."""

from __future__ import annotations

import pytest

from tests.agent.rounds.agent_bench import GPU, PATH, Bench
from topology.agent.nvml import LOST
from topology.agent.publisher import ApiError
from topology.gputopology.topology_record import Allocation


def test_the_object_is_owned_by_its_node_and_written_only_when_it_changes(bench: Bench) -> None:
    bench.after(0)
    assert bench.server.writes == ["spec", "status"]
    assert bench.server.objects[PATH]["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "node-uid"}
    ]
    bench.after(5)
    assert len(bench.server.writes) == 2, "nothing new"
    bench.kubelet.held = {("team", "llm", "c"): {GPU: ["GPU-00000001"]}}
    bench.after(5)
    assert bench.server.writes[2:] == ["status"]
    assert bench.published.status is not None
    assert bench.published.status.allocated == (Allocation(1, None, "team", "llm"),)
    assert bench.published.status.free == (0, 2, 3)


def test_a_heartbeat_renews_what_was_observed(bench: Bench) -> None:
    bench.after(0)
    before = bench.published.status
    bench.after(80)
    after = bench.published.status
    assert bench.server.writes == ["spec", "status", "status"]
    assert before is not None
    assert after is not None
    assert (after.observed_at_seconds or 0) - (before.observed_at_seconds or 0) == pytest.approx(80)


def test_an_outage_of_a_minute_loses_nothing(bench: Bench) -> None:
    bench.after(0)
    bench.server.down = True
    bench.kubelet.held = {("team", "one", "c"): {GPU: ["GPU-00000001"]}}
    for _ in range(6):
        bench.after(5)
    assert bench.agent.state.publish_error == "connection refused"
    bench.kubelet.held = {("team", "two", "c"): {GPU: ["GPU-00000002"]}}
    for _ in range(6):
        bench.after(5)
    bench.server.down = False
    for _ in range(13):  # within the longest pause
        bench.after(5)
    assert bench.published.status is not None
    assert bench.published.status.allocated == (Allocation(2, None, "team", "two"),)
    assert bench.agent.state.publish_error is None


def test_failures_are_retried_with_growing_pauses(bench: Bench) -> None:
    bench.server.down = True
    tries = 0
    for _ in range(300):
        before = bench.agent._publisher._failures  # type: ignore[union-attr]
        bench.after(1)
        tries += bench.agent._publisher._failures > before  # type: ignore[union-attr]
    assert 7 <= tries <= 16, "about one a minute at the end, not one a second"


def test_an_outage_of_days_ends_in_a_publication(bench: Bench) -> None:
    bench.server.down = True
    for _ in range(1200):  # 2.0 ** 1024 is no float
        bench.after(60)
    bench.server.down = False
    bench.after(60)
    assert bench.server.writes == ["spec", "status"]


def test_an_object_that_was_deleted_is_made_anew(bench: Bench) -> None:
    bench.after(0)
    del bench.server.objects[PATH]
    bench.server.objects["/api/v1/nodes/n"]["metadata"]["uid"] = "another"
    for _ in range(30):
        bench.after(5)
    assert bench.server.objects[PATH]["metadata"]["ownerReferences"][0]["uid"] == "another"
    assert "spec" in bench.server.objects[PATH]


def test_a_lost_gpu_is_published_as_unhealthy(bench: Bench) -> None:
    bench.after(0)
    bench.fake.dying = {2}
    bench.after(25)
    status = bench.published.status
    assert status is not None
    assert status.unhealthy == ((2, LOST),)
    assert status.free == (0, 1, 3)
    bench.fake.dying = set()
    bench.after(25)
    assert bench.published.status is not None
    assert bench.published.status.unhealthy == ()


def test_a_socket_that_goes_away_leaves_hardware_and_no_claims(bench: Bench) -> None:
    bench.kubelet.held = {("team", "llm", "c"): {GPU: ["GPU-00000001"]}}
    bench.after(0)
    bench.kubelet.failing = True
    bench.after(5)
    status = bench.published.status
    assert status is not None
    assert (status.free, status.allocated) == (None, ())
    assert "UNAVAILABLE" in (status.allocations_unknown or "")
    assert {"freeCount", "best2Gbps", "best4Gbps"}.isdisjoint(bench.server.objects[PATH]["status"])
    assert "UNAVAILABLE" in (bench.agent.state.kubelet_error or "")
    bench.kubelet.failing = False
    bench.after(5)
    assert bench.published.status is not None
    assert bench.published.status.allocated
    assert bench.published.status.allocations_unknown is None
    assert bench.server.objects[PATH]["status"]["freeCount"] == 3


def test_allocations_are_known_where_the_kubelet_does_not_list_allocatable_devices(bench: Bench) -> None:
    bench.kubelet.held = {("team", "llm", "c"): {GPU: ["GPU-00000001"]}}
    bench.kubelet.without_allocatable = True
    bench.after(0)
    assert bench.published.status is not None
    assert bench.published.status.free == (0, 2, 3)
    assert bench.agent.state.problems() == ()


def test_heartbeats_and_hardware_readings_go_on_when_the_wall_clock_goes_back(bench: Bench) -> None:
    bench.after(0)
    bench.wall.now -= 3600
    bench.after(80)
    assert bench.server.writes == ["spec", "status", "status"]
    bench.fake.dying = {2}
    bench.after(25)
    assert bench.published.status is not None
    assert bench.published.status.unhealthy == ((2, LOST),)


def test_an_outage_ends_in_time_when_the_wall_clock_went_back(bench: Bench) -> None:
    bench.server.down = True
    bench.after(0)
    bench.wall.now -= 3600
    bench.server.down = False
    bench.after(61)
    assert bench.server.writes == ["spec", "status"]


def test_an_object_is_published_without_an_owner_where_the_node_may_not_be_read(bench: Bench) -> None:
    bench.server.node_refusal = ApiError(403, 'nodes "n" is forbidden')
    bench.after(0)
    assert bench.server.objects[PATH]["metadata"]["ownerReferences"] == []
    assert bench.server.writes == ["spec", "status"]
    assert bench.agent.state.problems() == ()


def test_a_node_name_that_no_node_has_is_named_with_its_remedy(bench: Bench) -> None:
    del bench.server.objects["/api/v1/nodes/n"]
    bench.after(0)
    assert bench.server.writes == []
    problem = "\n".join(bench.agent.state.problems())
    assert problem.startswith("publish: there is no Node n: the agent's node name is wrong")
    assert "Set NODE_NAME from spec.nodeName" in problem


# name -> (what the API server answers to a write, what the agent says to do)
REFUSALS = {
    "no right": (ApiError(403, "gputopologies is forbidden: User cannot patch resource"), "kubectl apply -k manifests/agent"),
    "a token of another node": (
        ApiError(403, "an agent may write only the GpuTopology of its own node a, not of n"),
        "set NODE_NAME from spec.nodeName",
    ),
    "a token without a node": (
        ApiError(403, "an agent may write only the GpuTopology of its own node (its token names none), not of n"),
        "run the agent as a pod on Kubernetes 1.30 or later",
    ),
    "no CRD": (ApiError(404, "the server could not find the requested resource"), "kubectl apply -k manifests/crd"),
    "a token that is not accepted": (ApiError(401, "Unauthorized"), "does not accept the agent's token"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_refusal_is_published_with_its_own_remedy(bench: Bench, case: str) -> None:
    refusal, remedy = REFUSALS[case]
    bench.server.write_refusal = refusal
    bench.after(0)
    (problem,) = bench.agent.state.problems()
    assert str(refusal) in problem
    assert remedy in problem
    assert sum(other in problem for _, other in REFUSALS.values()) == 1
