"""Messages between the extender and its collector process: msgpack frames over pipes, each preceded by its length."""

from __future__ import annotations

import struct
from typing import IO, TypeVar

import msgspec

from extender.decision.node.scrape_targets import Target
from extender.telemetry.readings import DeviceReading, EngineReading

T = TypeVar("T")
_LENGTH = struct.Struct(">I")
HEAD_BYTES = _LENGTH.size

PROMETHEUS = "prometheus"
"""The kind of a scrape result that comes from a Prometheus server, and the source of its readings."""


class Assignment(msgspec.Struct, frozen=True):
    """What to scrape, and how; replaces the previous assignment."""

    interval_seconds: float
    timeout_seconds: float
    concurrency: int
    max_body_bytes: int
    max_age_seconds: float
    targets: tuple[Target, ...] = ()
    prometheus_url: str = ""
    """Empty: the targets are scraped directly."""
    bearer_token_file: str = ""
    selector: str = ""


class ScrapeResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of one scrape of a target, or of one round of queries to Prometheus."""

    target: str
    """Name for people: a pod, or the Prometheus server's URL."""
    kind: str
    key: str
    """The pod's key; empty for a Prometheus server."""
    node: str
    """Empty for a Prometheus server: its readings are assigned to nodes by GPU UUID."""
    monotonic_seconds: float
    took_seconds: float
    devices: tuple[DeviceReading, ...] = ()
    engines: tuple[EngineReading, ...] = ()
    problems: tuple[str, ...] = ()
    failed: str = ""
    """Why there are no readings; empty on success."""


_encode = msgspec.msgpack.Encoder().encode


def frame(message: object) -> bytes:
    """Return a message as a frame."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


def length(head: bytes) -> int:
    """Return the length in bytes of a frame's body, from its head."""
    body_bytes: int = _LENGTH.unpack(head)[0]
    return body_bytes


def read_frame(stream: IO[bytes], decoder: msgspec.msgpack.Decoder[T]) -> T | None:
    """Return the next message; None at the end of the stream, also if it ends within a frame."""
    head = stream.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES:
        return None
    size = length(head)
    body = stream.read(size)
    return decoder.decode(body) if len(body) == size else None
