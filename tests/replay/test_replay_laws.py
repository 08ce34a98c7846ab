"""Laws of the journal: what is written is read again, and every decision is made again as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replay.journals import MASK, differing, journal_of, replay
from tests.replay.random_cluster import NAMES, SECRET, RandomCluster


@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "hidden"])
@given(seed=st.integers(0, 1 << 32))
def test_every_decision_of_a_random_cluster_is_identical_when_replayed(mask: int | None, seed: int) -> None:
    cluster = RandomCluster(seed)
    cluster.run(12)
    journal = journal_of(cluster.service, mask)
    results = replay(journal, cluster.service.settings)
    assert len(results) == len(list(cluster.service.scheduling.log.recent()))
    assert not differing(results)
    assert SECRET.encode() not in journal
    assert mask is None or not [name for name in NAMES if name.encode() in journal]
