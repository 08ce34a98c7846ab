"""The collector: a process of its own, so that thousands of scrapes and their parsing never hold up a verb.

Told by frames on standard input what to ask, it answers with looks on standard output, and ends when its input does. Each target
has a phase of its own within the interval, so that work comes evenly; a slow one keeps nobody else waiting.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import msgspec

from extender.collectors import prometheus
from extender.collectors.ipc import HEAD_BYTES, Assignment, ScrapeResult, frame, length
from extender.collectors.scrape import scrape_target
from extender.decision.node.scrape_targets import Target
from extender.decision.state.isolation import described

_ASSIGNMENT = msgspec.msgpack.Decoder(Assignment)
_JITTER = 0.05
"""Of the interval, by which each look comes earlier or later."""


_STEADY_SECONDS = 60.0
"""A loop that has run for so long begins with the shortest pause again when it fails."""

_MOST_PAUSE_SECONDS = 30.0


class Collector:
    """The loops over the targets of the newest assignment."""

    first_pause_seconds = 0.5
    """Before a loop that failed is started again; doubled with each failure."""

    def __init__(self, write: Any) -> None:
        """`write(bytes)` takes a frame."""
        self._write = write
        self._loops: dict[tuple[Target, Assignment] | str, asyncio.Task[None]] = {}
        self._client: httpx.AsyncClient | None = None
        self._slots = asyncio.Semaphore(1)
        self._said: Assignment | None = None

    async def assign(self, said: Assignment) -> None:
        """Follow a new assignment; the loops of targets that stay go on undisturbed."""
        without_telemetry = msgspec.structs.replace(said, targets=())
        if self._client is None or without_telemetry != self._said:
            await self.close()
            limits = httpx.Limits(max_connections=said.concurrency, max_keepalive_connections=said.concurrency)
            self._client = httpx.AsyncClient(timeout=said.timeout_seconds, limits=limits, trust_env=False)
            self._slots, self._said = asyncio.Semaphore(said.concurrency), without_telemetry
        if said.prometheus_url:
            self._keep({"prometheus": lambda: self._ask_server(said)})
        else:
            self._keep(
                {(target, without_telemetry): lambda target=target: self._follow(target, without_telemetry) for target in said.targets}
            )

    def _keep(self, wanted: dict[Any, Any]) -> None:
        for name in set(self._loops) - set(wanted):
            self._loops.pop(name).cancel()
        for name, begin in wanted.items():
            if name not in self._loops:
                target = name[0] if isinstance(name, tuple) else None
                self._loops[name] = asyncio.create_task(self._supervise(target, begin))

    async def close(self) -> None:
        """End all loops."""
        for loop in self._loops.values():
            loop.cancel()
        self._loops = {}
        if self._client is not None:
            await self._client.aclose()

    async def _supervise(self, target: Target | None, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a target's loop, None for the Prometheus server's. One that raises is told of as a failed look and started again."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await begin()
            except BrokenPipeError:  # the extender has ended: no reader is left
                return
            except Exception as error:  # whatever it is, it stays with this target, and does not end its looks for good
                why = described(error)
                sys.stderr.write(f"collector: {target.pod if target else 'prometheus'}: {why}\n")
                self._say(_failed_scrape(target, f"internal: {why}"))
            failures = 0 if time.monotonic() - started > _STEADY_SECONDS else failures + 1
            await asyncio.sleep(min(_MOST_PAUSE_SECONDS, self.first_pause_seconds * 2.0 ** min(failures, 10)))

    async def _follow(self, target: Target, said: Assignment) -> None:
        assert self._client is not None
        await asyncio.sleep(_phase(target.url) * said.interval_seconds)
        while True:
            started = time.monotonic()
            async with self._slots:
                look = await scrape_target(self._client, target, said.timeout_seconds, said.max_body_bytes)
            self._say(look)
            await _rest(started, said.interval_seconds)

    async def _ask_server(self, said: Assignment) -> None:
        assert self._client is not None
        while True:
            started = time.monotonic()
            self._say(await prometheus.ask(self._client, said))
            await _rest(started, said.interval_seconds)

    def _say(self, look: ScrapeResult) -> None:
        self._write(frame(look))


def _failed_scrape(target: Target | None, why: str) -> ScrapeResult:
    now = time.monotonic()
    if target is None:
        return ScrapeResult("prometheus", prometheus.SOURCE, "", "", now, 0.0, failed=why)
    return ScrapeResult(target.pod, target.kind, target.key, target.node, now, 0.0, failed=why)


def _phase(url: str) -> float:
    """Where in the interval a target's turn is, 0..1: its own, and the same after a restart."""
    return int.from_bytes(hashlib.blake2b(url.encode(), digest_size=4).digest(), "big") / (1 << 32)


async def _rest(started: float, interval_seconds: float) -> None:
    pause = interval_seconds * random.uniform(1 - _JITTER, 1 + _JITTER) - (time.monotonic() - started)
    await asyncio.sleep(max(0.05 * interval_seconds, pause))


async def run() -> None:
    """Serve standard input until it ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)

    def write(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    collector = Collector(write)
    try:
        while True:
            head = await reader.readexactly(HEAD_BYTES)
            await collector.assign(_ASSIGNMENT.decode(await reader.readexactly(length(head))))
    except (asyncio.IncompleteReadError, BrokenPipeError):
        pass
    finally:
        await collector.close()


if __name__ == "__main__":
    asyncio.run(run())
