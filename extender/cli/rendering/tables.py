"""Tables that remain readable in narrow terminals: columns that matter least are left out first, and the table says which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

Cell = str | Text


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    importance: int
    """The column of the least importance goes first; one of 0 is never left out."""
    is_number: bool = False
    least_width: int | None = None
    """Characters below which the column does not shrink; None: it is never folded."""


@dataclass(slots=True)
class FittedTable:
    """Rows under columns, as many of them as the terminal is wide enough for."""

    columns: Sequence[Column]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    title: str | None = None

    def add(self, cells: Iterable[Cell]) -> None:
        """One more row; a cell per column."""
        self.rows.append(tuple(cells))

    def shown(self, width: int) -> list[int]:
        """The columns that a terminal of so many characters has room for, by their places."""
        kept = list(range(len(self.columns)))
        while self._needed(kept) > width:
            droppable = [place for place in kept if self.columns[place].importance]
            if not droppable:
                break
            kept.remove(min(droppable, key=lambda place: (self.columns[place].importance, -place)))
        return kept

    def _needed(self, kept: Sequence[int]) -> int:
        """Characters of a line: three beside each column for padding and border, and one for the last border."""
        return sum(self._least(place) + 3 for place in kept) + 1

    def _least(self, place: int) -> int:
        column = self.columns[place]
        widest = max((_width(row[place]) for row in self.rows), default=0)
        natural = max(widest, cell_len(column.name))
        return natural if column.least_width is None else min(natural, column.least_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept = self.shown(options.max_width)
        table = Table(title=self.title, title_justify="left", header_style="bold")
        for place in kept:
            column = self.columns[place]
            folds = column.least_width is not None
            table.add_column(
                column.name,
                justify="right" if column.is_number else "left",
                no_wrap=not folds,
                overflow="fold",
                min_width=self._least(place) if folds else None,
            )
        for row in self.rows:
            table.add_row(*(row[place] for place in kept))
        yield table
        left_out = [column.name for place, column in enumerate(self.columns) if place not in kept and column.name]
        if left_out:
            yield Text(f"not shown for want of width: {', '.join(left_out)} (-o json has all)", style="dim")


def _width(cell: Cell) -> int:
    text = cell.plain if isinstance(cell, Text) else cell
    return max((cell_len(line) for line in text.splitlines()), default=0)


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@dataclass(frozen=True, slots=True)
class Compact:
    """A table that gives up its borders where the terminal is too narrow for them."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if Measurement.get(console, options.update(width=MEASURED_WIDTH), self.table).maximum > options.max_width:
            self.table.box, self.table.padding, self.table.pad_edge = None, (0, 1), False
        yield self.table


MEASURED_WIDTH = 10_000
"""Characters of a terminal that is wide enough for any table: what a table needs by itself is measured in it."""
