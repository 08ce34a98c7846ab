"""The pages while the cluster changes, while the server is lost, and where it asks for a token."""

from __future__ import annotations

import re
from contextlib import ExitStack

import httpx
from playwright.sync_api import Browser, Route, expect

from tests.ui.browser import watched
from tests.ui.staged_cluster import Stage


def test_a_pod_that_is_placed_changes_the_open_cluster_page(browser: Browser, stage: Stage, served: tuple[str, httpx.Client]) -> None:
    url, client = served
    with watched(browser, url) as page:
        page.open("/")
        expect(page.page.get_by_role("link", name=re.compile("hgx-h100-. ?: 8 free"))).to_have_count(3)
        pod = stage.next_pod(client, 2)
        expect(page.page.get_by_role("link", name=re.compile("6 free, 2 taken"))).to_have_count(1)
        expect(page.page.get_by_role("region", name="Decided just now").get_by_role("link", name=pod)).to_be_visible()
        expect(page.page.get_by_test_id("announcer")).to_contain_text(re.compile("nodes changed|6 of 8 GPUs free"))
        stage.end(pod)
        expect(page.page.get_by_role("link", name=re.compile("hgx-h100-. ?: 8 free"))).to_have_count(3)
        assert page.complaints == []


def test_decision_arrives_on_the_open_page_waits_while_it_is_paused_and_has_a_page_of_its_own(
    browser: Browser, stage: Stage, served: tuple[str, httpx.Client]
) -> None:
    url, client = served
    with watched(browser, url) as page:
        page.open("/decisions")
        expect(page.page.get_by_text("No decision yet")).to_be_visible()
        first = stage.next_pod(client, 4)
        arrived = page.page.get_by_role("row", name=first).first
        expect(arrived).to_contain_text("decided")
        page.page.get_by_label("Live").click()
        second = stage.next_pod(client, 4)
        expect(page.page.get_by_text("new while paused")).to_be_visible()
        expect(page.page.get_by_role("row", name=second)).to_have_count(0)
        page.page.get_by_label("Live").click()
        expect(page.page.get_by_role("row", name=second).first).to_be_visible()
        arrived.get_by_role("link", name="open").click()
        expect(page.page.get_by_role("heading", level=1, name=first)).to_be_visible()
        page.page.reload()
        expect(page.page.get_by_role("heading", level=1, name=first)).to_be_visible()
        assert page.complaints == []


def test_an_open_node_page_shows_the_pod_that_took_its_gpus(browser: Browser, stage: Stage, served: tuple[str, httpx.Client]) -> None:
    url, client = served
    with watched(browser, url) as page:
        page.open("/nodes/hgx-h100-0")
        expect(page.page.get_by_role("button", name=re.compile("^GPU 0 : free"))).to_be_visible()
        for _ in range(3):
            stage.next_pod(client, 8)
        expect(page.page.get_by_role("button", name="GPU 0 : taken, pod chat/")).to_be_visible()


def test_pages_of_a_lost_server_say_how_old_they_are_and_recover_when_it_is_back(browser: Browser, stage: Stage) -> None:
    with watched(browser, "http://127.0.0.1") as page:
        with stage.serving() as url:
            page.url = url
            page.open("/")
            expect(page.page.get_by_text("Live", exact=False).first).to_be_visible()
        expect(page.page.get_by_text("Not connected")).to_be_visible(timeout=20_000)
        expect(page.page.get_by_text("The data below is not up to date")).to_be_visible()
        expect(page.page.get_by_role("link", name=re.compile("hgx-h100-0"))).to_be_visible()
        with stage.serving(int(url.rsplit(":", 1)[1])):
            expect(page.page.get_by_text("Not connected")).to_have_count(0, timeout=20_000)
            expect(page.page.get_by_text("The data below is not up to date")).to_have_count(0)


def test_a_cluster_without_gpus_says_what_would_make_one_appear(browser: Browser) -> None:
    with Stage({}).serving() as url, watched(browser, url) as page:
        page.page.goto(url)
        expect(page.page.get_by_text("No node has GPUs")).to_be_visible()
        page.page.goto(f"{url}/pods")
        expect(page.page.get_by_text("No pod asks for GPUs")).to_be_visible()
        assert page.axe() == []


def test_a_server_that_asks_for_a_token_gets_it_with_every_request_and_nowhere_else(
    browser: Browser, served: tuple[str, httpx.Client]
) -> None:
    url, _ = served
    sent: dict[str, str | None] = {}

    def guard(route: Route) -> None:
        path, token = route.request.url.removeprefix(url), route.request.headers.get("authorization")
        sent[path] = token
        if token == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": "a token is needed"}, headers={"WWW-Authenticate": "Bearer"})

    with watched(browser, url) as page, ExitStack() as cleanup:
        page.page.route("**/v1/**", guard)
        cleanup.callback(page.page.unroute_all, behavior="ignoreErrors")
        page.page.goto(url)
        field = page.page.get_by_label("Bearer token")
        expect(field).to_be_visible()
        assert page.axe() == []
        field.fill("wrong")
        page.page.get_by_role("button", name="Show the cluster").click()
        expect(page.page.get_by_text("The server did not accept the last token")).to_be_visible()
        field.fill("right")
        page.page.get_by_role("button", name="Show the cluster").click()
        expect(page.page.get_by_role("link", name=re.compile("hgx-h100-0"))).to_be_visible()
        expect(page.page.get_by_text("Live", exact=False).first).to_be_visible()
        assert {path.split("?")[0] for path, token in sent.items() if token == "Bearer right"} >= {
            "/v1/cluster",
            "/v1/stream",
            "/v1/history",
        }
        assert page.page.evaluate("Object.keys(localStorage).filter(key => localStorage[key].includes('right'))") == []
        assert page.page.evaluate("document.cookie") == ""
