"""How commands print: tables for people, JSON for scripts; the options that several of them share.

All text is shown as it is. It is never read as markup, and characters that a terminal would act on are written as escapes: names,
annotations and arguments are written by others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from extender.plain_text import plain, plain_data


class PlainConsole(Console):
    """A console that reads no markup, no emoji names, and passes no control character on to the terminal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is printed, piece by piece."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text, keep="\n"), segment.style)


console = PlainConsole()
if not console.is_terminal:
    console.width = 160  # what a script reads is not folded


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How to print.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; see config/extender.yaml.")]


def print_answer(answer: Any, output: Output, table: Callable[[Any], RenderableType]) -> None:
    """An answer as JSON or YAML, or as the table made of it."""
    if output is Output.JSON:
        typer.echo(json.dumps(answer, indent=2))
    elif output is Output.YAML:
        typer.echo(yaml.safe_dump(json.loads(json.dumps(answer)), sort_keys=False, width=160), nl=False)
    else:
        console.print(table(plain_data(answer)))


def print_warning(text: str) -> None:
    """A line on standard error."""
    typer.echo(f"warning: {plain(text)}", err=True)
