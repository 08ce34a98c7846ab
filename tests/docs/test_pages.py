"""What the pages refer to exists: files, sections, commands and options; and what they show is what the commands print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from extender.cli.app import app
from extender.cli.commands.services.agent import app as agent_app
from tests.checkout import ROOT
from tests.cli.commands import Commands
from tests.docs.pages import PAGES, anchors, blocks, commands, links, mistake, name_of, paths

MOST_LINES_OF_THE_README = 130
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=name_of)
WHERE_TO_READ_ON = (
    "getting-started",
    "annotations",
    "reasons",
    "configuration",
    "architecture",
    "troubleshooting",
    "bandwidth",
    "integrity",
    "telemetry",
)


@EVERY_PAGE
def test_every_file_and_section_that_a_page_links_to_exists(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == [], f"{name_of(page)}: correct these links"


@EVERY_PAGE
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    assert [path for path in paths(page) if not (ROOT / path).exists()] == [], f"{name_of(page)}: correct these paths"


@EVERY_PAGE
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    mistakes = [(words, wrong) for words in commands(page) if (wrong := mistake(words, app, agent_app)) is not None]
    assert mistakes == [], name_of(page)


@pytest.mark.parametrize(
    "words",
    [["explian", "pod.yaml"], ["explain", "--clutser", "kube"], ["topo", "draw"], ["agent", "--twice"], ["topo", "show", "m", "--gpu=1"]],
    ids=" ".join,
)
def test_a_command_that_does_not_exist_is_noticed(words: list[str]) -> None:
    assert mistake(words, app, agent_app) is not None


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text().splitlines()) <= MOST_LINES_OF_THE_README
    assert [name for name in WHERE_TO_READ_ON if f"docs/{name}.md" not in links(readme)] == []
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} >= set(WHERE_TO_READ_ON)


def normal(line: str) -> str:
    """The line without the frame of a table, and with single spaces."""
    return " ".join(re.sub(r"[^\x00-\x7f]", " ", line).split())


@EVERY_PAGE
def test_the_output_that_a_page_shows_for_the_simulated_cluster_is_what_the_command_prints(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shown line `...` stands for lines that are left out; every other one is printed, in this order."""
    monkeypatch.setenv("COLUMNS", "130")
    monkeypatch.chdir(ROOT)
    for block in blocks(page):
        first, *shown = block.splitlines()
        if not first.startswith("$ fabricwise "):
            continue
        printed = iter([normal(line) for line in Commands(monkeypatch, capsys)(*first.split()[2:]).out.splitlines()])
        missing = [line for line in shown if normal(line) not in ("", "...") and normal(line) not in printed]
        assert missing == [], f"{name_of(page)}: {first}"
