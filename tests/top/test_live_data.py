"""The data of `fabricwise top` from a real service: inside the process, and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from rich.console import Console
from textual.widgets import Static

from extender.cli.top.live_data import Answer, LiveData, OwnData, ServerData, Unanswered
from extender.cli.top.rows import Row
from extender.cli.top.top_app import TopApp, all_pods
from extender.decision.state.changes import Change
from extender.errors import ClusterSourceError
from tests.conftest import Served
from tests.objects import pod
from tests.top.test_top_app import settled, shown


def asked(data: LiveData, path: str) -> Answer:
    async def ask() -> Answer:
        try:
            return await data.get(path)
        finally:
            await data.close()

    return asyncio.run(ask())


def own(served: Served) -> OwnData:
    return OwnData(served.service, lambda: [], "the test", 30.0)


def over_http(served: Served) -> ServerData:
    return ServerData(str(served.client.base_url))


@pytest.mark.parametrize("make", [own, over_http])
def test_node_of_a_real_service_opens_with_its_gpus_and_pods(served: Served, make: Callable[[Served], LiveData]) -> None:
    served.cluster.bind(pod(2, name="trainer"), "hgx-h100-0", served.service.store)

    async def run() -> str:
        app = TopApp(make(served), every_seconds=3600)
        async with app.run_test(size=(160, 40)) as pilot:
            await settled(pilot)
            app.table.move_cursor(row=shown(app).index("hgx-h100-0"))
            await pilot.press("enter")
            await settled(pilot)
            console = Console(width=150)
            with console.capture() as captured:
                console.print(app.screen.query_one("#answer", Static).content)
            return captured.get()

    text = asyncio.run(run())
    assert text.count("team/trainer") == 2
    assert text.count("free") == 6


def test_pods_of_a_real_service_are_listed_over_pages(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extender.cli.top.top_app.PAGE_PODS", 3)
    for number in range(7):
        served.cluster.bind(pod(1, name=f"pod-{number}"), "hgx-h100-0", served.service.store)
    data = own(served)

    async def ask() -> list[Row] | Unanswered:
        rows = await all_pods(data)
        await data.close()
        return rows

    rows = asyncio.run(ask())
    assert not isinstance(rows, Unanswered)
    assert [row["name"] for row in rows] == [f"pod-{number}" for number in range(7)]


def test_cluster_that_cannot_be_read_is_an_answer(served: Served) -> None:
    def read() -> list[Change]:
        raise ClusterSourceError("the API server refuses")

    answer = asked(OwnData(served.service, read, "the test", 30.0), "/v1/cluster")
    assert answer == Unanswered("the API server refuses")


def test_cluster_is_not_listed_for_each_answer(served: Served) -> None:
    listed = 0

    def read() -> list[Change]:
        nonlocal listed
        listed += 1
        return []

    async def ask() -> None:
        data = OwnData(served.service, read, "the test", 30.0)
        await asyncio.gather(*(data.get("/v1/cluster") for _ in range(5)))
        await data.close()

    asyncio.run(ask())
    assert listed == 1


def test_server_that_does_not_answer_is_named() -> None:
    answer = asked(ServerData("http://127.0.0.1:9"), "/v1/cluster")
    assert isinstance(answer, Unanswered)
    assert "the extender at http://127.0.0.1:9 does not answer" in answer.why


def test_error_of_a_server_is_its_text(served: Served) -> None:
    answer = asked(over_http(served), "/v1/nodes/absent/machine")
    assert isinstance(answer, Unanswered)
    assert "no node 'absent' is known" in answer.why
