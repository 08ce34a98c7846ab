"""The recorder itself: a seed always gives the same answers, and a changed answer is found."""

from __future__ import annotations

import json
from pathlib import Path

from tests.recorded.__main__ import compare
from tests.recorded.recorded_answers import answers_of
from tests.recorded.recorded_clusters import recorded_cluster

SEEDS = (0, 1, 2)


def test_a_seed_gives_the_same_answers_each_time() -> None:
    for seed in SEEDS:
        assert json.dumps(answers_of(recorded_cluster(seed))) == json.dumps(answers_of(recorded_cluster(seed)))


def test_compare_finds_a_changed_answer_and_accepts_a_renamed_field(tmp_path: Path) -> None:
    before, same, changed, renamed = (tmp_path / name for name in ("before", "same", "changed", "renamed"))
    before.write_text('{"filter": {"NodeNames": ["a"], "curable": true}}\n')
    same.write_text(before.read_text())
    changed.write_text('{"filter": {"NodeNames": [], "curable": true}}\n')
    renamed.write_text('{"filter": {"NodeNames": ["a"], "resolvable": true}}\n')
    assert compare(before, same, {}) == 0
    assert compare(before, changed, {}) == 1
    assert compare(before, renamed, {}) == 1
    assert compare(before, renamed, {"curable": "resolvable"}) == 0
