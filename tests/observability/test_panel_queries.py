"""A real Prometheus that scrapes a running service answers the query of every panel, variable and alert."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.collectors.prometheus_server import prometheus, prometheus_binary
from tests.objects import pod
from tests.observability.exercised_service import exercised
from tests.observability.expressions import dashboards, expressions
from tests.waiting import wait

QUIET = {
    "cluster: Pods that fit, by size",
    "cluster: Pods that do not fit, by cause",
    "extender: Requeued pods",
    "extender: Events of the API server",
    "extender: Failed watches",
    "extender: Scrapes by outcome",
    "extender: p99 of a scrape",
    "extender: Restarts",
    "node: Steering",
}
"""Panels without a value here: the service has no API server, no exporter, no steered node and no failure, and counts no slots."""
SECONDS = 60


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a Prometheus that has scraped the service several times."""
    prometheus_binary()
    with exercised() as (_, service):
        target = f"{service.base_url.host}:{service.base_url.port}"
        jobs = [{"job_name": "fabricwise", "static_configs": [{"targets": [target]}]}]
        with prometheus(tmp_path_factory.mktemp("prometheus"), jobs) as url, httpx.Client(base_url=url, timeout=20) as client:

            def several_scrapes() -> bool:
                service.post("/scheduler/filter", json={"Pod": pod(1, name="again"), "NodeNames": ["t4-0"]})
                return bool(results(client, 'sum(rate(fabricwise_verb_seconds_count{verb="filter"}[5m])) > 0'))

            wait("rates of the verbs", several_scrapes, SECONDS)
            yield client


def results(client: httpx.Client, expression: str) -> list[Any]:
    answer = client.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
    found: list[Any] = answer["data"]["result"]
    return found


def plain(expression: str) -> str:
    """The expression as Grafana sends it: with the value of its variable; a variable's own query as the series that it reads."""
    values = re.fullmatch(r"label_values\((\w+), \w+\)", expression)
    return values[1] if values else expression.replace("$node", "t4-0")


@pytest.mark.parametrize(("where", "expression"), [pytest.param(*each, id=f"{n}-{each[0]}") for n, each in enumerate(expressions())])
def test_prometheus_answers_the_query(where: str, expression: str, scraped: httpx.Client) -> None:
    """An error would be a wrong type, or two series where one is needed: promtool does not see that."""
    found = results(scraped, plain(expression))
    is_panel = where.split(":", maxsplit=1)[0] in dashboards()
    if is_panel and where not in QUIET:
        assert found, "a panel without any value"


def test_quiet_panels_are_panels() -> None:
    assert {where for where, _ in expressions()} >= QUIET
