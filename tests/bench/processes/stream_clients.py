"""Clients of GET /v1/stream: `python -m tests.bench.processes.stream_clients URL CLIENTS` prints each second what it has read."""

from __future__ import annotations

import asyncio
import json
import sys
from urllib.parse import urlsplit


async def _watch(host: str, port: int, counts: dict[str, int]) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /v1/stream HTTP/1.1\r\nHost: bench\r\n\r\n")
    while line := await reader.readline():
        counts["bytes"] += len(line)
        if line.startswith(b"event: "):
            counts["events"] += 1
            counts["resyncs"] += line == b"event: resync\n"
            counts["ends"] += line == b"event: end\n"


async def _report(counts: dict[str, int]) -> None:
    while True:
        print(json.dumps(counts), flush=True)
        await asyncio.sleep(1)


async def _main() -> None:
    address = urlsplit(sys.argv[1])
    assert address.hostname is not None
    assert address.port is not None
    counts = dict.fromkeys(("events", "resyncs", "ends", "bytes"), 0)
    clients = [_watch(address.hostname, address.port, counts) for _ in range(int(sys.argv[2]))]
    await asyncio.gather(_report(counts), *clients)


if __name__ == "__main__":
    asyncio.run(_main())
