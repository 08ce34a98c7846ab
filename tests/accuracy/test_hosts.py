"""Cloud VMs and sockets of several NUMA nodes are held to NCCL's own search."""

from __future__ import annotations

import pytest

from tests.accuracy.hosts import host_searches
from tests.accuracy.report import against_nccl

AIM_RANK, AIM_REGRET, AIM_ERROR = 0.95, 0.02, 0.05

SEARCHED = {machine.name: machine for machine in host_searches()}


@pytest.mark.parametrize("name", SEARCHED)
def test_hosts_agree_with_nccls_search_at_every_message_size(name: str) -> None:
    machine = SEARCHED[name]
    assert len(machine.busbw_gbps) == (1 << len(machine.machine.gpus)) - len(machine.machine.gpus) - 1, "every set"
    for row in against_nccl(machine):
        assert row.median_error <= AIM_ERROR, row
        assert row.regret <= AIM_REGRET, row
        assert row.rank_correlation >= AIM_RANK or row.largest_error < 0.01, row  # undefined where NCCL's figures are all equal
