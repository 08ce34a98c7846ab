"""The pages of the documentation, and what they refer to: links, paths, anchors, commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperGroup, TyperOption

from tests.checkout import ROOT

PAGES = tuple(sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")]))

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"(?:extender|topology|tests|docs|config|manifests|examples|\.ci|\.github)/[\w./-]*\w/?")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name_of(page: Path) -> str:
    """The page's path below the root of the repository."""
    return str(page.relative_to(ROOT))


def links(page: Path) -> list[str]:
    """The targets of the page's links, code blocks left out."""
    return _LINK.findall(_FENCE.sub("", page.read_text()))


def paths(page: Path) -> list[str]:
    """Paths of this repository that the page names in code spans."""
    prose = _FENCE.sub("", page.read_text())
    return [span for span in _CODE.findall(prose) if _PATH.fullmatch(span)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the page's headings."""
    text = _FENCE.sub("", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def blocks(page: Path) -> list[str]:
    """The text of the page's code blocks, without their fences."""
    return [block.split("\n", 1)[1].rsplit("\n", 1)[0] for block in _FENCE.findall(page.read_text())]


def commands(page: Path) -> Iterator[list[str]]:
    """The words after `fabricwise` of every call in the page's code blocks and code spans; pipes end a call, comments are left out."""
    lines = [line for block in blocks(page) for line in block.splitlines()]
    spans = [span for span in _CODE.findall(_FENCE.sub("", page.read_text())) if span.startswith("fabricwise ")]
    for line in [*lines, *spans]:
        for part in re.split(r"\s[|;]\s|\s&&\s", line.removeprefix("$ ")):
            words = shlex.split(part, comments=True) if "fabricwise " in part else []
            if words and words[0].split("/")[-1] == "fabricwise":
                yield words[1:]


def mistake(words: list[str], app: typer.Typer, agent: typer.Typer) -> str | None:
    """What is wrong with a call of `fabricwise`: a command or an option that does not exist. None where nothing is."""
    if words[:1] == ["agent"]:
        app, words = agent, words[1:]
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"{words[0]} is no command of {command.name or 'fabricwise'}"
        command, words = command.commands[words[0]], words[1:]
    options = {text for one in command.params if isinstance(one, TyperOption) for text in (*one.opts, *one.secondary_opts)}
    options |= {"--help", "-h", "--install-completion", "--show-completion"}
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.split("=")[0] not in options]
    return f"{command.name} has no option {', '.join(unknown)}" if unknown else None
