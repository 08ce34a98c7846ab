"""A table of nodes or of pods that keeps its cursor on the same row while the rows change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.text import Text
from textual.message import Message
from textual.widgets import DataTable

from extender.cli.top.rows import Arrangement, Column, Row, arranged

MOST_ROWS = 1_000
"""Rows that are shown: the first in the order. The widget measures each cell of a new row, which takes seconds for 5,000 rows."""


class SortedTable(DataTable[Text]):
    """Shows rows in an arrangement that keys change."""

    class Arranged(Message):
        """The arrangement has changed."""

        def __init__(self, table: SortedTable) -> None:
            super().__init__()
            self.table = table

    def __init__(self, columns: Sequence[Column], key: Callable[[Row], str], table_id: str) -> None:
        """`key`: the name of a row, which does not change while it is shown."""
        super().__init__(id=table_id, cursor_type="row", zebra_stripes=True)
        self.all_columns, self._key = columns, key
        self.arrangement = Arrangement()
        self._rows: Sequence[Row] = ()
        self._shown: list[str] = []
        self._matching = 0
        self._cells: dict[str, tuple[Text, ...]] = {}
        self._made: dict[str, tuple[Row, tuple[Text, ...]]] = {}
        """Key -> a row and its cells, of all rows that were shown or searched: a row that is equal has the same cells."""

    def on_mount(self) -> None:
        """Make the columns."""
        self._title_columns()

    def _title_columns(self) -> None:
        self.clear(columns=True)
        self._shown, self._cells = [], {}
        for number, column in enumerate(self.all_columns):
            is_sorted = number == self.arrangement.column
            descends = column.descends != self.arrangement.is_reversed
            self.add_column(Text(f"{column.title} {'▼' if descends else '▲'}" if is_sorted else column.title), key=str(number))

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows; cells that are unchanged are not drawn again."""
        shown = arranged(rows, self.all_columns, self.arrangement, self._key, self._cells_of)
        cells = {self._key(row): self._cells_of(row) for row in shown[:MOST_ROWS]}
        self._rows, self._matching = rows, len(shown)  # only now: rows of another form leave the former ones
        if list(cells) == self._shown:
            self._update(cells)
        else:
            self._replace(cells)
        self._cells = cells
        if len(self._made) > 2 * len(rows) + MOST_ROWS:  # most of them are rows that are no more
            self._made = {key: made for key, made in self._made.items() if key in cells}

    def _cells_of(self, row: Row) -> tuple[Text, ...]:
        key = self._key(row)
        made = self._made.get(key)
        if made is None or made[0] != row:
            made = self._made[key] = (row, tuple(column.cell(row) for column in self.all_columns))
        return made[1]

    def _update(self, cells: dict[str, tuple[Text, ...]]) -> None:
        for key, values in cells.items():
            for number, (old, new) in enumerate(zip(self._cells[key], values, strict=True)):
                if old is not new and (old != new or old.spans != new.spans):
                    # A column that may become narrower would be measured in all rows, for each cell of it that changes.
                    is_wider = new.cell_len > self.ordered_columns[number].content_width
                    self.update_cell(key, str(number), new, update_width=is_wider)

    def _replace(self, cells: dict[str, tuple[Text, ...]]) -> None:
        chosen, place, top = self.chosen, self.cursor_row, self.scroll_y
        self.clear()
        for key, values in cells.items():
            self.add_row(*values, key=key)
        self._shown = list(cells)
        if chosen is not None and cells:
            # Where the row is no more, the cursor stays at its place of the window.
            row = self._shown.index(chosen) if chosen in cells else min(place, len(cells) - 1)
            self.move_cursor(row=row, scroll=False)
            self.scroll_to(y=max(0.0, top + row - place), animate=False, force=True)

    @property
    def chosen(self) -> str | None:
        """The key of the row under the cursor; None where no row is shown."""
        return self._shown[self.cursor_row] if 0 <= self.cursor_row < len(self._shown) else None

    @property
    def counts(self) -> tuple[int, int]:
        """Number of rows shown, and of all rows."""
        return len(self._shown), len(self._rows)

    @property
    def is_cut(self) -> bool:
        """Whether more rows match than are shown."""
        return self._matching > len(self._shown)

    def rearrange(self, arrangement: Arrangement) -> None:
        """Show the rows in another arrangement."""
        is_same_order = (arrangement.column, arrangement.is_reversed) == (self.arrangement.column, self.arrangement.is_reversed)
        self.arrangement = arrangement
        if not is_same_order:
            chosen = self.chosen
            self._title_columns()
            self.show(self._rows)
            if chosen in self._shown:
                self.move_cursor(row=self._shown.index(chosen))
        else:
            self.show(self._rows)
        self.post_message(self.Arranged(self))
