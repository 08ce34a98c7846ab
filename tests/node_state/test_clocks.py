"""The age of a status is measured by a clock that never goes back: setting a wall clock does not change it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.state.changes import ClockTicked, TopologySeen
from extender.decision.state.fold.reducer import fold, fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.watching import watch
from tests.objects import GPU, node, snapshot
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.platforms import machine_of

NOON, HOUR, HEARTBEAT = 1_770_000_000.0, 3600.0, 60.0
MACHINE = machine_of("hgx-h100", "n")


@dataclass(frozen=True)
class Clocks:
    """The true time since the start, and the error of the two wall clocks, in seconds."""

    true_seconds: float = 0.0
    ours_off: float = 0.0
    agents_off: float = 0.0

    def after(self, seconds: float) -> Clocks:
        return replace(self, true_seconds=self.true_seconds + seconds)


def tick(state: Snapshot, clocks: Clocks) -> Snapshot:
    return fold(state, ClockTicked(NOON + clocks.true_seconds + clocks.ours_off, 50.0 + clocks.true_seconds), GPU)


def status(state: Snapshot, clocks: Clocks, delay: float = 0.0) -> Snapshot:
    """The state after a status arrives that the agent made `delay` seconds ago."""
    observed = NOON + clocks.true_seconds - delay + clocks.agents_off
    record = TopologyRecord("n", MACHINE, DeviceStatus(free=tuple(range(8)), observed_at_seconds=observed))
    return fold(state, TopologySeen("n", record), GPU)


def begun(clocks: Clocks) -> Snapshot:
    """A node whose status has just arrived; the clocks agree."""
    return tick(status(tick(snapshot(node("n")), clocks), clocks), clocks)


def is_stale(state: Snapshot) -> bool:
    return state.views["n"].stale_since_seconds is not None


@pytest.mark.parametrize("step", [HOUR, -HOUR, 24 * HOUR, -24 * HOUR])
@pytest.mark.parametrize("whose", ["ours_off", "agents_off"])
def test_status_is_stale_after_five_minutes_without_another_and_not_before_whichever_clock_is_set(whose: str, step: float) -> None:
    clocks = Clocks()
    state = begun(clocks)
    clocks = replace(clocks, **{whose: step})
    for _ in range(5):
        clocks = clocks.after(HEARTBEAT)
        state = status(tick(state, clocks), clocks)
        assert not is_stale(state)
    without_status = clocks.after(299 - HEARTBEAT)
    assert not is_stale(tick(state, without_status))
    assert is_stale(tick(state, clocks.after(301)))


def test_status_that_is_old_when_the_extender_starts_is_stale_at_once() -> None:
    state = tick(status(snapshot(node("n")), Clocks(), delay=HOUR), Clocks())
    assert is_stale(state)


def test_status_that_arrives_late_is_as_old_as_its_own_time() -> None:
    clocks = Clocks()
    state = begun(clocks)
    late = clocks.after(400)
    assert not is_stale(status(tick(state, late), late, delay=100))
    assert is_stale(tick(status(tick(state, late), late, delay=250), late.after(60)))


def test_tick_alone_makes_a_status_stale_once_and_a_new_one_fresh_again() -> None:
    state = begun(Clocks())
    stale = tick(state, Clocks(301.0))
    assert is_stale(stale)
    assert stale.views["n"] is tick(stale, Clocks(900.0)).views["n"], "derived once"
    assert not is_stale(status(stale, Clocks(901.0)))


@given(st.lists(st.tuples(st.sampled_from(["tick", "status"]), st.integers(0, 200), st.integers(-5000, 5000)), max_size=12))
def test_folding_one_by_one_and_in_one_batch_date_a_status_alike(steps: list[tuple[str, int, int]]) -> None:
    clocks, changes = Clocks(), list[ClockTicked | TopologySeen]()
    for kind, seconds, off in steps:
        clocks = replace(clocks.after(seconds), ours_off=float(off))
        if kind == "tick":
            changes.append(ClockTicked(NOON + clocks.true_seconds + off, 50.0 + clocks.true_seconds))
        else:
            observed = NOON + clocks.true_seconds
            changes.append(TopologySeen("n", TopologyRecord("n", MACHINE, DeviceStatus(observed_at_seconds=observed))))
    start = snapshot(node("n"))
    one_by_one = start
    for change in changes:
        one_by_one = fold(one_by_one, change, GPU)
    assert fold_all(start, changes, GPU).status_times == one_by_one.status_times


def test_extender_reads_the_wall_clock_only_for_time_stamps() -> None:
    """An interval by the wall clock is wrong by an hour when the clock is set: each reader of it is listed here, with its reason."""
    from pathlib import Path

    root = Path(watch.__file__).parents[2]
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if "time.time()" in path.read_text() and path.name != "agent.py"}
    assert found == {
        "kube/watching/watch.py",  # the moment that an agent's first status is compared with
        "cli/reading.py",  # the moment that the statuses of a cluster read once are compared with
        "collectors/scrape.py",  # the moment that time stamps of an exporter are compared with
        "scheduling/scheduling_service.py",  # the time stamp of a decision
        "steering/proxies/node_steerer.py",  # the time stamp of the report to the agent
        "server/service.py",  # the time stamp of a file of decisions
        "web/questions/snapshot_routes.py",  # the time stamp of an archive
        "cli/commands/services/write_snapshot.py",  # the same
        "web/questions/why_routes.py",  # the moment that time stamps of events and conditions are compared with
        "cli/commands/pods/why.py",  # the same
        "web/live/cluster_feed.py",  # the time stamps of rows and samples
        "web/live/live_routes.py",  # the time stamp of a machine
    }
