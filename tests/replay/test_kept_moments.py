"""The states that decisions were made from are kept within a budget; the oldest decisions lose theirs first."""

from __future__ import annotations

from extender.scheduling.decision_log import DecisionLog, differing_objects
from extender.settings import Limits, Settings, Telemetry
from tests.objects import pod, pod_struct
from tests.replay.journals import journal_of, replay
from tests.replay.random_cluster import RandomCluster


def cluster_with(replay_bytes: int, decisions: int = 40) -> RandomCluster:
    settings = Settings(telemetry=Telemetry(source="off"), limits=Limits(replay_bytes=replay_bytes))
    cluster = RandomCluster(9, settings=settings)
    cluster.run(decisions)
    return cluster


def kept(log: DecisionLog) -> list[bool]:
    """Whether each decision has its moment, the oldest first."""
    return [decision.moment is not None for decision in reversed(list(log.recent()))]


def test_oldest_decisions_lose_their_state_first_and_the_newest_ones_replay() -> None:
    cluster = cluster_with(replay_bytes=400_000)
    flags = kept(cluster.service.scheduling.log)
    assert 0 < sum(flags) < len(flags)
    assert flags == sorted(flags)
    results = replay(journal_of(cluster.service), cluster.service.settings)
    assert [result.why_not is None for result in results] == flags
    assert [result.is_identical for result in results] == flags


def test_without_budget_no_state_is_kept_and_decisions_are_listed_all_the_same() -> None:
    cluster = cluster_with(replay_bytes=0, decisions=5)
    assert set(kept(cluster.service.scheduling.log)) == {False}


def test_state_that_the_cluster_has_left_behind_is_dropped_without_further_decisions() -> None:
    cluster = cluster_with(replay_bytes=100_000, decisions=3)
    log = cluster.service.scheduling.log
    assert any(kept(log))
    for _ in range(400):
        cluster.step()
    assert not any(kept(log))


def test_equal_states_cost_nothing_more() -> None:
    cluster = cluster_with(replay_bytes=1 << 30, decisions=1)
    log, names = cluster.service.scheduling.log, sorted(cluster.machines)
    list(log.recent())
    before = log._moments_bytes
    for number in range(50):
        cluster.service.scheduling.filter(pod_struct(pod(99, name=f"huge-{number}")), names, 100)
    list(log.recent())
    assert log._moments_bytes - before < 50 * 1024


def test_number_of_differing_objects_is_at_least_the_number_that_differ() -> None:
    cluster = RandomCluster(4)
    states = [cluster.service.store.snapshot]
    for _ in range(60):
        cluster.step()
        states.append(cluster.service.store.snapshot)
    for before, after in zip(states, states[5:], strict=False):
        differing = sum(before.telemetry.get(name) is not after.telemetry.get(name) for name in after.telemetry)
        views = sum(before.views.get(name) is not view for name, view in after.views.items())
        assert differing_objects(before, after) >= max(differing, views)
