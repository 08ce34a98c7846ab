"""What evaluates one question decides as the running extender does: with the mix of sizes that it has learnt."""

from __future__ import annotations

import pytest

from extender.server.from_settings import decider, own_context
from extender.settings import Scoring, Settings

LEARNT = {1: 0.0, 2: 0.0, 4: 0.25, 8: 0.75}
STATED = {1: 1.0, 2: 0.0, 4: 0.0, 8: 0.0}


@pytest.mark.parametrize(
    ("stated", "mix"),
    [pytest.param(None, LEARNT, id="learnt"), pytest.param(STATED, STATED, id="settings-come-first")],
)
def test_learnt_mix_counts_where_the_settings_have_none(stated: dict[int, float] | None, mix: dict[int, float]) -> None:
    settings = Settings(scoring=Scoring(size_mix=stated))
    assert own_context(settings, LEARNT)[0].evaluator.size_mix == mix
    assert decider(settings, LEARNT).evaluator.size_mix == mix


def test_two_questions_share_no_cache() -> None:
    (first, _), (second, _) = own_context(Settings()), own_context(Settings())
    assert first.evaluator is not second.evaluator
