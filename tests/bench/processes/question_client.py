"""`python -m tests.bench.processes.question_client URL long|bad` asks one question after another, without a pause, until it is ended.

`long`: questions that take long to answer. `bad`: what cannot be answered: unknown names, a million pods, bodies that are too large, too
deep or of another shape.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from itertools import cycle

import httpx

from tests.objects import pod

WHY = {"pod": pod(8, name="asked", annotations={"fabricwise.dev/min-busbw": "10000"}), "events": []}
Question = tuple[str, str, bytes | None]
"""Method, path, and body."""

LONG: tuple[Question, ...] = (
    ("GET", "/v1/slots", None),
    ("POST", "/v1/why", json.dumps(WHY).encode()),
    ("POST", "/v1/what-if", b'{"add": [{"gpus": 4, "count": 20}]}'),
    ("GET", "/v1/defrag?size=8", None),
    ("GET", "/v1/snapshot", None),
)
_MILLION = b'{"add": [' + b",".join([b'{"gpus": 4}'] * 600_000) + b"]}"
"""7 MB: the largest body that is read has 8."""
BAD: tuple[Question, ...] = (
    ("GET", "/v1/why?pod=chat/no-such-pod-17", None),
    ("GET", "/v1/nodes/no-such-node-17", None),
    ("GET", "/v1/decisions/no-such-decision", None),
    ("GET", "/v1/defrag?size=1000000", None),
    ("POST", "/v1/what-if", b'{"add": [{"gpus": 4, "count": 1000000}]}'),
    ("POST", "/v1/what-if", _MILLION),
    ("POST", "/v1/what-if", b'{"cordon": ["no-such-node-17"]}'),
    ("POST", "/v1/what-if", b'{"set": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001),
    ("POST", "/v1/why", b"[" * (3 << 20)),
    ("POST", "/v1/why", b'{"pod": {"spec": {"containers": [' + b'{"name": "x"},' * 200_000 + b"7]}}}"),
    ("POST", "/v1/explain", b"x" * (20 << 20)),
)
QUESTIONS = {"long": LONG, "bad": BAD}
SECONDS = 120.0
"""Time for one answer."""
MUCH_BYTES = 100_000
"""The size of a longer body is part of its question's name."""


async def ask(client: httpx.AsyncClient, questions: Sequence[Question]) -> None:
    """Ask the questions in turn; each answer is a line on standard output."""
    for method, path, content in cycle(questions):
        started = time.perf_counter()
        response = await client.request(method, path, content=content)
        size = f", {len(content) / 1e6:.1f} MB" if content and len(content) > MUCH_BYTES else ""
        line = {"question": f"{method} {path}{size}", "status": response.status_code, "seconds": round(time.perf_counter() - started, 3)}
        print(json.dumps({**line, "bytes": len(response.content)}), flush=True)


async def main(url: str, kind: str) -> None:
    """Ask until the process is ended."""
    async with httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(SECONDS)) as client:
        await ask(client, QUESTIONS[kind])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
