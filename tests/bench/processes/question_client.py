"""`python -m tests.bench.processes.question_client URL` asks one long question after another, without a pause, until it is ended."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import cycle
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


async def ask(client: httpx.AsyncClient) -> None:
    """Ask the questions in turn; each answer is a line on standard output."""
    for method, path, content in cycle(QUESTIONS):
        started = time.perf_counter()
        response = await client.request(method, path, json=content)
        line = {"question": f"{method} {path}", "status": response.status_code, "seconds": round(time.perf_counter() - started, 3)}
        print(json.dumps({**line, "bytes": len(response.content)}), flush=True)


async def main(url: str) -> None:
    """Ask until the process is ended."""
    async with httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(SECONDS)) as client:
        await ask(client)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
