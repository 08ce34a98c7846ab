"""`/v1/pods` over a real server: pages, filters and bounds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Served
from tests.objects import pod


@pytest.fixture
def names(served: Served) -> list[str]:
    """Twelve bound pods."""
    names = [f"pod-{number:02}" for number in range(12)]
    for number, name in enumerate(names):
        served.cluster.bind(pod(1, name=name), "hgx-h100-0" if number < 8 else "dgx-a100-0", served.service.store)
    return names


def asked(served: Served, **query: Any) -> dict[str, Any]:
    answer: dict[str, Any] = served.client.get("/v1/pods", params=query).json()
    return answer


@pytest.mark.parametrize("limit", [1, 5, 12, 100])
def test_pages_have_every_pod_once(served: Served, names: list[str], limit: int) -> None:
    seen: list[str] = []
    after: str | None = None
    while True:
        page = asked(served, limit=limit, **({"after": after} if after else {}))
        seen += [row["name"] for row in page["pods"]]
        after = page["next"]
        if after is None:
            break
    assert seen == names


@pytest.mark.parametrize(
    ("query", "count"),
    [
        pytest.param({"node": "hgx-h100-0"}, 8, id="node"),
        pytest.param({"namespace": "team"}, 12, id="namespace"),
        pytest.param({"namespace": "other"}, 0, id="other-namespace"),
        pytest.param({"state": "bound"}, 12, id="state"),
        pytest.param({"state": "pending"}, 0, id="other-state"),
        pytest.param({"search": "team/pod-0"}, 10, id="search"),
        pytest.param({"search": "h100"}, 8, id="search-of-a-node"),
    ],
)
@pytest.mark.usefixtures("names")
def test_query_selects_pods(served: Served, query: dict[str, str], count: int) -> None:
    assert asked(served, **query)["total"] == count


def test_worst_pods_are_one_page(served: Served, names: list[str]) -> None:
    page = asked(served, order="worst", limit=5)
    assert (len(page["pods"]), page["total"], page["next"]) == (5, len(names), None)


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 10**9}, {"state": "lost"}, {"search": "x" * 300}])
def test_query_out_of_bounds_is_refused(served: Served, query: dict[str, Any]) -> None:
    assert served.client.get("/v1/pods", params=query).status_code == 422
