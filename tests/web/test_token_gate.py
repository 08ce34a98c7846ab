"""Tokens of the debug API: without a valid one nothing of the cluster is shown, also where the API server does not answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.responses import Response

from extender.errors import SettingsError
from extender.scheduling.ports import Cluster
from extender.server.service import build_service
from extender.settings import DebugAuth, Server, Settings
from extender.web.access.token_gate import MOST_ASKED, MOST_KEPT, TokenGate, is_guarded
from tests.waiting import wait
from tests.web.asgi_calls import call, calls
from tests.web.live_clusters import KUBERNETES, served_debug, served_verbs, small_service
from tests.web.token_server import CountingReviews

VIEWER = {("get", "/v1/cluster"), ("get", "/v1/stream"), ("get", "/v1/nodes")}


def reviews() -> CountingReviews:
    return CountingReviews({"viewer": VIEWER, "stranger": set()})


# values of the header Authorization -> (status, part of the error)
REQUESTS: dict[str, tuple[list[str], int, str]] = {
    "no header": ([], 401, "send `Authorization: Bearer TOKEN`"),
    "valid": (["Bearer viewer-token"], 200, ""),
    "another case of the scheme": (["bearer viewer-token"], 200, ""),
    "another scheme": (["Basic viewer-token"], 401, "send"),
    "no token": (["Bearer "], 401, "send"),
    "two words": (["Bearer viewer-token x"], 401, "send"),
    "two headers": (["Bearer viewer-token", "Bearer stranger-token"], 401, "send"),
    "too long": (["Bearer " + "x" * 20_000], 401, "send"),
    "not ASCII": (["Bearer vi\xe9wer-token"], 401, "send"),
    "unknown": (["Bearer foreign-token"], 401, "does not accept this token"),
    "without rights": (["Bearer stranger-token"], 403, "stranger may not get /v1/cluster"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_request_passes_only_with_a_token_whose_user_may_get_the_path(case: str) -> None:
    values, status, part = REQUESTS[case]
    service, _ = small_service(cluster=Cluster(reviews=reviews()), debug_auth=KUBERNETES)
    headers = [(b"authorization", value.encode("latin-1")) for value in values]
    response = call(service.debug_app, "/v1/cluster", raw_headers=headers)
    assert response.status == status, response.text
    answer = json.loads(response.text)
    assert part in (answer.get("error") or "")
    assert response.headers.get("www-authenticate") == ('Bearer realm="fabricwise"' if status == 401 else None)
    assert ("nodes" in answer) is (status == 200)


def test_the_verb_of_a_review_is_the_method() -> None:
    found = reviews()
    service, _ = small_service(cluster=Cluster(reviews=found), debug_auth=KUBERNETES)
    with served_debug(service, Authorization="Bearer viewer-token") as client:
        assert client.post("/v1/explain", content=b"{}").status_code == 403
        assert client.get("/v1/%63luster").status_code == 200, "the path is checked as it is routed: decoded"
    assert found.authorizations == [("viewer", "post", "/v1/explain"), ("viewer", "get", "/v1/cluster")]


@pytest.mark.parametrize("broken", ["the API server does not answer", "apply manifests/base"])
def test_nothing_is_shown_while_the_api_server_does_not_answer(broken: str) -> None:
    found = reviews()
    found.broken = broken
    service, _ = small_service(cluster=Cluster(reviews=found), debug_auth=KUBERNETES)
    with served_debug(service, Authorization="Bearer viewer-token") as client:
        refused = client.get("/v1/cluster")
        assert (refused.status_code, refused.json()) == (503, {"error": broken})
        assert refused.headers["retry-after"] == "2"
        found.broken = ""
        assert client.get("/v1/cluster").status_code == 200, "an error is not kept"


PAST_THE_GATE = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/static-offline-docs", ""}
"""Of all routes of the debug port, those that need no token: the same answer for every cluster. "" is the web UI's files."""


def paths_of(routes: Iterable[Any]) -> Iterator[str]:
    """The paths of routes, those of included routers too."""
    for route in routes:
        if hasattr(route, "path"):
            yield route.path
        else:
            yield from paths_of(route.original_router.routes)


def test_every_route_of_the_debug_port_needs_a_token_except_constant_ones() -> None:
    service, _ = small_service(cluster=Cluster(reviews=reviews()), debug_auth=KUBERNETES, debug_port=1)
    gate = service.debug_app._app  # type: ignore[attr-defined]
    assert isinstance(gate, TokenGate)
    paths = set(paths_of(gate._app.routes))  # type: ignore[attr-defined]
    assert {path for path in paths if not is_guarded(path)} == PAST_THE_GATE
    with served_debug(service) as client:
        for path in ("/", "/docs", "/openapi.json", "/nodes/x", "/static-offline-docs/swagger-ui.css"):
            assert client.get(path).status_code == 200, path
        for path in sorted(paths - PAST_THE_GATE):
            assert client.get(path.replace("{name}", "t4-0")).status_code == 401, path


