"""Answers that a child process sends in parts, and the place that each of them takes among the questions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from extender.decision.pace import Pace
from extender.web.child_processes.frames import AnswerFailedError
from extender.web.long_work import AnswerStream, LongWork, NotDone
from tests.scheduling.child_processes import children
from tests.waiting import wait


def slowly(_pace: Pace) -> Iterator[bytes]:
    for number in range(3):
        yield b"%d" % number
    raise ValueError("the fourth part is missing")


def endless(_pace: Pace) -> Iterator[bytes]:
    while True:
        yield b"x" * 4096


async def read(stream: AnswerStream | NotDone) -> tuple[list[bytes], str]:
    """The parts of the answer, and why it does not go on."""
    assert isinstance(stream, AnswerStream)
    parts: list[bytes] = []
    try:
        async for part in stream:
            parts += (part,)
    except AnswerFailedError as error:
        return parts, str(error)
    finally:
        stream.close()
    return parts, ""


def test_parts_of_a_streamed_answer_arrive_before_the_work_fails() -> None:
    async def ask() -> tuple[list[bytes], str]:
        return await read(await LongWork().stream(slowly, 5))

    assert asyncio.run(ask()) == ([b"0", b"1", b"2"], "ValueError: the fourth part is missing")


def test_stream_that_fails_before_its_first_part_is_not_begun() -> None:
    def work(_pace: Pace) -> Iterator[bytes]:
        raise ValueError("no such node")

    assert asyncio.run(LongWork().stream(work, 5)) == NotDone("ValueError: no such node", False)


async def next_stream(work: LongWork) -> list[bytes]:
    """The answer of a short stream, asked for until there is a place for it."""
    while isinstance(stream := await work.stream(lambda _pace: iter((b"next",)), 5), NotDone):
        assert stream.is_busy
        await asyncio.sleep(0.01)
    parts, _ = await read(stream)
    return parts


def test_caller_that_is_cancelled_leaves_its_place_when_its_work_has_ended(tmp_path: Path) -> None:
    begun, may_end = tmp_path / "begun", tmp_path / "may-end"

    def work(pace: Pace) -> bytes:
        begun.touch()
        while pace() and not may_end.exists():
            time.sleep(0.01)
        return b""

    async def ask() -> list[bytes]:
        long_work = LongWork(most_asked=1)
        asked = asyncio.create_task(long_work.run(work, 30))
        while not begun.exists():
            await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert isinstance(await long_work.run(lambda _pace: b"", 5), NotDone), "its work still runs"
        may_end.touch()
        return await next_stream(long_work)

    assert asyncio.run(ask()) == [b"next"]


def test_closed_stream_ends_its_work_and_gives_its_place_to_another() -> None:
    async def ask() -> tuple[NotDone | AnswerStream, list[bytes]]:
        work = LongWork(most_asked=1)
        stream = await work.stream(endless, 600)
        assert isinstance(stream, AnswerStream)
        while_open = await work.stream(endless, 600)
        stream.close()
        return while_open, await next_stream(work)

    before = children()
    while_open, after = asyncio.run(ask())
    assert isinstance(while_open, NotDone)
    assert while_open.is_busy
    assert after == [b"next"]
    wait("the processes to end", lambda: children() <= before)


def test_caller_that_is_cancelled_while_its_stream_begins_leaves_its_place() -> None:
    async def ask() -> list[bytes]:
        work = LongWork(most_asked=1)
        begun = asyncio.create_task(work.stream(endless, 600))
        await asyncio.sleep(0)
        begun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begun
        return await next_stream(work)

    before = children()
    assert asyncio.run(ask()) == [b"next"]
    wait("the processes to end", lambda: children() <= before)
