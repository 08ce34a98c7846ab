"""The application of `fabricwise top`: a line of totals, a table of nodes or of pods, and screens that open over it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import ClassVar
from urllib.parse import quote

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import ContentSwitcher, DataTable, Footer, Input, Static

from extender.cli.rendering.answers.why_text import why_text
from extender.cli.top.detail_screens import DetailScreen, KeysScreen, gpus_of_node
from extender.cli.top.live_data import LiveData, Unanswered, another_form
from extender.cli.top.rows import LEGEND, NODE_COLUMNS, POD_COLUMNS, Row, age_of, headline, name_of_pod
from extender.cli.top.sorted_table import SortedTable
from extender.plain_text import plain

MOST_PAGES = 20
"""Pages of /v1/pods that are read: 100,000 pods."""
PAGE_PODS = 5_000


class TopApp(App[None]):
    """Nodes and pods, live."""

    TITLE = "fabricwise top"
    CSS = """
    #head, #legend { height: 1; padding: 0 1; }
    #totals { width: 1fr; }
    #age { width: auto; }
    #search { display: none; height: 3; }
    #search.open { display: block; }
    ContentSwitcher, DataTable { height: 1fr; }
    #totals { text-wrap: nowrap; text-overflow: ellipsis; }
    DetailScreen, KeysScreen { align: center middle; }
    #detail { width: 90%; height: auto; max-height: 85%; border: round $accent; padding: 1 2; background: $surface; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "view('nodes')", "Nodes"),
        Binding("p", "view('pods')", "Pods"),
        Binding("s", "sort(1)", "Sort"),
        Binding("S", "sort(-1)", "Sort back", show=False),
        Binding("r", "reverse", "Reverse"),
        Binding("slash", "search", "Search"),
        Binding("w", "waiting", "Waiting", show=False),
        Binding("space", "pause", "Pause"),
        Binding("question_mark", "keys", "Keys"),
        Binding("escape", "clear", "Clear", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, data: LiveData, every_seconds: float, first: str = "nodes") -> None:
        super().__init__()
        self._data, self._every_seconds, self._first = data, every_seconds, first
        self._cluster: Row | None = None
        self._received_seconds = 0.0
        self._problem: str | None = None
        self._is_paused = False

    def compose(self) -> ComposeResult:
        """The line of totals, the two tables, the search field, the legend and the keys."""
        with Horizontal(id="head"):
            yield Static(Text(f"asking {plain(self._data.source)} ..."), id="totals")
            yield Static("", id="age")
        with ContentSwitcher(initial=self._first):
            yield SortedTable(NODE_COLUMNS, lambda row: str(row["name"]), "nodes")
            yield SortedTable(POD_COLUMNS, name_of_pod, "pods")
        yield Input(placeholder="text in a row, then Enter", id="search")
        yield Static(Text(LEGEND, "dim"), id="legend")
        yield Footer()

    def on_mount(self) -> None:
        """Ask now, and then regularly; the age is shown every second."""
        self.table.focus()
        self._ask()
        self.set_interval(self._every_seconds, self._ask)
        self.set_interval(1.0, self._show_age)

    async def on_unmount(self) -> None:
        """Close the connections."""
        await self._data.close()

    @property
    def table(self) -> SortedTable:
        """The table that is shown."""
        return self.query_one(f"#{self.query_one(ContentSwitcher).current}", SortedTable)

    def _ask(self) -> None:
        if not self._is_paused:
            self.run_worker(self._refresh(), exclusive=True, group="refresh")

    async def _refresh(self) -> None:
        cluster = await self._data.get("/v1/cluster")
        pods = await all_pods(self._data) if self.query(ContentSwitcher) and self.table.id == "pods" else None
        if not self.query("#nodes"):
            return  # the application has ended while it waited
        failed = next((answer for answer in (cluster, pods) if isinstance(answer, Unanswered)), None)
        self._problem = failed.why if failed is not None else None
        try:
            if isinstance(cluster, dict):
                headline(cluster)
                self.query_one("#nodes", SortedTable).show(cluster.get("nodes") or [])
                self._cluster, self._received_seconds = cluster, time.monotonic()
            if isinstance(pods, list):
                self.query_one("#pods", SortedTable).show(pods)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._problem = another_form(self._data.source, error)
        self._show_totals()

    def _show_totals(self) -> None:
        line = headline(self._cluster) if self._cluster is not None else Text(f"asking {plain(self._data.source)} ...")
        if self._problem is not None:
            line = Text(plain(self._problem), "bold red")
        self.query_one("#totals", Static).update(line)
        self._show_age()

    def _show_age(self) -> None:
        if not self.query(ContentSwitcher):
            return  # the application ends, and its widgets are gone before its timers
        shown, known = self.table.counts
        rows = f"{shown} of {known} rows  " if shown != known else ""
        if self.table.is_cut:
            rows = f"first {shown} of {known} rows, / searches  "
        parts = [Text(rows, "yellow")]
        if self._is_paused:
            parts.append(Text("paused  ", "bold yellow"))
        if self._cluster is not None:
            parts.append(age_of(self._cluster, time.monotonic() - self._received_seconds))
        self.query_one("#age", Static).update(Text.assemble(*parts))

    def action_view(self, view: str) -> None:
        """Show the other table."""
        self.query_one(ContentSwitcher).current = view
        self._write_search(self.table.arrangement.search)
        self.table.focus()
        self._ask()

    def action_sort(self, step: int) -> None:
        """Sort by the next or the previous column."""
        arrangement = self.table.arrangement
        column = (arrangement.column + step) % len(self.table.all_columns)
        self.table.rearrange(replace(arrangement, column=column, is_reversed=False))

    def action_reverse(self) -> None:
        """Reverse the order."""
        self.table.rearrange(replace(self.table.arrangement, is_reversed=not self.table.arrangement.is_reversed))

    def action_search(self) -> None:
        """Open the search field."""
        field = self.query_one("#search", Input)
        field.add_class("open")
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show the rows that contain the text."""
        self.table.rearrange(replace(self.table.arrangement, search=event.value.strip()))
        self._show_age()

    def on_input_submitted(self) -> None:
        """Close the search field; its text stays in force."""
        self.query_one("#search", Input).remove_class("open")
        self.table.focus()

    def action_clear(self) -> None:
        """Show all rows again."""
        field = self.query_one("#search", Input)
        field.value = ""
        field.remove_class("open")
        self.table.rearrange(replace(self.table.arrangement, search=""))
        self.table.focus()

    def _write_search(self, text: str) -> None:
        """Write the search of the table that is shown into the field: each table has a search of its own."""
        field = self.query_one("#search", Input)
        with field.prevent(Input.Changed):
            field.value = text

    def action_waiting(self) -> None:
        """Show the pods that wait."""
        self.action_view("pods")
        self.query_one("#search", Input).value = "pending"

    def action_pause(self) -> None:
        """Stop the updates, or continue."""
        self._is_paused = not self._is_paused
        self._show_age()
        self._ask()

    def action_keys(self) -> None:
        """Show the keys."""
        self.push_screen(KeysScreen())

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Open the row."""
        name = event.row_key.value
        if name is None:
            return
        if event.data_table.id == "nodes":
            screen = DetailScreen(self._data, name, f"/v1/nodes/{quote(name, safe='')}/machine", {}, gpus_of_node, self._every_seconds)
        else:
            screen = DetailScreen(self._data, name, "/v1/why", {"pod": name}, why_text, 10 * self._every_seconds)
        self.push_screen(screen)


async def all_pods(data: LiveData) -> list[Row] | Unanswered:
    """Return every page of the pods, at most `MOST_PAGES`."""
    rows: list[Row] = []
    after: str | None = None
    for _ in range(MOST_PAGES):
        page = await data.get("/v1/pods", {"limit": PAGE_PODS, **({"after": after} if after else {})})
        if isinstance(page, Unanswered):
            return page
        try:
            rows += page["pods"]
            after = page["next"]
        except (KeyError, TypeError) as error:
            return Unanswered(another_form(data.source, error))
        if after is None:
            break
    return rows
