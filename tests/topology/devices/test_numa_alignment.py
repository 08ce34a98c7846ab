"""The Topology Manager's word on where a container's GPUs may come from, as tables."""

from __future__ import annotations

import pytest

from topology.devices.numa_alignment import TopologyManager, align
from topology.machine.hardware import mask_of

TWO_SOCKETS = (0, 0, 0, 0, 1, 1, 1, 1)
ALL = 0b1111_1111
LEFT, RIGHT = 0b0000_1111, 0b1111_0000
NONE, BEST, RESTRICTED, SINGLE = TopologyManager

# name -> (policy, numa, free, reusable, size, admitted, aligned)
CASES: dict[str, tuple[TopologyManager, tuple[int | None, ...], int, int, int, bool, int]] = {
    "none has no say": (NONE, TWO_SOCKETS, ALL, 0, 4, True, 0),
    "of equally few nodes the lowest": (BEST, TWO_SOCKETS, ALL, 0, 4, True, LEFT),
    "the node that still has enough": (BEST, TWO_SOCKETS, RIGHT | 0b1, 0, 4, True, RIGHT),
    "best-effort spreads rather than refuse": (BEST, TWO_SOCKETS, 0b0011_0011, 0, 4, True, ALL),
    "restricted refuses what could have been on one node": (RESTRICTED, TWO_SOCKETS, 0b0011_0011, 0, 4, False, 0),
    "restricted admits what never fits one node": (RESTRICTED, TWO_SOCKETS, ALL, 0, 6, True, ALL),
    "single-numa-node refuses that": (SINGLE, TWO_SOCKETS, ALL, 0, 6, False, 0),
    "single-numa-node admits what fits": (SINGLE, TWO_SOCKETS, RIGHT, 0, 2, True, RIGHT),
    "what is reused must be on the node": (SINGLE, TWO_SOCKETS, ALL & ~0b10000, 0b10000, 2, True, RIGHT),
    "reused devices count": (SINGLE, TWO_SOCKETS, 0b1110_0000, 0b1_0000, 4, True, RIGHT),
    "unknown NUMA nodes: nothing to align": (SINGLE, (None,) * 8, ALL, 0, 8, True, 0),
    "one node for all": (SINGLE, (0,) * 8, ALL, 0, 8, True, ALL),
    "nothing asked": (SINGLE, TWO_SOCKETS, ALL, 0, 0, True, 0),
    "too few anywhere": (RESTRICTED, TWO_SOCKETS, 0b1, 0, 2, False, 0),
    "four nodes, three needed": (BEST, (0, 0, 1, 1, 2, 2, 3, 3), ALL, 0, 5, True, mask_of((0, 1, 2, 3, 4, 5))),
}


@pytest.mark.parametrize("case", CASES)
def test_alignment(case: str) -> None:
    policy, numa, free, reusable, size, admitted, aligned = CASES[case]
    found = align(policy, numa, free, reusable, size)
    assert (found.admitted, found.aligned) == (admitted, aligned)
