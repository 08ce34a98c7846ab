"""The folders of the code stay small, and a file's name says what only that file holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.checkout import ROOT

MOST_MODULES = 13
"""More modules than these in one folder are hard to take in: about twelve, and one that came last."""
MOST_LINES = 400
TABLES = frozenset({"tests/workload/known_models/stored_text.py"})
"""Files that are one table each, which may be longer."""
EVERYWHERE = frozenset({"__init__.py", "__main__.py", "conftest.py"})
"""Names that Python and pytest give."""
VAGUE = ("util", "helper", "manager", "misc", "common")

FILES = tuple(
    sorted(path for part in ("extender", "topology", "tests") for path in (ROOT / part).rglob("*.py") if "node_modules" not in path.parts)
)
MODULES = tuple(path for path in FILES if path.name not in EVERYWHERE)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_folder_has_too_many_modules() -> None:
    counted = Counter(shown(path.parent) for path in MODULES)
    assert {folder: count for folder, count in counted.items() if count > MOST_MODULES} == {}


def test_no_two_modules_have_one_name() -> None:
    counted = Counter(path.name for path in MODULES)
    assert [shown(path) for path in MODULES if counted[path.name] > 1] == []


def test_no_module_is_too_long() -> None:
    lengths = {shown(path): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES and name not in TABLES} == {}


@pytest.mark.parametrize("word", VAGUE)
def test_no_name_says_nothing(word: str) -> None:
    names = {part.removesuffix(".py") for path in FILES for part in path.relative_to(ROOT).parts}
    assert sorted(name for name in names if word in name.split("_") or f"{word}s" in name.split("_")) == []
