"""Where `fabricwise top` gets its data: answers of the debug API, from a running extender or from an extender inside this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import msgspec

from extender.command_header import COMMAND_HEADERS
from extender.decision.state.changes import Change
from extender.errors import FabricwiseError
from extender.kube.service_proxy import ServiceName, ServiceReply, ServiceRequest, Unreached
from extender.server.service import Service

ANSWER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why there is no answer, for people."""

    why: str


def another_form(source: str, error: Exception) -> str:
    """Return what is said of an answer that lacks something, as that of another version does."""
    return f"{source} answers in another form than this version expects ({type(error).__name__}: {error}): is it of the same version?"


Answer = dict[str, Any] | Unanswered
Query = Mapping[str, str | int]


class LiveData(Protocol):
    """Asks the debug API."""

    @property
    def source(self) -> str:
        """What answers, for people."""
        ...

    async def get(self, path: str, query: Query | None = None) -> Answer:
        """Return the answer to GET `path`, such as /v1/cluster."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class ServerData:
    """An extender that is reached by HTTP."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.source = f"the extender at {url}"
        self._client = httpx.AsyncClient(base_url=url, timeout=ANSWER_SECONDS, headers=COMMAND_HEADERS | dict(headers or {}))

    async def get(self, path: str, query: Query | None = None) -> Answer:
        """See `LiveData.get`."""
        return await _get(self._client, self.source, path, query)

    async def close(self) -> None:
        """See `LiveData.close`."""
        await self._client.aclose()


class ProxyData:
    """The extender of a cluster, which is reached through its API server."""

    def __init__(self, service: ServiceName, ask: Callable[[ServiceRequest], ServiceReply | Unreached], token: str | None) -> None:
        """`ask` sends a request to the service; it may block."""
        self.source, self._ask, self._token = f"the extender {service}", ask, token

    async def get(self, path: str, query: Query | None = None) -> Answer:
        """See `LiveData.get`."""
        wanted = tuple((name, str(value)) for name, value in (query or {}).items())
        reply = await asyncio.to_thread(self._ask, ServiceRequest(path, wanted, None, self._token))
        if isinstance(reply, Unreached):
            return Unanswered(f"{self.source} does not answer: {reply.why}")
        return _decoded(reply.body, reply.status, self.source, path)

    async def close(self) -> None:
        """Nothing stays open."""


class OwnData:
    """An extender inside this process that opens no port. It reads its state anew when that is older than `every_seconds`."""

    def __init__(self, service: Service, read: Callable[[], Iterable[Change]], source: str, every_seconds: float) -> None:
        """`read` lists the cluster; it is called in a thread and may raise FabricwiseError."""
        self.source, self._store, self._read, self._every_seconds = source, service.store, read, every_seconds
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(service.debug_app), base_url="http://extender", timeout=ANSWER_SECONDS
        )
        self._lock = asyncio.Lock()
        self._read_at_seconds: float | None = None

    async def get(self, path: str, query: Query | None = None) -> Answer:
        """See `LiveData.get`."""
        try:
            async with self._lock:
                await self._refreshed()
        except FabricwiseError as error:
            return Unanswered(str(error))
        return await _get(self._client, self.source, path, query)

    async def close(self) -> None:
        """See `LiveData.close`."""
        await self._client.aclose()

    async def _refreshed(self) -> None:
        if self._read_at_seconds is not None and time.monotonic() - self._read_at_seconds < self._every_seconds:
            return
        await asyncio.to_thread(lambda: self._store.apply(self._read()))
        self._read_at_seconds = time.monotonic()


async def _get(client: httpx.AsyncClient, source: str, path: str, query: Query | None) -> Answer:
    try:
        response = await client.get(path, params=query)
    except httpx.HTTPError as error:
        return Unanswered(f"{source} does not answer: {error or type(error).__name__}")
    return _decoded(response.content, response.status_code, source, path)


def _decoded(content: bytes, status: int, source: str, path: str) -> Answer:
    """Return the answer in a response."""
    try:
        answer = msgspec.json.decode(content)
    except (ValueError, RecursionError):
        return Unanswered(f"{source} answers {path} with something other than JSON: is it a Fabricwise extender of this version?")
    if not isinstance(answer, dict):
        return Unanswered(f"{source} answers {path} with {type(answer).__name__}, not an object")
    if status >= 400:
        return Unanswered(f"{source}: {answer.get('error') or answer.get('detail') or f'status {status}'}")
    return answer
