"""Requests to an ASGI application without a server: the path arrives exactly as it is written."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from starlette.types import ASGIApp, Message


@dataclass
class Answered:
    """An answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def text(self) -> str:
        """The body, uncompressed."""
        is_compressed = self.headers.get("content-encoding") == "gzip"
        return (gzip.decompress(self.content) if is_compressed else self.content).decode()


RawHeaders = list[tuple[bytes, bytes]]


def _raw(headers: Mapping[str, str]) -> RawHeaders:
    return [(name.lower().replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]


async def _call(app: ASGIApp, method: str, path: str, headers: RawHeaders) -> Answered:
    answered = Answered()
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answered.status = message["status"]
            answered.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answered.content += message.get("body", b"")

    await app(scope, receive, send)
    return answered


def call(app: ASGIApp, path: str, method: str = "GET", raw_headers: Sequence[tuple[bytes, bytes]] = (), **headers: str) -> Answered:
    """Return the answer to one request; underscores in names of headers are hyphens."""
    return asyncio.run(_call(app, method, path, [*raw_headers, *_raw(headers)]))


def calls(app: ASGIApp, paths: Sequence[str], **headers: str) -> list[int]:
    """Return the statuses of GETs, one after another in one event loop."""

    async def call_all() -> list[int]:
        return [(await _call(app, "GET", path, _raw(headers))).status for path in paths]

    return asyncio.run(call_all())
