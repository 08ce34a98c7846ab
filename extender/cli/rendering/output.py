"""How commands print: tables for people, JSON and YAML for scripts; the options -o and --config.

No text is read as markup, and characters that a terminal acts on are printed as escapes, because names, annotations and arguments come
from outside.
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
    """A console that reads no markup and no emoji names, and prints no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments that are printed, with control characters escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text, keep="\n"), segment.style)


console = PlainConsole()
if not console.is_terminal:
    console.width = 160  # do not fold output that a script reads


class Output(StrEnum):
    """Output formats."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="Output format.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings file; see config/extender.yaml.")]


def print_answer(answer: Any, output: Output, table: Callable[[Any], RenderableType]) -> None:
    """Print an answer as JSON or YAML, or as the result of `table`."""
    if output is Output.JSON:
        typer.echo(json.dumps(answer, indent=2))
    elif output is Output.YAML:
        typer.echo(yaml.safe_dump(json.loads(json.dumps(answer)), sort_keys=False, width=160), nl=False)
    else:
        console.print(table(plain_data(answer)))


def print_warning(text: str) -> None:
    """Print a warning as one line on standard error."""
    typer.echo(f"warning: {plain(text)}", err=True)
