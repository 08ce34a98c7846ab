"""The state of a journal is that of the extender: views derived from what is written are those that the fold derived, after any churn."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.replay.journal_lines import FORMAT, HeadLine, encoded_line
from extender.decision.replay.journal_reader import JournalReader
from extender.decision.replay.journal_writer import JournalWriter
from extender.decision.replay.kept_objects.named_texts import PlainNames
from extender.decision.state.changes import Change
from extender.decision.state.fold.reducer import fold
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import gone, seen
from tests.decision.state.histories import histories
from tests.objects import GPU
from tests.replay.journals import contents_of
from tests.replay.random_cluster import RandomCluster
from tests.simulation.churn import Churn, Delays
from topology.platforms import machine_of


def journal_of(states: Iterable[Snapshot]) -> bytes:
    """A journal of moments alone."""
    writer = JournalWriter(PlainNames(), GPU)
    lines = [HeadLine(FORMAT, "test", 0.0, False, GPU, {})]
    for state in states:
        lines += writer.moment(Moment(state, NO_ASSUMED_PODS, state.monotonic_seconds or 0.0))  # type: ignore[arg-type]
    return b"".join(map(encoded_line, lines))


def rebuilt(journal: bytes) -> Snapshot:
    """The state after the last moment."""
    reader = JournalReader(io.BytesIO(journal), "journal")
    assert not list(reader.decisions(NODE_DEFAULTS))
    return reader.moment.snapshot


def assert_same(first: Snapshot, second: Snapshot) -> None:
    """Equal for every decision: the states of all nodes, and what else evaluations read."""
    assert set(first.views) == set(second.views)
    for name, view in first.views.items():
        other = second.views[name]
        assert view.state is other.state, name  # equal states are one object
        assert view.known == other.known
        assert [pod.key for pod in view.pods] == [pod.key for pod in other.pods]
        assert (view.dra is None) is (other.dra is None)
        if view.dra is not None and other.dra is not None:
            assert (view.dra.held, view.dra.order, view.dra.bits) == (other.dra.held, other.dra.order, other.dra.bits)
    assert dict(first.nominated) == dict(second.nominated)
    assert set(first.pending) == set(second.pending)
    assert first.dra.holders == second.dra.holders
    assert first.listed == second.listed
    assert (first.now_seconds, first.monotonic_seconds) == (second.now_seconds, second.monotonic_seconds)


def stepwise(changes: Iterable[Change]) -> list[Snapshot]:
    states = [Snapshot()]
    for change in changes:
        states.append(fold(states[-1], change, GPU))
    return states[1:]


@given(histories())
def test_state_after_any_history_is_rebuilt_at_once_and_step_by_step(
    history: tuple[list[tuple[str, dict[str, object], bool]], list[int]],
) -> None:
    events, order = history
    states = stepwise(
        seen(kind, manifest) if exists else gone(kind, manifest) for kind, manifest, exists in (events[place] for place in order)
    )
    if states:
        assert_same(rebuilt(journal_of(states)), states[-1])
        assert_same(rebuilt(journal_of(states[-1:])), states[-1])


CHURNS = {
    "hybrid cube mesh": ("dgx-1v", Delays(), False),
    "bridged pairs, a StatefulSet's pods": ("a100-pcie-bridge-pairs", Delays(), True),
    "no allocatedResourcesStatus": ("dgx-1v", Delays(own_status=None, agent_interval=2.0), False),
    "a dead agent": ("a100-pcie-bridge-pairs", Delays(agent_interval=None), True),
}


class WatchedChurn(Churn):
    """Churn of which every state is kept."""

    def _see(self, kind: str, manifest: dict[str, Any], deleted: bool = False) -> None:
        super()._see(kind, manifest, deleted)
        self.states = [*getattr(self, "states", []), self.state]


@pytest.mark.parametrize("case", CHURNS)
def test_views_of_a_node_under_churn_are_rebuilt_at_every_moment(case: str) -> None:
    platform, delays, same_names = CHURNS[case]
    churn = WatchedChurn(machine_of(platform, "u"), random.Random(11), delays, same_names)
    churn.run(60)
    for number, state in enumerate(churn.states):
        assert_same(rebuilt(journal_of([state])), state)
        if number % 25 == 0:
            assert_same(rebuilt(journal_of(churn.states[: number + 1])), state)


@given(seed=st.integers(0, 1 << 32))
def test_state_of_a_random_cluster_with_claims_and_telemetry_is_rebuilt_at_every_decision(seed: int) -> None:
    cluster = RandomCluster(seed)
    cluster.run(8)
    moments = [decision.moment for decision in contents_of(cluster.service).decisions]
    states = [moment.snapshot for moment in moments if moment is not None] + [cluster.service.store.snapshot]
    assert_same(rebuilt(journal_of(states)), states[-1])
    assert_same(rebuilt(journal_of(states[-1:])), states[-1])


def test_moments_may_go_back_in_time() -> None:
    cluster = RandomCluster(2)
    states = []
    for _ in range(6):
        cluster.run(1)
        states.append(cluster.service.store.snapshot)
    for order in ([0, 3, 1], [5, 0, 5, 2], [4, 3, 2, 1, 0]):
        assert_same(rebuilt(journal_of(states[place] for place in order)), states[order[-1]])
