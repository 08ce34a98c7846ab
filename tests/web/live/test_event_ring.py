"""The ring of events: every client reads all events in order, or is told that it cannot."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from extender.web.live.event_ring import EventRing


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 12), st.integers(1, 120), st.integers(0, 70))
def test_reader_gets_every_event_after_its_place_or_none_at_all(sizes: list[int], most: int, most_bytes: int, place: int) -> None:
    ring = EventRing(most, most_bytes)
    for sequence, size in enumerate(sizes, 1):
        ring.add(sequence, b"x" * size)
    events = ring.after(place)
    if place > len(sizes):
        assert events is None
    elif events is not None:
        assert [event.sequence for event in events] == list(range(place + 1, len(sizes) + 1))
        assert len(events) <= most
        assert sum(len(event.frame) for event in events) <= most_bytes
    else:
        kept = ring.after(ring.sequence)
        assert kept == ()
        assert place < len(sizes), "a reader that has all events is never sent back"


def test_waiting_reader_is_woken_by_an_event_of_another_thread() -> None:
    ring = EventRing()

    async def wait() -> int:
        loop = asyncio.get_running_loop()

        def produce() -> None:
            ring.add(1, b"one")
            ring.wake()

        producer = loop.run_in_executor(None, produce)
        await ring.wait(0, 30)
        await producer
        return ring.sequence

    assert asyncio.run(asyncio.wait_for(wait(), 10)) == 1


def test_closed_ring_makes_no_reader_wait() -> None:
    ring = EventRing()
    ring.close()
    asyncio.run(asyncio.wait_for(ring.wait(0, 30), 5))
    assert ring.is_closed


def test_reader_of_an_event_loop_that_has_ended_harms_no_other_reader() -> None:
    ring = EventRing()

    async def leave() -> None:
        waiting = asyncio.ensure_future(ring.wait(0, 30))
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(leave())
    ring.add(1, b"one")
    ring.wake()
    assert ring.after(0) is not None