UNROUTED = ["//v1/cluster", "/V1/cluster", "/v1", "/v1/", "/v1/../v1/cluster", "/./v1/cluster", "/assets/../v1/cluster", "/v1%2fcluster"]


@pytest.mark.parametrize("path", UNROUTED)
def test_no_spelling_of_a_path_gets_past_the_gate(path: str) -> None:
    service, _ = small_service(cluster=Cluster(reviews=reviews()), debug_auth=KUBERNETES)
    response = call(service.debug_app, path)
    assert response.status in (401, 404), response.text
    assert "totals" not in response.text


def test_verbs_and_health_need_no_token_on_a_port_that_they_share() -> None:
    service, _ = small_service(cluster=Cluster(reviews=reviews()), debug_auth=KUBERNETES)
    with served_verbs(service) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 200
        assert client.post("/scheduler/filter", json={"Pod": {"metadata": {}, "spec": {}}, "NodeNames": []}).status_code == 200
        assert client.get("/v1/cluster").status_code == 401


def test_tokens_without_an_api_server_are_an_error_of_the_settings() -> None:
    with pytest.raises(SettingsError, match=r"server\.debug_auth\.mode is kubernetes, but no API server is watched"):
        build_service(Settings(server=Server(debug_auth=DebugAuth(mode="kubernetes"))))


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ask(gate: TokenGate, *paths: str, token: str = "viewer-token") -> list[int]:
    """Send GETs one after another; return their statuses."""
    return calls(gate, paths, Authorization=f"Bearer {token}")


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await Response("in")(scope, receive, send)


def test_answers_of_the_api_server_are_kept_for_their_time_and_no_longer() -> None:
    found, clock = reviews(), Clock()
    gate = TokenGate(inner, found, 10.0, clock)
    assert ask(gate, "/v1/cluster", "/v1/cluster", "/v1/nodes") == [200, 200, 200]
    assert (len(found.authentications), len(found.authorizations)) == (1, 2)
    clock.now += 9.9
    assert ask(gate, "/v1/cluster") == [200]
    assert len(found.authentications) == 1
    clock.now += 0.2
    found.rights = {}
    assert ask(gate, "/v1/cluster") == [401], "a token that has been revoked passes no more"


def test_refusals_are_kept_too() -> None:
    found = reviews()
    gate = TokenGate(inner, found, 10.0, Clock())
    assert ask(gate, "/v1/cluster", "/v1/cluster", token="unknown-token") == [401, 401]
    assert ask(gate, "/v1/cluster", "/v1/cluster", token="stranger-token") == [403, 403]
    assert (len(found.authentications), len(found.authorizations)) == (2, 1)


def test_kept_answers_are_bounded() -> None:
    found = reviews()
    gate = TokenGate(inner, found, 10.0, Clock())
    found.rights["viewer"] = {("get", f"/v1/{number}") for number in range(MOST_KEPT + 50)}
    assert set(ask(gate, *(f"/v1/{number}" for number in range(MOST_KEPT + 50)))) == {200}
    assert len(gate._answers._kept) == MOST_KEPT


def test_tokens_are_kept_as_hashes_alone() -> None:
    gate = TokenGate(inner, reviews(), 10.0, Clock())
    ask(gate, "/v1/cluster")
    assert "viewer-token" not in repr(gate._answers._kept)


def test_requests_at_the_same_time_ask_once() -> None:
    found = reviews()
    found.gate.clear()
    service, _ = small_service(cluster=Cluster(reviews=found), debug_auth=KUBERNETES)
    with served_debug(service, Authorization="Bearer viewer-token") as client, ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(client.get, "/v1/cluster") for _ in range(8)]
        threading.Timer(0.3, found.gate.set).start()
        assert {answer.result().status_code for answer in answers} == {200}
    assert found.authentications == ["viewer-token"]


def test_flood_of_unknown_tokens_is_bounded_and_told_to_wait() -> None:
    found = reviews()
    found.gate.clear()
    service, _ = small_service(cluster=Cluster(reviews=found), debug_auth=KUBERNETES)
    statuses: list[int] = []
    with served_debug(service) as client, ThreadPoolExecutor(MOST_ASKED + 8) as threads:

        def send(number: int) -> None:
            statuses.append(client.get("/v1/cluster", headers={"Authorization": f"Bearer {number}"}).status_code)

        sent = [threads.submit(send, number) for number in range(MOST_ASKED + 8)]
        wait("the surplus is refused", lambda: statuses.count(503) == 8)
        found.gate.set()
        for each in sent:
            each.result()
    assert sorted(statuses) == [401] * MOST_ASKED + [503] * 8
