"""Replicas of shared GPUs: spread or packed, never by links."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.devices.replica_sharing import share_out

# name -> (replicas, free, size, packed, distribution)
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], int, bool, dict[tuple[int, ...], float]]] = {
    "distributed takes one from each": ((4, 4), (4, 4), 2, False, {(1, 1): 1.0}),
    "packed stays on one": ((4, 4), (4, 4), 2, True, {(2, 0): 0.5, (0, 2): 0.5}),
    "distributed prefers the emptier": ((4, 4), (1, 4), 2, False, {(0, 2): 1.0}),
    "packed prefers the fuller": ((4, 4), (1, 4), 2, True, {(1, 1): 1.0}),
    "a single replica may come from either": ((2, 2), (2, 2), 1, False, {(1, 0): 0.5, (0, 1): 0.5}),
    "two replicas of one GPU are not two GPUs": ((4,), (4,), 2, False, {(2,): 1.0}),
    "too few": ((2, 2), (1, 0), 2, False, {}),
    "none": ((2,), (2,), 0, False, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_share_out(case: str) -> None:
    replicas, free, size, packed, distribution = CASES[case]
    assert share_out(replicas, free, size, packed) == pytest.approx(distribution)


def test_more_free_than_there_is_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        share_out((2,), (3,), 1)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=5), st.integers(1, 6), st.booleans())
def test_every_way_is_possible_and_chances_sum_to_one(gpus: list[tuple[int, int]], size: int, packed: bool) -> None:
    replicas = [total for total, _ in gpus]
    free = [min(total, left) for total, left in gpus]
    found = share_out(replicas, free, size, packed)
    assert bool(found) == (size <= sum(free))
    for taken in found:
        assert sum(taken) == size
        assert all(0 <= count <= left for count, left in zip(taken, free, strict=True))
    if found:
        assert sum(found.values()) == pytest.approx(1.0)
