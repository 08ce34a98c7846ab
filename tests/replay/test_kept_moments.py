"""The states that decisions were made from are kept within a budget; the oldest decisions lose theirs first."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.state.changes import Change, ClockTicked, Listed, TelemetrySeen, TopologySeen
from extender.kube.objects.decode import seen
from extender.scheduling.decision_log import DecisionLog, differing_objects, moment_bytes
from extender.server.service import build_service
from extender.settings import Limits, Settings, Telemetry
from extender.sources.simulated import node_manifest
from extender.telemetry.readings import DeviceReading
from tests.objects import pod, pod_struct
from tests.replay.journals import journal_of, replay
from tests.replay.random_cluster import RandomCluster
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.platforms import machine_of


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


def bindings(name: str, number: int, _: float) -> Change:
    return seen("Pod", pod(1, name=f"p{number}", node=name))


def statuses(name: str, number: int, seconds: float) -> Change:
    free = tuple(range(8)[number % 8 :])
    return TopologySeen(name, TopologyRecord(name, machine_of("hgx-h100", name), DeviceStatus(free, (), (), seconds)))


def measurements(name: str, number: int, seconds: float) -> Change:
    readings = tuple(
        DeviceReading(gpu.uuid or "", index=gpu.index, fb_used_bytes=number << 28, fb_free_bytes=40 << 30, utilization=0.5)
        for gpu in machine_of("hgx-h100", name).gpus
    )
    return TelemetrySeen(name, seconds, readings, (), (), "test")


@pytest.mark.parametrize("change", [bindings, statuses, measurements])
def test_old_states_keep_no_more_memory_alive_than_is_estimated(change: Callable[[str, int, float], Change]) -> None:
    service = build_service(Settings(telemetry=Telemetry(source="off")))
    names = [f"n{number}" for number in range(64)]
    nodes = tuple(seen("Node", node_manifest(name, machine_of("hgx-h100", name))) for name in names)
    service.store.apply([ClockTicked(1.8e9, 1e6), Listed("nodes", nodes), Listed("pods", ()), Listed("topologies", ())])
    service.store.apply([statuses(name, 0, 1e6) for name in names])
    service.store.apply([measurements(name, 0, 1e6) for name in names])
    tracemalloc.start()
    try:
        states, estimated = [service.store.snapshot], 0
        for number in range(128):
            states.append(service.store.apply([change(names[number % 64], number, 1e6 + 1 + number)]))
            estimated += moment_bytes(states[-2], Moment(states[-1], NO_ASSUMED_PODS, 0.0))
        gc.collect()
        with_states = tracemalloc.get_traced_memory()[0]
        states.clear()
        gc.collect()
        kept_bytes = with_states - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 50_000 < kept_bytes <= estimated
