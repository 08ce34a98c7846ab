"""The benchmark of first evaluations: what it evaluates. Its times are for people."""

from __future__ import annotations

from tests.bench.first_sight import REQUESTS, distinct_states, first_sight
from topology.devices.numa_alignment import TopologyManager
from topology.devices.prediction import DevicePlugin


def test_each_demand_is_evaluated_once_on_every_state() -> None:
    rows = first_sight(states=60)
    assert [row.demand for row in rows] == [name for name, _ in REQUESTS]
    assert {row.states for row in rows} == {60}
    assert all(row.seconds > 0 and row.slowest_milliseconds <= 1e3 * row.seconds for row in rows)
    assert any(row.feasible for row in rows)


def test_states_are_distinct_and_of_every_kind() -> None:
    states = distinct_states(400)
    assert len(set(states)) == 400
    assert {len(state.indices) for state in states} >= {4, 8, 16}
    assert any(len(state.free_sets) > 1 for state in states)
    assert {state.kubelet.topology_manager for state in states} == set(TopologyManager)
    assert DevicePlugin.UNIFORM in {state.kubelet.device_plugin for state in states}


def test_same_seed_gives_the_same_states() -> None:
    assert [state.free_sets for state in distinct_states(50)] == [state.free_sets for state in distinct_states(50)]
