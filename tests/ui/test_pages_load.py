"""Every page: it loads on the real service, says nothing to the console, asks no other host, and axe-core finds nothing."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.ui.browser import NARROW, Watched, watched
from tests.ui.staged_cluster import BROKEN_NODE, SLOW_POD

PAGES = {
    "cluster": ("/", "GPUs on"),
    "cluster, nothing matches": ("/?search=nothing-has-this-name", "No node matches"),
    "node with direct NVLinks": ("/nodes/dgx-1v-0?gpus=0,1,4", "all-reduce of GPUs {0,1,4}"),
    "node with NVSwitch and a fault": ("/nodes/hgx-h100-3", "XID 79"),
    "node with memory of an unknown process": ("/nodes/dgx-1v-1", "memory of unknown processes"),
    "node with a missing bridge": (f"/nodes/{BROKEN_NODE}?gpus=2,3", "is a bridge missing?"),
    "pods": ("/pods", "Pending pods first"),
    "bound pod": (f"/pods/{SLOW_POD}", "Where it is"),
    "pod with a decision": ("/pods/chat/qwen3-32b-3", "chosen"),
    "pending pod": ("/pods/research/train-8-wide", "What would help"),
    "decisions": ("/decisions", "Node or reason"),
    "decision": ("/decisions/{decision}", "Predicted and actual GPUs"),
    "what-if": ("/what-if?add=4x3&nodes=1xhgx-h100&cordon=l4-0", "Where pods go"),
    "no such page": ("/nodes", "There is no such page"),
}
"""Name -> path, and a text that the page has once it is complete."""


def opened(page: Watched, name: str) -> None:
    """Open a page of the table and wait until it is complete."""
    path, text = PAGES[name]
    if "{decision}" in path:
        decisions = httpx.get(f"{page.url}/v1/decisions", params={"limit": 50}, timeout=20).json()["decisions"]
        path = path.format(decision=next(each["id"] for each in decisions if each["id"] is not None and each["outcome"] is not None))
    page.page.goto(page.url + path)
    expect(page.page.get_by_text(text).first).to_be_visible(timeout=20_000)
    page.page.wait_for_load_state("load")


@pytest.mark.parametrize("name", PAGES)
def test_page_loads_without_a_console_message_asks_no_other_host_and_axe_finds_nothing(browser: Browser, staged: str, name: str) -> None:
    with watched(browser, staged) as page:
        opened(page, name)
        assert page.axe() == []
        assert page.complaints == []
        assert page.elsewhere == []


@pytest.mark.parametrize("name", PAGES)
def test_narrow_dark_page_is_not_wider_than_the_window_and_axe_finds_nothing(browser: Browser, staged: str, name: str) -> None:
    with watched(browser, staged, "dark", NARROW) as page:
        opened(page, name)
        assert page.axe() == []
        assert page.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
