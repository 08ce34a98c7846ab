"""Asking one target for its exposition, within bounds. Every way to fail becomes words; no exception of the client leaves."""

from __future__ import annotations

import asyncio
import time

import httpx
import msgspec

from extender.collectors.ipc import ScrapeResult
from extender.decision.node.scrape_targets import DCGM, Target
from extender.telemetry import dcgm, engines
from extender.telemetry.exposition import Exposition, parse, seen
from extender.telemetry.readings import DeviceReading

_CHECK_DCGM = "check telemetry.dcgm.selectors, port and path"
ACCEPT = "text/plain;version=0.0.4"


class ScrapeError(Exception):
    """Why a target gave nothing; the same words for the same cause, whenever it happens."""


async def fetch(client: httpx.AsyncClient, url: str, timeout_seconds: float, max_body_bytes: int) -> str:
    """The body as text, decompressed. Raises ScrapeError."""
    try:
        async with asyncio.timeout(timeout_seconds):
            async with client.stream("GET", url, headers={"Accept": ACCEPT}, follow_redirects=False) as response:
                if response.status_code != 200:
                    raise ScrapeError(f"answered {response.status_code}: check telemetry.dcgm.path or telemetry.engines.path")
                parts, size = [], 0
                async for part in response.aiter_bytes():
                    size += len(part)
                    if size > max_body_bytes:
                        raise ScrapeError(
                            f"the exposition is longer than {max_body_bytes} bytes: export fewer metrics, or raise telemetry.max_body_bytes"
                        )
                    parts.append(part)
                return b"".join(parts).decode(errors="replace")
    except TimeoutError:
        raise ScrapeError(
            f"no whole answer within {timeout_seconds:g} s: check the exporter's load, or raise telemetry.timeout_seconds"
        ) from None
    except httpx.DecodingError:
        raise ScrapeError("the body cannot be decompressed: check what stands between, such as a proxy") from None
    except httpx.RemoteProtocolError:
        raise ScrapeError("the answer broke off: check the exporter's log") from None
    except httpx.ConnectError:
        raise ScrapeError("cannot be reached: check the port, and that a NetworkPolicy allows it") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise ScrapeError(f"no answer: {type(error).__name__}") from None


async def scrape_target(client: httpx.AsyncClient, target: Target, timeout_seconds: float, max_body_bytes: int) -> ScrapeResult:
    """One look at a target."""
    started = time.monotonic()
    try:
        text = await fetch(client, target.url, timeout_seconds, max_body_bytes)
    except ScrapeError as error:
        return _look(target, started, failed=str(error))
    if target.kind == DCGM:
        found = parse(text, dcgm.wanted, whole=True)
        devices = aged(dcgm.devices(found.samples), time.time())
        return _look(target, started, found, devices=devices, failed="" if devices else f"no GPU in it: {seen(found)}; {_CHECK_DCGM}")
    found = parse(text, engines.wanted, whole=True)
    readings = engines.engines(found.samples)
    failed = "" if readings else f"no serving engine in it: {seen(found)}; supported: {', '.join(engines.SUPPORTED_ENGINES.values())}"
    return _look(target, started, found, engines=readings, failed=failed)


def _look(target: Target, started: float, found: Exposition | None = None, **more: object) -> ScrapeResult:
    """When a look began is when its values are from, at the latest."""
    took = time.monotonic() - started
    problems = found.problems if found else ()
    return ScrapeResult(target.pod, target.kind, target.key, target.node, started, took, problems=problems, **more)  # type: ignore[arg-type]


def aged(devices: tuple[DeviceReading, ...], now_seconds: float) -> tuple[DeviceReading, ...]:
    """The readings with their age, where the exporter gives times; a time to come is no older than now."""
    if all(reading.seen_seconds is None for reading in devices):
        return devices
    return tuple(
        msgspec.structs.replace(reading, age_seconds=max(0.0, now_seconds - reading.seen_seconds)) if reading.seen_seconds else reading
        for reading in devices
    )
