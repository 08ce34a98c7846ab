"""How commands print: tables for people, JSON, YAML and names for scripts.

No text is read as markup, and characters that a terminal acts on are printed as escapes, because names, annotations and arguments come
from outside. Tables have colours and borders on a terminal, and neither in a pipe; NO_COLOR, TERM=dumb and FORCE_COLOR are read by rich.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from copy import copy
from enum import StrEnum
from typing import Any

import typer
import yaml
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from extender.plain_text import plain, plain_data

_BETWEEN_COLUMNS = (0, 2, 0, 0)
"""Spaces around a cell of a table without borders: above, right, below, left. kubectl has more of them, and never a line."""


class PlainConsole(Console):
    """A console that reads no markup and no emoji names, and prints no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments that are printed, with control characters escaped; tables without borders where a program reads them."""
        if isinstance(renderable, RichTable) and not self.is_terminal:
            renderable = copy(renderable)  # the same table may be printed again
            renderable.box, renderable.padding, renderable.pad_edge = None, _BETWEEN_COLUMNS, False
            if renderable.title is not None:  # rich folds it at the width of the table
                yield from self.render(Text(str(renderable.title)), options)
                renderable.title = None
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text, keep="\n"), segment.style)


console = PlainConsole()
if not sys.stdout.isatty():
    console.width = 160  # do not fold output that a script reads, coloured (FORCE_COLOR) or not

WIDE_COLUMNS = 1_000
"""Width in characters of `-o wide`: no column is left out and no cell is folded; a terminal wraps the lines."""


class Output(StrEnum):
    """Output formats, as kubectl calls them."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


Table = Callable[[Any], RenderableType]
"""Returns an answer as a table, with what is written above and below it."""
Names = Callable[[Any], Iterable[str]]
"""Returns the names in an answer as `kind/name` or `kind/namespace/name`, such as node/gpu-a and pod/default/llm."""


def print_answer(answer: Any, output: Output, table: Table, *, wide: Table | None = None, names: Names | None = None) -> None:
    """Print an answer in the format `output`.

    `wide`: the table of `-o wide`; None: `table`, with every column. `names`: the names of `-o name`; None: the answer has none.
    Raises typer.BadParameter for `-o name` of an answer without names.
    """
    typer.echo(rendered(answer, output, table, wide=wide, names=names), nl=False, color=True)


def rendered(answer: Any, output: Output, table: Table, *, wide: Table | None = None, names: Names | None = None) -> str:
    """Return the text that `print_answer` prints, with the terminal's colours if there are any."""
    if output is Output.JSON:
        return json.dumps(answer, indent=2) + "\n"
    if output is Output.YAML:
        return yaml.safe_dump(json.loads(json.dumps(answer)), sort_keys=False, width=160)
    if output is Output.NAME:
        if names is None:
            raise typer.BadParameter("-o name: this answer has no names of objects; choose table, wide, json or yaml")
        return "".join(f"{plain(name)}\n" for name in names(answer))
    if output is Output.WIDE:
        return _captured(PlainConsole(width=WIDE_COLUMNS), (wide or table)(plain_data(answer)))
    return _captured(console, table(plain_data(answer)))


def _captured(on: Console, shown: RenderableType) -> str:
    with on.capture() as captured:
        on.print(shown)
    return captured.get()


def print_note(text: str) -> None:
    """Print a remark about the answer as one line on standard error."""
    typer.echo(f"note: {plain(text)}", err=True)


def print_warning(text: str) -> None:
    """Print a warning as one line on standard error."""
    typer.echo(f"warning: {plain(text)}", err=True)
