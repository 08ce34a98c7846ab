"""Tables for narrow terminals: the least important columns are left out first, and a line below names them."""

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
    """Columns of low importance are left out first; a column of importance 0 is always shown."""
    is_number: bool = False
    least_width: int | None = None
    """Least width in characters of a column that may be folded; None: the column is not folded."""


@dataclass(slots=True)
class FittedTable:
    """A table that shows as many columns as fit the width of the terminal."""

    columns: Sequence[Column]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    title: str | None = None

    def add(self, cells: Iterable[Cell]) -> None:
        """Add a row with one cell per column."""
        self.rows.append(tuple(cells))

    def shown(self, width: int) -> list[int]:
        """Return the indices of the columns that fit into `width` characters."""
        kept = list(range(len(self.columns)))
        while self._needed(kept) > width:
            droppable = [place for place in kept if self.columns[place].importance]
            if not droppable:
                break
            kept.remove(min(droppable, key=lambda place: (self.columns[place].importance, -place)))
        return kept

    def _needed(self, kept: Sequence[int]) -> int:
        """Return the characters of a line: three more per column for padding and border, and one for the last border."""
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
            yield Text(f"not shown, because the terminal is too narrow: {', '.join(left_out)} (-o wide shows all)", style="dim")


def _width(cell: Cell) -> int:
    text = cell.plain if isinstance(cell, Text) else cell
    return max((cell_len(line) for line in text.splitlines()), default=0)


@dataclass(frozen=True, slots=True)
class Compact:
    """A table that is shown without borders if the terminal is too narrow for them."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if Measurement.get(console, options.update(width=MEASURED_WIDTH), self.table).maximum > options.max_width:
            self.table.box, self.table.padding, self.table.pad_edge = None, (0, 1), False
        yield self.table


MEASURED_WIDTH = 10_000
"""Width in which a table's natural width is measured; no table is wider."""
