"""The list of thousands of nodes: a turn of the wheel draws the cards near the window and no others."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.ui.browser import WIDE, watched
from tests.ui.measured import large_stage
from tests.waiting import wait

CARDS_PER_LINE = 5
"""Of a window that is 1,440 wide: a card is at least 236 wide, the gap 12, the margins 24."""
LINE_PIXELS = 116
MOST_LINES = WIDE["height"] // LINE_PIXELS + 2 + 2
"""Lines in the window, two that are partly in it, and one more at each end."""

NODE_IN_THE_MIDDLE = "document.elementFromPoint(200, 450)?.closest('a')?.getAttribute('href')"
"""The address that the card in the middle of the window leads to."""


def test_cards_in_the_document_are_those_near_the_window(browser: Browser) -> None:
    with large_stage(1_000).serving() as url, watched(browser, url) as page:
        page.open("/")
        cards = page.page.locator("main a[href^='/nodes/']:has(svg)")
        cards.first.wait_for()
        page.page.mouse.move(700, 600)
        for _ in range(4):
            page.page.mouse.wheel(0, 1500)
            page.page.wait_for_timeout(300)
            assert CARDS_PER_LINE < cards.count() <= MOST_LINES * CARDS_PER_LINE
        assert page.complaints == []


def test_list_that_is_gone_back_to_is_where_it_was_left(browser: Browser) -> None:
    with large_stage(1_000).serving() as url, watched(browser, url) as page:
        page.open("/")
        cards = page.page.locator("main a[href^='/nodes/']:has(svg)")
        cards.first.wait_for()
        page.page.evaluate("window.scrollTo(0, 9000)")
        wait("the cards there are drawn", lambda: bool(page.page.evaluate(NODE_IN_THE_MIDDLE)))
        node = page.page.evaluate(NODE_IN_THE_MIDDLE)
        page.page.locator(f"main a[href='{node}']").click()
        expect(page.page.locator("[data-gpu]").first).to_be_visible()
        assert page.page.evaluate("window.scrollY") == 0
        page.page.go_back()
        expect(page.page.locator(f"main a[href='{node}']")).to_be_in_viewport()
