"""The model is held to its aims; what misses one is named, with why."""

from __future__ import annotations

import pytest

from tests.accuracy.figures import MEASURED, Measured, Searched, nccl_search, plugin_vectors
from tests.accuracy.plots import PLOTS
from tests.accuracy.report import Against, against_mapa, against_nccl, by_counting_links, measured_gbps, rank_correlation
from tests.checkout import ROOT
from topology.devices.device_plugin import best_effort

AIM_RANK, AIM_REGRET, AIM_ERROR = 0.95, 0.02, 0.15

SEARCHED = {machine.name: machine for machine in nccl_search()}
DIFFERENT = [name for name, machine in SEARCHED.items() if machine.sets_differ]

_ORDER = (
    "NCCL's search ends differently for sets that are alike: 36, 45 or 54 GB/s for the eight sets of seven, 18 or 22 to 24 for 48 sets of"
    " four and five. No model that ignores numbering can follow; the best that one could do over all sets is 0.953 at 256 MiB"
)
LEAST_RANKS = {("DGX-1P, Broadwell", "256 MiB"): 0.93}
"""Rank correlation where the aim is missed, as it is today."""
MOST_REGRETS = {
    ("DGX-1P, Broadwell", message): most
    for message, most in {"32 KiB": 0.026, "256 KiB": 0.099, "1 MiB": 0.099, "16 MiB": 0.156, "256 MiB": 0.167}.items()
}
"""Regret where the aim is missed, as it is today."""
KNOWN_MISSES = dict.fromkeys([*LEAST_RANKS, *MOST_REGRETS], _ORDER)
"""(machine, message size) -> why."""


def at(machine: Searched, message: str) -> Against:
    return next(row for row in against_nccl(machine) if row.message == message)


@pytest.mark.parametrize("message", ["1 MiB", "256 MiB"])
@pytest.mark.parametrize("name", DIFFERENT)
def test_ranks_as_nccls_search(name: str, message: str) -> None:
    assert at(SEARCHED[name], message).rank_correlation >= LEAST_RANKS.get((name, message), AIM_RANK)


@pytest.mark.parametrize("name", SEARCHED)
def test_errors_against_nccls_search(name: str) -> None:
    for row in against_nccl(SEARCHED[name]):
        assert row.median_error <= AIM_ERROR, row


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_is_called_best_is_nccls_best(name: str) -> None:
    for row in against_nccl(SEARCHED[name]):
        assert row.regret <= MOST_REGRETS.get((name, row.message), AIM_REGRET), row


@pytest.mark.parametrize("what", [m for m in MEASURED if m.within], ids=lambda m: f"{m.platform}-{m.gpus}-{m.message_bytes}")
def test_as_measured(what: Measured) -> None:
    assert what.within is not None
    assert measured_gbps(what) == pytest.approx(what.gbps, rel=what.within)


def test_dgx1p_falls_at_five_gpus_and_nowhere_before() -> None:
    ours = {what.gpus: measured_gbps(what) for what in MEASURED if what.platform == "dgx-1p"}
    assert ours[2] < ours[3] < ours[4]
    assert ours[5] < ours[2] * 1.01, "to what a single link gives"
    assert ours[5] < ours[6] <= ours[7] < ours[8]


def test_leaving_a_bridged_pair_costs_ten_times() -> None:
    pair, three = (measured_gbps(what) for what in MEASURED if what.platform == "a100-pcie-bridge-pairs")
    assert pair / three == pytest.approx(208 / 20, rel=0.2)


def test_ours_ranks_better_than_mapa_and_link_counting() -> None:
    rows = against_mapa(SEARCHED["DGX-1V, Broadwell"])
    assert rank_correlation(rows, "ours") > rank_correlation(rows, "mapa")
    for name in DIFFERENT:
        for counted in by_counting_links(SEARCHED[name]):
            assert at(SEARCHED[name], counted.message).rank_correlation > counted.rank_correlation


def test_every_result_of_the_real_policy_is_reproduced() -> None:
    vectors = list(plugin_vectors())
    assert len(vectors) == 1500
    assert any(None in vector.result for vector in vectors)
    for vector in vectors:
        assert tuple(best_effort(vector.score, vector.available, vector.required, vector.size)) == vector.result, vector


@pytest.mark.parametrize("name", PLOTS)
def test_the_plots_in_the_docs_are_todays(name: str) -> None:
    """`python -m tests.accuracy.plots docs/pictures` makes them anew."""
    assert (ROOT / "docs/pictures" / name).read_text() == PLOTS[name]()
