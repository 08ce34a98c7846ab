"""GET /v1/stream: server-sent events. A client that reads slowly is told to read the whole state again; nothing is buffered for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from extender.web.live.cluster_feed import ClusterFeed, end_frame

AGE_SECONDS = 5.0
"""Time between two events `age`."""

MOST_SECONDS = 300.0
"""Longest life of one stream: after that the client connects again, and its token is checked again."""

SEND_SECONDS = 30.0
"""A client that takes nothing for this time is disconnected."""

RETRY_SECONDS = 10

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The second tells nginx not to buffer."""


async def frames(feed: ClusterFeed, last_event_id: str | None, most_seconds: float = MOST_SECONDS) -> AsyncIterator[bytes]:
    """Yield what a client gets: the events after `last_event_id`, or `resync` where they are not known, and a sign of life."""
    place, ends = feed.place_of(last_event_id), time.monotonic() + most_seconds
    if place is None or feed.ring.after(place) is None:
        why = "no position given" if last_event_id is None else "the position is not known here any more"
        place, first = feed.resync_frame(why)
        yield first
    next_age = 0.0
    while not feed.ring.is_closed and (now := time.monotonic()) < ends:
        events = feed.ring.after(place)
        if events is None:
            place, resync = feed.resync_frame("events came faster than they were read")
            yield resync
        elif events:
            place = events[-1].sequence
            for event in events:
                yield event.frame
        if now >= next_age:
            yield feed.age_frame()
            next_age = now + AGE_SECONDS
        await feed.ring.wait(place, min(next_age, ends) - time.monotonic())
    yield end_frame("the server stops" if feed.ring.is_closed else f"a stream lasts {most_seconds:g} seconds: connect again")


class EventStream(StreamingResponse):
    """One client's stream. Of more than `most_clients` each further one is answered 503."""

    def __init__(self, feed: ClusterFeed, last_event_id: str | None, most_clients: int) -> None:
        super().__init__(frames(feed, last_event_id), media_type="text/event-stream", headers=HEADERS)
        self._feed, self._most_clients = feed, most_clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until the client leaves or the stream ends."""
        if not self._feed.enter(self._most_clients):
            await too_many_clients(self._most_clients)(scope, receive, send)
            return

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            pass  # the client does not read: its connection is closed
        finally:
            self._feed.leave()


def too_many_clients(most: int) -> Response:
    """Return the answer to a client beyond the limit."""
    error = {"error": f"{most} clients read the stream already (server.max_streams): try again later, or close a browser tab"}
    return Response(msgspec.json.encode(error), 503, {"Retry-After": str(RETRY_SECONDS)}, media_type="application/json")
