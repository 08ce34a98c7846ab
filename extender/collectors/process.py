"""The collector: a separate process, so that thousands of scrapes and their parsing do not delay the scheduler's requests.

It reads assignments from standard input, writes scrape results to standard output, and ends when its input ends. Each target has its own
phase within the interval, which spreads the work evenly; a slow target does not delay the others.
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
from extender.collectors.ipc import HEAD_BYTES, PROMETHEUS, Assignment, ScrapeResult, frame, length
from extender.collectors.scrape import scrape_target
from extender.decision.node.scrape_targets import Target
from extender.decision.state.isolation import described

_ASSIGNMENT = msgspec.msgpack.Decoder(Assignment)
_JITTER = 0.05
"""Share of the interval by which each scrape is randomly earlier or later."""

_STEADY_SECONDS = 60.0
"""After a run of this duration, a failing loop starts again with the shortest pause."""

_MOST_PAUSE_SECONDS = 30.0


class Collector:
    """The loops over the targets of the newest assignment."""

    first_pause_seconds = 0.5
    """Pause before a failed loop starts again; doubled with each failure."""

    def __init__(self, write: Any) -> None:
        """`write(bytes)` sends a frame to the extender."""
        self._write = write
        self._loops: dict[tuple[Target, Assignment] | str, asyncio.Task[None]] = {}
        self._client: httpx.AsyncClient | None = None
        self._slots = asyncio.Semaphore(1)
        self._options: Assignment | None = None
        """The current assignment without its targets."""

    async def assign(self, assignment: Assignment) -> None:
        """Follow a new assignment. The loops of targets in both the old and the new one continue, if all options are equal."""
        options = msgspec.structs.replace(assignment, targets=())
        if self._client is None or options != self._options:
            await self.close()
            limits = httpx.Limits(max_connections=options.concurrency, max_keepalive_connections=options.concurrency)
            self._client = httpx.AsyncClient(timeout=options.timeout_seconds, limits=limits, trust_env=False)
            self._slots, self._options = asyncio.Semaphore(options.concurrency), options
        if options.prometheus_url:
            self._keep({"prometheus": lambda: self._query_prometheus(options)})
        else:
            self._keep({(target, options): lambda target=target: self._follow(target, options) for target in assignment.targets})

    def _keep(self, wanted: dict[Any, Any]) -> None:
        """Start the loops of `wanted` (name -> coroutine function) that do not run, and cancel all others."""
        for name in set(self._loops) - set(wanted):
            self._loops.pop(name).cancel()
        for name, run_loop in wanted.items():
            if name not in self._loops:
                target = name[0] if isinstance(name, tuple) else None
                self._loops[name] = asyncio.create_task(self._supervise(target, run_loop))

    async def close(self) -> None:
        """End all loops."""
        for loop in self._loops.values():
            loop.cancel()
        self._loops = {}
        if self._client is not None:
            await self._client.aclose()

    async def _supervise(self, target: Target | None, run_loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the loop of a target (None: of the Prometheus server); after an exception, send a failed result and start it again."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await run_loop()
            except BrokenPipeError:  # the extender has ended: no reader is left
                return
            except Exception as error:  # a failure concerns this target alone, and does not end its scrapes
                why = described(error)
                sys.stderr.write(f"collector: {target.pod if target else 'prometheus'}: {why}\n")
                self._send(_failed_scrape(target, f"internal: {why}"))
            failures = 0 if time.monotonic() - started > _STEADY_SECONDS else failures + 1
            await asyncio.sleep(min(_MOST_PAUSE_SECONDS, self.first_pause_seconds * 2.0 ** min(failures, 10)))

    async def _follow(self, target: Target, options: Assignment) -> None:
        assert self._client is not None
        await asyncio.sleep(_phase(target.url) * options.interval_seconds)
        while True:
            started = time.monotonic()
            async with self._slots:
                result = await scrape_target(self._client, target, options.timeout_seconds, options.max_body_bytes)
            self._send(result)
            await _pause(started, options.interval_seconds)

    async def _query_prometheus(self, options: Assignment) -> None:
        assert self._client is not None
        while True:
            started = time.monotonic()
            self._send(await prometheus.ask(self._client, options))
            await _pause(started, options.interval_seconds)

    def _send(self, result: ScrapeResult) -> None:
        self._write(frame(result))


def _failed_scrape(target: Target | None, why: str) -> ScrapeResult:
    now = time.monotonic()
    if target is None:
        return ScrapeResult("prometheus", PROMETHEUS, "", "", now, 0.0, failed=why)
    return ScrapeResult(target.pod, target.kind, target.key, target.node, now, 0.0, failed=why)


def _phase(url: str) -> float:
    """Return the target's phase within the interval, in [0, 1): a hash of its URL, so that it is the same after a restart."""
    return int.from_bytes(hashlib.blake2b(url.encode(), digest_size=4).digest(), "big") / (1 << 32)


async def _pause(started: float, interval_seconds: float) -> None:
    pause_seconds = interval_seconds * random.uniform(1 - _JITTER, 1 + _JITTER) - (time.monotonic() - started)
    await asyncio.sleep(max(0.05 * interval_seconds, pause_seconds))


async def run() -> None:
    """Follow the assignments on standard input until it ends."""
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
