"""Pages where an answer is late, refused, lost or of an unusual form: what is shown is true, or the page says that it is not."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from playwright.sync_api import Browser, Route, expect

from extender.kube.objects.decode import seen
from tests.objects import node
from tests.ui.browser import Watched, watched
from tests.ui.staged_cluster import Stage, pod_manifest


def refuse_malformed(client: httpx.Client) -> None:
    """Ask for a pod whose request cannot be read."""
    pod = pod_manifest("malformed", 2)
    pod["metadata"]["annotations"] = {"fabricwise.dev/min-busbw": "fast"}
    client.post("/scheduler/filter", json={"Pod": pod, "NodeNames": ["hgx-h100-0", "hgx-h100-1"]})


def test_page_of_a_decision_about_a_malformed_request_says_what_is_malformed(browser: Browser, served: tuple[str, httpx.Client]) -> None:
    url, client = served
    refuse_malformed(client)
    with watched(browser, url) as page:
        page.open("/decisions")
        page.page.get_by_role("row", name="chat/malformed").get_by_role("link", name="open").click()
        expect(page.page.get_by_role("heading", level=1, name="chat/malformed")).to_be_visible()
        expect(page.page.get_by_text(re.compile("The request cannot be read: .*'fast' is not a bandwidth"))).to_be_visible()
        expect(page.page.get_by_text("invalid", exact=True)).to_be_visible()
        assert page.axe() == []
        assert page.complaints == []


def test_decision_has_the_same_outcome_and_reason_live_and_after_a_reload(browser: Browser, served: tuple[str, httpx.Client]) -> None:
    url, client = served
    with watched(browser, url) as page:
        page.open("/decisions")
        expect(page.page.get_by_text("No decision yet")).to_be_visible()
        refuse_malformed(client)
        row = page.page.get_by_role("row", name="chat/malformed")
        expect(row).to_contain_text("invalid")
        live = row.inner_text()
        page.page.reload()
        expect(row).to_be_visible()
        assert row.inner_text() == live


def test_answer_that_cannot_be_drawn_leaves_the_navigation_and_says_so(browser: Browser, served: tuple[str, httpx.Client]) -> None:
    url, client = served
    refuse_malformed(client)
    with watched(browser, url) as page:
        page.page.route("**/v1/pods?*", lambda route: route.fulfill(json={"pods": [{"name": 1}], "total": 1, "state_age_seconds": 0}))
        page.page.goto(f"{url}/pods")
        expect(page.page.get_by_role("heading", level=1, name=re.compile("Could not load this page"))).to_be_visible()
        page.page.get_by_role("navigation").get_by_role("link", name="Decisions").click()
        expect(page.page.get_by_role("heading", level=1, name="Decisions")).to_be_visible()


def test_age_below_a_second_is_no_hundred_seconds(browser: Browser, served: tuple[str, httpx.Client]) -> None:
    url, client = served
    refuse_malformed(client)

    def aged(route: Route) -> None:
        route.fulfill(json={**route.fetch().json(), "state_age_seconds": 0.1, "took_seconds": 0.0002})

    with watched(browser, url) as page:
        page.page.route("**/v1/decisions/*", aged)
        page.open("/decisions")
        page.page.get_by_role("link", name="open").click()
        expect(page.page.get_by_text("filter · < 1 ms · state 0 s old")).to_be_visible()


def event(kind: str, data: dict[str, Any], position: str | None = None) -> str:
    """Return one event of /v1/stream as it is sent."""
    return f"{f'id: {position}{chr(10)}' if position is not None else ''}event: {kind}\ndata: {json.dumps(data)}\n\n"


RESYNC = event("resync", {"why": "the position is not known here any more", "stream": "b.0", "sequence": 0})


def answer_in_turn(page: Watched, pattern: str, answers: Sequence[Callable[[Route], None]]) -> None:
    """Give each request of a pattern the next answer; those after the last one get none."""
    left = iter(answers)

    def answer(route: Route) -> None:
        following = next(left, None)
        if following is not None:
            following(route)

    page.page.route(pattern, answer)


def stream_of(*events: str) -> Callable[[Route], None]:
    """Return the answer that is a stream with these events, which ends after them."""
    return lambda route: route.fulfill(body="".join(events), content_type="text/event-stream")


def cluster_of(answer: dict[str, Any], sequence: int, free: int) -> dict[str, Any]:
    """Return an answer of /v1/cluster in which each node has so many free GPUs, and the others are taken."""
    rows = [{**row, "free": free, "taken": 8 - free, "states": "f" * free + "t" * (8 - free)} for row in answer["nodes"]]
    return {**answer, "sequence": sequence, "stream": f"b.{sequence}", "nodes": rows}


def test_event_during_a_reload_is_not_undone_by_the_older_answer(browser: Browser, served: tuple[str, httpx.Client]) -> None:
    url, client = served
    whole = client.get("/v1/cluster").json()
    counts = {key: whole[key] for key in ("revision", "at_seconds", "state_age_seconds", "totals", "pending", "assumed_pods", "set_aside")}
    newest = cluster_of(whole, 11, 5)["nodes"][:1]
    changed = event("nodes", {"stream": "b.11", "sequence": 11, **counts, "changed": newest, "removed": []}, "b.11")
    older = (lambda route: route.fulfill(json=cluster_of(whole, 10, 8)),) * 2
    with watched(browser, url) as page:
        answer_in_turn(page, "**/v1/cluster", older)
        answer_in_turn(page, "**/v1/stream", (stream_of(RESYNC, changed),))
        page.page.goto(url)
        expect(page.page.get_by_role("link", name=re.compile("5 free, 3 taken"))).to_have_count(1)
        page.page.wait_for_timeout(300)
        expect(page.page.get_by_role("link", name=re.compile("5 free, 3 taken"))).to_have_count(1)


def test_reload_that_fails_is_tried_again(browser: Browser, served: tuple[str, httpx.Client]) -> None:
    url, client = served
    whole = client.get("/v1/cluster").json()
    age = event("age", {"sequence": 9, "revision": 1, "at_seconds": 0, "state_age_seconds": 0, "synced": True})
    clusters: tuple[Callable[[Route], None], ...] = (
        lambda route: route.fulfill(json=cluster_of(whole, 3, 8)),
        lambda route: route.fulfill(status=503, json={"error": "too many questions at once"}),
        lambda route: route.fulfill(json=cluster_of(whole, 9, 2)),
    )
    with watched(browser, url) as page:
        answer_in_turn(page, "**/v1/cluster", clusters)
        answer_in_turn(page, "**/v1/stream", (stream_of(RESYNC), stream_of(age)))
        page.page.goto(url)
        expect(page.page.get_by_role("link", name=re.compile("2 free, 6 taken"))).to_have_count(3, timeout=10_000)


def test_decisions_of_a_server_that_restarted_are_shown_beside_the_earlier_ones(browser: Browser, served: tuple[str, httpx.Client]) -> None:
    url, _ = served
    decided = {"sequence": 1, "verb": "prioritize", "gpus": 2, "outcome": "decided", "node": "hgx-h100-0", "feasible_nodes": 1}
    decided |= {"expected_bandwidth_gbps": 360, "nodes": 1, "reason": None, "took_seconds": 0.001}
    before = event("decision", {**decided, "id": "old-0", "pod": "chat/before", "uid": "1", "at_seconds": time.time() - 9}, "a.1")
    after = event("decision", {**decided, "id": "new-0", "pod": "chat/after", "uid": "2", "at_seconds": time.time()}, "b.1")
    with watched(browser, url) as page:
        answer_in_turn(page, "**/v1/stream", (stream_of(before), stream_of(RESYNC, after)))
        page.page.goto(f"{url}/decisions")
        expect(page.page.get_by_role("row", name="chat/before")).to_be_visible()
        expect(page.page.get_by_role("row", name="chat/after")).to_be_visible()


def test_answer_that_cannot_be_renewed_is_marked_as_old_while_the_connection_is_live(
    browser: Browser, served: tuple[str, httpx.Client]
) -> None:
    url, _ = served
    with watched(browser, url) as page:
        page.open("/nodes/hgx-h100-0")
        expect(page.page.get_by_role("button", name=re.compile("^GPU 0 : free"))).to_be_visible()
        page.page.route("**/v1/nodes/*/machine", lambda route: route.fulfill(status=429, json={"error": "too many questions at once"}))
        expect(page.page.get_by_text(re.compile(r"The machine as of \d\d:\d\d:\d\d; .*too many questions"))).to_be_visible(timeout=15_000)
        expect(page.page.get_by_role("button", name=re.compile("^GPU 0 : free"))).to_be_visible()
        page.page.unroute_all(behavior="ignoreErrors")
        expect(page.page.get_by_text("The machine as of")).to_have_count(0, timeout=15_000)


def test_token_that_may_not_read_the_cluster_can_be_replaced(browser: Browser, served: tuple[str, httpx.Client]) -> None:
    url, _ = served

    def guard(route: Route) -> None:
        token = route.request.headers.get("authorization")
        if token == "Bearer reader":
            route.continue_()
        elif token is None:
            route.fulfill(status=401, json={"error": "a token is needed"})
        else:
            route.fulfill(status=403, json={"error": "system:serviceaccount:x:y may not get /v1"})

    with watched(browser, url) as page:
        page.page.route("**/v1/**", guard)
        page.page.goto(url)
        page.page.get_by_label("Bearer token").fill("stranger")
        page.page.get_by_role("button", name="Show the cluster").click()
        expect(page.page.get_by_text("system:serviceaccount:x:y may not get /v1")).to_be_visible()
        assert page.axe() == []
        page.page.get_by_role("button", name="Use another token").click()
        page.page.get_by_label("Bearer token").fill("reader")
        page.page.get_by_role("button", name="Show the cluster").click()
        expect(page.page.get_by_role("link", name=re.compile("hgx-h100-0"))).to_be_visible(timeout=15_000)
        page.page.unroute_all(behavior="ignoreErrors")


def test_address_without_a_page_shows_the_way_back(browser: Browser, served: tuple[str, httpx.Client]) -> None:
    url, _ = served
    with watched(browser, url) as page:
        answer = page.page.goto(f"{url}/nope")
        assert answer is not None
        assert answer.status == 404
        expect(page.page.get_by_role("heading", level=1, name="There is no such page")).to_be_visible()
        page.page.get_by_role("link", name="Go to the cluster").click()
        expect(page.page.get_by_role("link", name=re.compile("hgx-h100-0"))).to_be_visible()


def test_replicas_of_shared_gpus_are_named_and_hold_no_pods_of_several_gpus(browser: Browser) -> None:
    stage = Stage({})
    labels = {"nvidia.com/gpu.count": "4", "nvidia.com/gpu.replicas": "10"}
    stage.service.store.apply((seen("Node", node("shared", 40, "Tesla-T4-SHARED", 15360, labels)),))
    with stage.serving() as url, watched(browser, url) as page:
        page.open("/")
        expect(page.page.get_by_text("Of these, 40 are replicas of shared GPUs")).to_be_visible()
        fits = page.page.get_by_role("region", name="Pods that still fit on one node").get_by_role("listitem")
        expect(fits).to_have_text(["40× 1 GPU", "0× 2 GPUs", "0× 4 GPUs", "0× 8 GPUs"])
        expect(page.page.get_by_text("replicas, time-slicing")).to_be_visible()
        assert page.axe() == []
