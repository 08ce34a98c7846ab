"""What a person does on the pages: by keyboard, by clicks, and with names that are no names."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.ui.browser import UI, watched
from tests.ui.staged_cluster import BROKEN_NODE, SLOW_POD, Stage, pod_manifest
from topology.platforms import machine_of, platforms

HOSTILE = "<img src=x onerror=alert(1)>"


def test_the_skip_link_is_the_first_stop_of_the_tab_key_and_leads_to_the_content(browser: Browser, staged: str) -> None:
    with watched(browser, staged) as page:
        page.open("/")
        page.page.keyboard.press("Tab")
        expect(page.page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.page.keyboard.press("Enter")
        expect(page.page.locator("main")).to_be_focused()
        page.page.keyboard.press("Tab")
        assert page.page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_gpus_are_chosen_by_keyboard_alone(browser: Browser, staged: str) -> None:
    with watched(browser, staged) as page:
        page.open("/nodes/dgx-1v-0")
        gpus = page.page.get_by_role("button", name=re.compile(r"^GPU \d"))
        expect(gpus).to_have_count(8)
        gpus.nth(0).focus()
        page.page.keyboard.press("Space")
        page.page.keyboard.press("ArrowRight")
        expect(gpus.nth(1)).to_be_focused()
        page.page.keyboard.press("Space")
        expect(page.page.get_by_text("all-reduce of GPUs {0,1}")).to_be_visible()
        assert [gpus.nth(place).get_attribute("aria-pressed") for place in (0, 1, 2)] == ["true", "true", "false"]
        assert [gpus.nth(place).get_attribute("tabindex") for place in (0, 1, 2)] == ["-1", "0", "-1"]
        page.page.keyboard.press("End")
        expect(gpus.nth(7)).to_be_focused()
        page.page.keyboard.press("Escape")
        expect(gpus.nth(0)).to_have_attribute("aria-pressed", "false")
        assert page.page.url == f"{staged}/nodes/dgx-1v-0"


def test_a_new_page_has_the_focus_at_its_content_and_a_title_of_its_own(browser: Browser, staged: str) -> None:
    with watched(browser, staged) as page:
        page.open("/")
        page.page.get_by_role("navigation").get_by_role("link", name="Pods").click()
        expect(page.page.get_by_role("heading", level=1, name="Pods")).to_be_visible()
        expect(page.page.locator("main")).to_be_focused()
        expect(page.page).to_have_title("Pods · Fabricwise")


def test_from_a_slow_pod_to_the_missing_bridge_in_three_clicks(browser: Browser, staged: str) -> None:
    with watched(browser, staged) as page:
        page.open("/")
        page.page.get_by_role("navigation").get_by_role("link", name="Pods").click()
        slow = page.page.get_by_role("row", name=f"{SLOW_POD} slow")
        expect(slow).to_contain_text("slow")
        slow.get_by_role("link", name=SLOW_POD, exact=True).click()
        page.page.get_by_role("link", name=re.compile("What limits these GPUs")).click()
        expect(page.page.get_by_role("heading", level=1, name=BROKEN_NODE)).to_be_visible()
        expect(
            page.page.get_by_text("GPUs {2,3} have no NVLink, while the other 6 GPUs have 12 each: is a bridge missing?")
        ).to_be_visible()
        expect(page.page.get_by_text("! no bridge")).to_be_visible()


def test_nodes_are_searched_filtered_and_sorted_and_the_address_says_so(browser: Browser, staged: str) -> None:
    with watched(browser, staged) as page:
        page.open("/")
        cards = page.page.locator("main a[href^='/nodes/']")
        page.page.get_by_label("Search nodes").fill("l40s")
        expect(cards).to_have_count(3)
        page.page.get_by_label("Search nodes").fill("")
        page.page.get_by_label("State", exact=True).select_option(label="with excluded GPUs")
        expect(cards).to_have_count(2)
        page.page.get_by_label("State", exact=True).select_option(label="All states")
        page.page.get_by_label("Sort by", exact=True).select_option(label="Sort: Most free GPUs")
        page.page.get_by_label("Fabric", exact=True).select_option(label="NVLink bridges")
        expect(page.page).to_have_url(f"{staged}/?sort=free&fabric=NVLink+bridges")
        first = cards.all_inner_texts()
        page.page.reload()
        expect(cards).to_have_count(len(first))
        assert cards.all_inner_texts() == first


def test_text_that_is_typed_without_a_pause_is_not_lost(browser: Browser, staged: str) -> None:
    with watched(browser, staged) as page:
        page.open("/")
        field = page.page.get_by_label("Search nodes")
        field.press_sequentially("a100-pcie-bridge-pairs-1", delay=0)
        expect(field).to_have_value("a100-pcie-bridge-pairs-1")
        expect(page.page.locator("main a[href^='/nodes/']")).to_have_count(1)
        expect(page.page).to_have_url(f"{staged}/?search=a100-pcie-bridge-pairs-1")


def test_a_what_if_question_is_asked_by_the_form_and_can_be_shared(browser: Browser, staged: str) -> None:
    with watched(browser, staged) as page:
        page.open("/what-if")
        page.page.get_by_label("Number of pods").fill("2")
        page.page.get_by_role("button", name="+ Add nodes").click()
        page.page.get_by_role("button", name="Ask").click()
        table = page.page.get_by_role("region", name="Where pods go")
        expect(table.get_by_text("hgx-h100-new-0").first).to_be_visible(timeout=20_000)
        expect(page.page.get_by_text("fabricwise what-if --add 4x2 --nodes 1xhgx-h100")).to_be_visible()
        assert page.page.url == f"{staged}/what-if?add=4x2&nodes=1xhgx-h100"


def test_the_scheme_button_changes_the_colours_and_keeps_them(browser: Browser, staged: str) -> None:
    with watched(browser, staged) as page:
        page.open("/")
        page.page.get_by_role("button", name="Use the dark colours").click()
        expect(page.page.locator("html")).to_have_attribute("data-mantine-color-scheme", "dark")
        page.page.reload()
        expect(page.page.get_by_role("button", name="Use the light colours")).to_be_visible()


def test_names_that_are_markup_are_shown_as_text_on_every_page(browser: Browser) -> None:
    stage = Stage({HOSTILE: machine_of("hgx-h100", "hostile")})
    pod = pod_manifest(HOSTILE, 2, HOSTILE)
    with stage.serving() as url, httpx.Client(base_url=url, timeout=20) as client, watched(browser, url) as page:
        stage.place(pod, client)
        stage.place(pod_manifest("refused", 4, HOSTILE, floor_gbps=9000), client)
        page.page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
        name, full = quote(HOSTILE, safe=""), f"{quote(HOSTILE, safe='')}/{quote(HOSTILE, safe='')}"
        for path in ("/", f"/nodes/{name}?gpus=0,1", "/pods", f"/pods/{full}", "/decisions", f"/what-if?cordon={name}"):
            page.page.goto(url + path)
            expect(page.page.get_by_text(HOSTILE).first).to_be_visible(timeout=20_000)
            page.page.wait_for_timeout(200)
            assert page.page.locator("img").count() == 0, path
        assert page.complaints == []
        assert page.elsewhere == []


def test_the_form_offers_the_bundled_platforms() -> None:
    source = (UI / "src" / "pages" / "what_if" / "changes.ts").read_text()
    listed = re.search(r"PLATFORMS = \[(.*?)\]", source, re.DOTALL)
    assert listed is not None
    assert re.findall(r"'([^']+)'", listed[1]) == list(platforms())


@pytest.mark.parametrize("path", sorted((UI / "src").rglob("*.ts*")), ids=lambda path: path.name)
def test_no_source_renders_markup_from_text(path: Path) -> None:
    assert "dangerouslySetInnerHTML" not in path.read_text()
