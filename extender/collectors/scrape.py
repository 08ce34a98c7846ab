"""One scrape of a target, bounded in time and size. Every failure becomes a text; no exception of the HTTP client leaves this module."""

from __future__ import annotations

import asyncio
import time

import httpx
import msgspec

from extender.collectors.ipc import ScrapeResult
from extender.decision.node.scrape_targets import DCGM, Target
from extender.telemetry import dcgm, engines
from extender.telemetry.exposition import Exposition, parse, seen
from extender.telemetry.readings import DeviceReading, EngineReading

_CHECK_DCGM = "check telemetry.dcgm.selectors, port and path"
ACCEPT = "text/plain;version=0.0.4"


class ScrapeError(Exception):
    """Why a target gave no exposition; the same text for the same cause."""


async def fetch(client: httpx.AsyncClient, url: str, timeout_seconds: float, max_body_bytes: int) -> str:
    """Return the decompressed body as text. Raises ScrapeError."""
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
        raise ScrapeError("the body cannot be decompressed: check for a proxy between extender and target") from None
    except httpx.RemoteProtocolError:
        raise ScrapeError("the answer broke off: check the exporter's log") from None
    except httpx.ConnectError:
        raise ScrapeError("cannot be reached: check the port, and that a NetworkPolicy allows it") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise ScrapeError(f"no answer: {type(error).__name__}") from None


async def scrape_target(client: httpx.AsyncClient, target: Target, timeout_seconds: float, max_body_bytes: int) -> ScrapeResult:
    """Scrape a target once. A failure is part of the result."""
    started = time.monotonic()
    try:
        text = await fetch(client, target.url, timeout_seconds, max_body_bytes)
    except ScrapeError as error:
        return _result(target, started, failed=str(error))
    if target.kind == DCGM:
        exposition = parse(text, dcgm.wanted, whole=True)
        devices = aged(dcgm.devices(exposition.samples), time.time())
        failed = "" if devices else f"no GPU in it: {seen(exposition)}; {_CHECK_DCGM}"
        return _result(target, started, exposition, devices=devices, failed=failed)
    exposition = parse(text, engines.wanted, whole=True)
    readings = engines.engines(exposition.samples)
    supported = ", ".join(engines.SUPPORTED_ENGINES.values())
    failed = "" if readings else f"no serving engine in it: {seen(exposition)}; supported: {supported}"
    return _result(target, started, exposition, engines=readings, failed=failed)


def _result(
    target: Target,
    started: float,
    exposition: Exposition | None = None,
    *,
    devices: tuple[DeviceReading, ...] = (),
    engines: tuple[EngineReading, ...] = (),
    failed: str = "",
) -> ScrapeResult:
    """Return the result of a scrape. Its time is the start of the scrape: the values are at least as recent."""
    return ScrapeResult(
        target=target.pod,
        kind=target.kind,
        key=target.key,
        node=target.node,
        monotonic_seconds=started,
        took_seconds=time.monotonic() - started,
        devices=devices,
        engines=engines,
        problems=exposition.problems if exposition else (),
        failed=failed,
    )


def aged(devices: tuple[DeviceReading, ...], now_seconds: float) -> tuple[DeviceReading, ...]:
    """Return the readings with their age, if the exporter states times; a time in the future counts as age 0."""
    if all(reading.seen_seconds is None for reading in devices):
        return devices
    return tuple(
        msgspec.structs.replace(reading, age_seconds=max(0.0, now_seconds - reading.seen_seconds)) if reading.seen_seconds else reading
        for reading in devices
    )
