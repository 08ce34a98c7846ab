"""A query parameter that a route of questions does not have is refused, because it would else be ignored without a word."""

from __future__ import annotations

import pytest

from tests.conftest import Served

# query with a parameter that its route does not have -> one that it has
MISNAMED = {
    "/v1/slots?size=4&floor=200": "floor_gbps",
    "/v1/slots?sizes=4": "size",
    "/v1/defrag?size=8&most=3": "moves",
    "/v1/decisions?pods=team/llm": "pod",
    "/v1/decisions/some-id?pod=team/llm": "none",
    "/v1/snapshot?hash-names=true": "hash_names",
    "/v1/pods?name=llm": "search",
    "/v1/why?pod=team/llm&file=x": "pod",
}


@pytest.mark.parametrize("query", MISNAMED)
def test_parameter_that_a_route_does_not_have_is_refused_with_those_that_it_has(served: Served, query: str) -> None:
    response = served.client.get(query)
    assert response.status_code == 422
    error = response.json()["error"]
    assert "no parameter of this route" in error
    assert MISNAMED[query] in error


def test_long_name_of_an_unknown_parameter_is_cut_in_the_error(served: Served) -> None:
    assert len(served.client.get("/v1/slots", params={"x" * 5_000: "1"}).json()["error"]) < 400
