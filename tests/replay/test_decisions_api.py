"""`GET /v1/decisions` and `/v1/decisions/{id}`: which decisions an answer contains, page by page."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extender.web.questions.decision_answers import DecisionAnswer, DecisionsAnswer
from tests.conftest import Served
from tests.objects import pod


@pytest.fixture
def decided(served: Served) -> Served:
    """Decisions about six pods: one decided by filter alone, one that fits nowhere, four that are filtered and prioritized."""
    names = sorted(served.service.store.snapshot.views)
    ask(served, pod(1, name="alone"), names[:1])
    ask(served, pod(99, name="huge"), names)
    for number in range(4):
        ask(served, pod(2, name=f"p{number}"), names)
    return served


def ask(served: Served, manifest: dict[str, Any], names: list[str]) -> None:
    body = {"Pod": manifest, "NodeNames": names}
    passed = served.client.post("/scheduler/filter", json=body).json()["NodeNames"]
    if len(passed) > 1:
        served.client.post("/scheduler/prioritize", json={**body, "NodeNames": passed})


def page(served: Served, **parameters: Any) -> dict[str, Any]:
    answer = served.client.get("/v1/decisions", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def listed(served: Served, **parameters: Any) -> list[tuple[str, str, str]]:
    return [(row["pod"], row["verb"], row["result"]) for row in page(served, limit=1000, **parameters)["decisions"]]


PREFERRED = [
    (f"team/p{number}", verb, result) for number in (3, 2, 1, 0) for verb, result in (("prioritize", "decided"), ("filter", "feasible"))
]
ALL = [*PREFERRED, ("team/huge", "filter", "refused"), ("team/alone", "filter", "decided")]

CASES: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "all": ({}, ALL),
    "pod by name": ({"pod": "huge"}, ALL[8:9]),
    "pod by namespace and name": ({"pod": "team/p2"}, PREFERRED[2:4]),
    "pod by uid": ({"pod": "uid-alone"}, ALL[9:]),
    "decided": ({"outcome": "decided"}, [row for row in ALL if row[2] == "decided"]),
    "refused": ({"outcome": "refused"}, ALL[8:9]),
    "waiting": ({"outcome": "waiting"}, []),
    "several conditions": ({"outcome": "decided", "pod": "p1"}, PREFERRED[4:5]),
    "another pod": ({"pod": "other"}, []),
    "since long ago": ({"since": "2020-01-01T00:00:00Z"}, ALL),
    "since a time with a zone": ({"since": "2020-01-01T00:00:00+01:00"}, ALL),
    "since Unix time": ({"since": "0"}, ALL),
    "since the future": ({"since": "2100-01-01T00:00:00Z"}, []),
    "unknown node": ({"node": "nowhere"}, []),
}


@pytest.mark.parametrize("case", CASES)
def test_answer_has_the_decisions_that_are_asked_for_newest_first(case: str, decided: Served) -> None:
    parameters, expected = CASES[case]
    assert listed(decided, **parameters) == expected


def test_decisions_about_a_node_have_its_verdict_alone(decided: Served) -> None:
    (node, *_) = sorted(decided.service.store.snapshot.views)
    rows = page(decided, node=node, limit=1000)["decisions"]
    assert len(rows) >= 6
    assert all([row["node"] for row in decision["nodes"]] == [node] for decision in rows)


@pytest.mark.parametrize("limit", [1, 3, 4, 10])
def test_pages_together_are_the_whole_list_also_while_decisions_are_added(limit: int, decided: Served) -> None:
    found, cursor, names = [], None, sorted(decided.service.store.snapshot.views)
    while True:
        answer = page(decided, limit=limit, **({"cursor": cursor} if cursor else {}))
        found += [(row["pod"], row["verb"], row["result"]) for row in answer["decisions"]]
        cursor = answer["next"]
        ask(decided, pod(1, name="later"), names[:1])
        if cursor is None:
            break
    assert found == ALL


def test_decision_is_found_by_its_id_and_by_that_of_its_placement(decided: Served) -> None:
    (row,) = page(decided, pod="alone")["decisions"]
    assert row["id"] is not None
    for wanted in (row["decision_id"], row["id"]):
        assert decided.client.get(f"/v1/decisions/{wanted}").json() == row
    missing = decided.client.get("/v1/decisions/0-0")
    assert missing.status_code == 404
    assert "/v1/decisions lists" in missing.json()["error"]


WRONG: dict[str, tuple[dict[str, str], int, str]] = {
    "cursor of another process": ({"cursor": "abcdef-3"}, 400, "of another replica or of an earlier start"),
    "no cursor": ({"cursor": "x"}, 400, "take `next`"),
    "no time": ({"since": "yesterday"}, 400, "2026-05-01T08:00:00Z"),
    "a time without a zone": ({"since": "2026-05-01T08:00:00"}, 400, "is no time"),
    "infinity": ({"since": "inf"}, 400, "is no time"),
    "outcome": ({"outcome": "good"}, 422, "refused"),
    "limit": ({"limit": "1001"}, 422, "1000"),
    "long text": ({"pod": "x" * 600}, 422, "512"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_parameter_is_named(case: str, decided: Served) -> None:
    parameters, status, text = WRONG[case]
    answer = decided.client.get("/v1/decisions", params=parameters)
    assert answer.status_code == status
    assert text in answer.text


def test_answers_have_the_types_that_openapi_states(decided: Served) -> None:
    assert msgspec.json.decode(decided.client.get("/v1/decisions").content, type=DecisionsAnswer).decisions
    document = decided.client.get("/openapi.json").json()
    paths, schemas = document["paths"], document["components"]["schemas"]
    stated = paths["/v1/decisions"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert stated == {"$ref": "#/components/schemas/DecisionsAnswer"}
    assert set(schemas["DecisionAnswer"]["properties"]) == set(DecisionAnswer.__struct_fields__)
    assert "application/zip" in paths["/v1/snapshot"]["get"]["responses"]["200"]["content"]


def test_decision_without_its_state_is_listed_as_not_replayable(decided: Served) -> None:
    assert all(row["replayable"] for row in page(decided)["decisions"])
    decided.service.scheduling.log._drop_moments(1 << 40)
    assert not any(row["replayable"] for row in page(decided)["decisions"])
    assert len(page(decided)["decisions"]) == len(ALL)
