"""The keys and the screens of `fabricwise top`, driven as a user drives them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from rich.text import Text
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import ContentSwitcher, Input, Static

from extender.cli.top.live_data import Unanswered
from extender.cli.top.rows import Column, Row
from extender.cli.top.sorted_table import MOST_ROWS, SortedTable
from extender.cli.top.top_app import TopApp
from tests.top.canned_answers import CannedData, node_row, pod_row

Drive = Callable[[TopApp, Pilot[None]], Awaitable[None]]


def driven(data: CannedData, drive: Drive) -> None:
    """Run the application without a terminal while `drive` presses keys."""

    async def run() -> None:
        app = TopApp(data, every_seconds=3600)
        async with app.run_test(size=(140, 30)) as pilot:
            await settled(pilot)
            await drive(app, pilot)

    asyncio.run(run())


async def settled(pilot: Pilot[None]) -> None:
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


def shown(app: TopApp) -> list[str]:
    table = app.table
    return [str(table.get_row_at(number)[0].plain) for number in range(table.row_count)]


def text_of(app: TopApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).render())


@pytest.fixture
def data() -> CannedData:
    return CannedData(
        [node_row("gpu-a", free=1), node_row("gpu-b", free=8), node_row("gpu-c", free=4)],
        [pod_row("runs"), pod_row("waits", state="pending", node=None, message="0/3 nodes are available")],
    )


def test_nodes_are_shown_first_and_p_shows_pods(data: CannedData) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        assert shown(app) == ["gpu-a", "gpu-b", "gpu-c"]
        await pilot.press("p")
        await settled(pilot)
        assert shown(app) == ["team/runs", "team/waits"]
        await pilot.press("n")
        await settled(pilot)
        assert shown(app) == ["gpu-a", "gpu-b", "gpu-c"]

    driven(data, drive)


def test_s_sorts_by_the_next_column_and_r_reverses(data: CannedData) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("s", "s", "s", "s")
        assert shown(app) == ["gpu-b", "gpu-c", "gpu-a"]
        await pilot.press("r")
        assert shown(app) == ["gpu-a", "gpu-c", "gpu-b"]
        await pilot.press("S", "S", "S", "S")
        assert shown(app) == ["gpu-a", "gpu-b", "gpu-c"]

    driven(data, drive)


def test_search_keeps_matching_rows_until_escape(data: CannedData) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("slash", "g", "p", "u", "minus", "b", "enter")
        await pilot.pause()
        assert shown(app) == ["gpu-b"]
        assert "1 of 3 rows" in text_of(app, "#age")
        await pilot.press("escape")
        await pilot.pause()
        assert len(shown(app)) == 3

    driven(data, drive)


def test_w_shows_only_pods_that_wait(data: CannedData) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("w")
        await settled(pilot)
        assert shown(app) == ["team/waits"]
        assert app.query_one("#search", Input).value == "pending"

    driven(data, drive)


def test_enter_on_a_pod_asks_why(data: CannedData) -> None:
    data.answers["/v1/why"] = lambda query: Unanswered(f"asked about {query['pod']}")

    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        await settled(pilot)
        await pilot.press("down", "enter")
        await settled(pilot)
        assert "asked about team/waits" in text_of(app, "#answer")
        await pilot.press("escape")
        assert isinstance(app.table, SortedTable)

    driven(data, drive)


def test_answer_of_another_form_is_named_and_the_table_stays(data: CannedData) -> None:
    data.answers["/v1/nodes/gpu-a/machine"] = lambda _query: {"vertices": []}

    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await settled(pilot)
        assert "another form" in text_of(app, "#answer")
        await pilot.press("escape")
        assert len(shown(app)) == 3

    driven(data, drive)


def test_rows_stay_while_the_extender_does_not_answer(data: CannedData) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        data.answers["/v1/cluster"] = lambda _query: Unanswered("connection refused")
        await pilot.press("n")
        await settled(pilot)
        assert "connection refused" in text_of(app, "#totals")
        assert len(shown(app)) == 3

    driven(data, drive)


def test_space_stops_the_updates(data: CannedData) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("space")
        asked = len(data.asked)
        await pilot.press("n")
        await settled(pilot)
        assert len(data.asked) == asked
        assert "paused" in text_of(app, "#age")

    driven(data, drive)


def test_cursor_stays_on_its_node_while_rows_come_and_go(data: CannedData) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("down", "down")
        assert app.table.chosen == "gpu-c"
        app.table.show([node_row("gpu-0"), node_row("gpu-b"), node_row("gpu-c")])
        await pilot.pause()
        assert app.table.chosen == "gpu-c"

    driven(data, drive)


def test_cursor_stays_at_its_place_when_its_node_goes(data: CannedData) -> None:
    rows = [node_row(f"gpu-{number:02}") for number in range(60)]

    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        app.table.show(rows)
        await pilot.press(*["down"] * 40)
        assert app.table.chosen == "gpu-40"
        app.table.show([row for row in rows if row["name"] != "gpu-40"])
        await pilot.pause()
        assert app.table.chosen == "gpu-41"
        assert app.table.scroll_y > 0

    driven(data, drive)


def test_scrolled_table_stays_where_it_is_when_a_node_comes(data: CannedData) -> None:
    rows = [node_row(f"gpu-{number:02}") for number in range(60)]

    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        app.table.show(rows)
        await pilot.pause()
        app.table.scroll_to(y=20, animate=False)
        await pilot.pause()
        app.table.show([*rows, node_row("gpu-99")])
        await pilot.pause()
        assert (app.table.chosen, app.table.scroll_y) == ("gpu-00", 20)

    driven(data, drive)


def test_of_thousands_of_nodes_the_first_are_shown_and_a_search_finds_the_others(data: CannedData) -> None:
    rows = [node_row(f"gpu-{number}") for number in range(2 * MOST_ROWS)]

    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        data.answers["/v1/cluster"] = lambda _query: {"nodes": rows}
        await pilot.press("n")
        await settled(pilot)
        assert shown(app) == [f"gpu-{number}" for number in range(MOST_ROWS)]
        assert f"first {MOST_ROWS} of {2 * MOST_ROWS} rows" in text_of(app, "#age")
        await pilot.press("slash", *f"gpu-{MOST_ROWS + 7}", "enter")
        await settled(pilot)
        assert shown(app) == [f"gpu-{MOST_ROWS + 7}"]

    driven(data, drive)


def test_cells_of_an_unchanged_row_are_not_made_again_and_no_column_is_measured_for_a_narrower_cell() -> None:
    made: list[str] = []

    def cell(row: Row) -> Text:
        made.append(row["name"])
        return Text(str(row["free"]))

    class OneColumn(App[None]):
        def compose(self) -> ComposeResult:
            yield SortedTable((Column("FREE", cell, lambda row: row["name"]),), lambda row: str(row["name"]), "nodes")

    async def run() -> None:
        app = OneColumn()
        async with app.run_test() as pilot:
            table = app.query_one(SortedTable)
            table.show([node_row("a", free=10_000), node_row("b", free=2)])
            await pilot.pause()
            made.clear()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(table, "get_column", lambda _key: pytest.fail("all cells of a column are measured"))
                table.show([node_row("a", free=10_000), node_row("b", free=1)])
                await pilot.pause()
            assert made == ["b"]
            assert table.get_row("b") == [Text("1")]

    asyncio.run(run())


def test_each_table_has_a_search_of_its_own(data: CannedData) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        field = app.query_one("#search", Input)
        await pilot.press("w")
        await settled(pilot)
        await pilot.press("n")
        await settled(pilot)
        assert (field.value, len(shown(app))) == ("", 3)
        await pilot.press("escape", "p")
        await settled(pilot)
        assert (field.value, shown(app)) == ("pending", ["team/waits"])

    driven(data, drive)


@pytest.mark.parametrize("answer", [{"nodes": [{"gpus": 8}]}, {"nodes": 5}, {"totals": 3}, {"pods": [{}], "next": None}, {}])
def test_list_of_another_form_is_named_and_the_rows_stay(data: CannedData, answer: dict[str, Any]) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        path, key = ("/v1/pods", "p") if "nodes" not in answer and "totals" not in answer else ("/v1/cluster", "n")
        data.answers[path] = lambda _query: answer
        await pilot.press(key)
        await settled(pilot)
        assert "a table answers in another form" in text_of(app, "#totals")
        await pilot.press("n")
        assert len(shown(app)) == 3

    driven(data, drive)


def test_timer_that_fires_while_the_application_ends_finds_no_widgets_and_does_nothing(data: CannedData) -> None:
    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await app.query_one(ContentSwitcher).remove()
        await pilot.pause(1.2)
        assert app.is_running

    driven(data, drive)


def test_hostile_names_harm_nothing() -> None:
    hostile = CannedData([node_row("[bold]x[/nothing]\x1b[2J")], [])

    async def drive(app: TopApp, pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await settled(pilot)
        assert "no answer to /v1/nodes/" in text_of(app, "#answer")

    driven(hostile, drive)
