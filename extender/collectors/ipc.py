"""What the extender and its collector say to each other: msgpack frames, each with its length before it, over pipes."""

from __future__ import annotations

import struct
from typing import IO, TypeVar

import msgspec

from extender.decision.node.scrape_targets import Target
from extender.telemetry.readings import DeviceReading, EngineReading

T = TypeVar("T")
_LENGTH = struct.Struct(">I")
HEAD_BYTES = _LENGTH.size


class Assignment(msgspec.Struct, frozen=True):
    """What to ask, and how; replaces the one before."""

    interval_seconds: float
    timeout_seconds: float
    concurrency: int
    max_body_bytes: int
    max_age_seconds: float
    targets: tuple[Target, ...] = ()
    prometheus_url: str = ""
    """Empty: targets are scraped directly."""
    bearer_token_file: str = ""
    selector: str = ""


class ScrapeResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one target said, or one round of queries; on failure just why."""

    target: str
    """Its name, for people: a pod, or the Prometheus server."""
    kind: str
    key: str
    """The pod's key; empty for a Prometheus server."""
    node: str
    """Empty for a Prometheus server: what it says is joined by UUID."""
    monotonic_seconds: float
    took_seconds: float
    devices: tuple[DeviceReading, ...] = ()
    engines: tuple[EngineReading, ...] = ()
    problems: tuple[str, ...] = ()
    failed: str = ""
    """Why there is nothing."""


_encode = msgspec.msgpack.Encoder().encode


def frame(message: object) -> bytes:
    """A message as a frame."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


def length(head: bytes) -> int:
    """Bytes of the body, out of a frame's head."""
    found: int = _LENGTH.unpack(head)[0]
    return found


def read_frame(stream: IO[bytes], decoder: msgspec.msgpack.Decoder[T]) -> T | None:
    """The next message; None at the end of the stream, also when it breaks off in a frame."""
    head = stream.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        return None
    size = length(head)
    body = stream.read(size)
    return decoder.decode(body) if len(body) == size else None
