"""The last events, which every client reads at its own pace: nothing is kept per client except its place."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

MOST_EVENTS = 2_048
MOST_BYTES = 16 << 20
"""Of all events that are kept. A client that has not read an event that is dropped reads the whole state again."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the stream."""

    sequence: int
    """Grows by one with each event of this process, from 1."""
    frame: bytes
    """As it is sent."""


class EventRing:
    """The newest events within bounds, and the waiting clients. Safe for several threads; waiting is per event loop."""

    def __init__(self, most_events: int = MOST_EVENTS, most_bytes: int = MOST_BYTES) -> None:
        self._most_events, self._most_bytes = most_events, most_bytes
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._sequence = 0
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._is_closed = False

    @property
    def sequence(self) -> int:
        """The sequence number of the newest event; 0 before the first."""
        return self._sequence

    @property
    def is_closed(self) -> bool:
        """Whether the process ends, and all streams with it."""
        return self._is_closed

    def add(self, sequence: int, frame: bytes) -> None:
        """Add the next event, whose number is `sequence`, and drop the oldest ones that exceed the bounds."""
        with self._lock:
            self._sequence = sequence
            self._events.append(Event(sequence, frame))
            self._bytes += len(frame)
            while self._events and (len(self._events) > self._most_events or self._bytes > self._most_bytes):
                self._bytes -= len(self._events.popleft().frame)

    def wake(self) -> None:
        """Wake all clients that wait for events."""
        with self._lock:
            waiting = tuple(self._waiting)
        for loop, event in waiting:
            with suppress(RuntimeError):  # its event loop has been closed
                loop.call_soon_threadsafe(event.set)

    def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        self.wake()

    def after(self, sequence: int) -> tuple[Event, ...] | None:
        """Return the events after `sequence`, oldest first; None where some of them have been dropped or the number is of the future."""
        with self._lock:
            if sequence > self._sequence or sequence < self._sequence - len(self._events):
                return None
            missed = self._sequence - sequence
            return tuple(self._events)[len(self._events) - missed :] if missed else ()

    async def wait(self, sequence: int, seconds: float) -> None:
        """Return once there are events after `sequence`, the ring is closed, or the time is over."""
        event = asyncio.Event()
        waiter = (asyncio.get_running_loop(), event)
        with self._lock:
            self._waiting.add(waiter)
        try:
            if self._sequence == sequence and not self._is_closed:
                with suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), seconds)
        finally:
            with self._lock:
                self._waiting.discard(waiter)
