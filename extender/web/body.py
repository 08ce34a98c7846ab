"""Request bodies, bounded."""

from __future__ import annotations

from fastapi import Request

from extender.errors import RequestError

_DRAIN_BYTES = 256 << 20
"""So much of an oversized body is read and thrown away, so that the caller hears the answer, not a reset."""


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The whole body. Raises RequestError when it is larger than the limit."""
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
        raise RequestError(f"request body is larger than the limit of {limit_bytes} bytes")
    return b"".join(parts)
