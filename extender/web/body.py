"""Request bodies, bounded in size and time."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.requests import ClientDisconnect

from extender.errors import RequestError

_MOST_SHORT_BYTES = 64 << 10
"""Decoding holds the interpreter, and no verb is answered meanwhile: 64 KiB of the smallest values take 2 ms."""
_DRAIN_BYTES = 256 << 20
"""How much of a too large body is read and discarded, so that the caller gets the answer instead of a connection reset."""


def is_long(body: bytes) -> bool:
    """Return whether a body is so long that it is decoded in a child process."""
    return len(body) > _MOST_SHORT_BYTES


async def read_body(request: Request, limit_bytes: int, seconds: float, remedy: str) -> bytes:
    """Return the whole body. Raises RequestError where it exceeds the limit (with `remedy`), or is not complete within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, limit_bytes, remedy)
    except TimeoutError as error:
        raise RequestError(f"request body did not arrive within {seconds:g} s: send it faster, or raise limits.body_seconds") from error
    except ClientDisconnect as error:
        raise RequestError("the connection ended within the request body: send as many bytes as Content-Length says") from error


async def _read(request: Request, limit_bytes: int, remedy: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= limit_bytes:
            parts.append(part)
        else:
            parts.clear()
            if size > _DRAIN_BYTES:
                break
    if size > limit_bytes:
        raise RequestError(f"request body is larger than the limit of {limit_bytes} bytes: {remedy}")
    return b"".join(parts)
