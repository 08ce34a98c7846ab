"""The walks of docs/architecture.md go down: no step imports an earlier one, and every step is a file."""

from __future__ import annotations

import ast
import re
from itertools import combinations

import pytest

from tests.checkout import ROOT

PAGE = ROOT / "docs/architecture.md"
_STEP = re.compile(r"^\d+\. \[([\w./-]+\.py)\]", re.MULTILINE)
WALKS = {
    section.splitlines()[0]: _STEP.findall(section)
    for section in re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)
    if "Walk: " in section
}


def imported(path: str) -> set[str]:
    """The files of this repository that a file imports at any place."""
    found: set[str] = set()
    for statement in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            names = [statement.module, *(f"{statement.module}.{alias.name}" for alias in statement.names)]
        elif isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            continue
        found |= {name.replace(".", "/") + ".py" for name in names}
    return found


def test_the_page_has_the_four_walks_step_by_step() -> None:
    subjects = ["a filter request", "a watch event", "a metrics exposition", "a topology matrix"]
    assert [subject for subject in subjects if not any(subject in walk for walk in WALKS)] == []
    assert {walk: steps for walk, steps in WALKS.items() if len(steps) < 4} == {}


@pytest.mark.parametrize("walk", WALKS)
def test_no_step_of_a_walk_imports_an_earlier_step(walk: str) -> None:
    assert [(later, earlier) for earlier, later in combinations(WALKS[walk], 2) if earlier in imported(later)] == []
