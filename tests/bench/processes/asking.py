"""People beside kube-scheduler: `python -m tests.bench.processes.asking URL questions|browsers NUMBER` runs until it is ended.

`questions`: NUMBER people who ask one question after another without a pause. `browsers`: NUMBER pages that watch the cluster.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import httpx

from tests.objects import pod

WHY = {"pod": pod(8, name="asked", annotations={"fabricwise.dev/min-busbw": "10000"}), "events": []}
QUESTIONS: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
    ("GET", "/v1/slots", None),
    ("POST", "/v1/why", WHY),
    ("POST", "/v1/what-if", {"add": [{"gpus": 4, "count": 20}]}),
    ("GET", "/v1/defrag?size=8", None),
    ("GET", "/v1/snapshot", None),
)
SECONDS = 120.0
"""Time for one answer."""


async def ask(client: httpx.AsyncClient, first: int) -> None:
    """Ask the questions in turn, beginning with the one at position `first`; each answer is a line on standard output."""
    number = first
    while True:
        method, path, content = QUESTIONS[number % len(QUESTIONS)]
        started = time.perf_counter()
        response = await client.request(method, path, json=content)
        line = {"question": f"{method} {path}", "status": response.status_code, "seconds": round(time.perf_counter() - started, 3)}
        print(json.dumps({**line, "bytes": len(response.content)}), flush=True)
        number += 1


async def watch(client: httpx.AsyncClient) -> None:
    """Watch as a page does: the whole cluster, then its changes, and both again when the stream ends."""
    while True:
        cluster = (await client.get("/v1/cluster")).json()
        async with client.stream("GET", "/v1/stream", headers={"Last-Event-ID": cluster["stream"]}) as events:
            async for line in events.aiter_lines():
                if line.startswith("event: resync"):
                    break


async def people(url: str, kind: str, number: int) -> None:
    """Run `number` people of a kind."""
    async with httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(SECONDS)) as client:
        await asyncio.gather(*(ask(client, first) if kind == "questions" else watch(client) for first in range(number)))


if __name__ == "__main__":
    asyncio.run(people(sys.argv[1], sys.argv[2], int(sys.argv[3])))
