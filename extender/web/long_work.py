"""Long work of the debug API: beside the verbs, in child processes, bounded in time, in number and in the size of its answer."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from extender.decision.pace import Pace
from extender.web.child_processes.copies import Copies, Running, StreamedWork
from extender.web.child_processes.frames import AnswerFailedError

Work = Callable[[Pace], bytes]
"""Returns an encoded answer. What it changes is lost with its process."""

MOST_ASKED = 10
"""Pieces of work that run or wait."""
MOST_ANSWER_BYTES = 64 << 20

logger = logging.getLogger("fabricwise.questions")


@dataclass(frozen=True, slots=True)
class NotDone:
    """Why there is no answer."""

    why: str
    is_busy: bool
    """Whether other work is the reason; it makes sense to try again."""


_NO_PROCESS = "no process can be started for the answer: {}; check the container's limits of processes and memory"
_BUSY = NotDone("too many questions are being answered; try again in some seconds", True)


class LongWork:
    """Runs work beside the verbs. Safe to be called from several threads and event loops.

    Work waits until this process may be copied again, some seconds at most. That time does not count as time of the work.
    """

    def __init__(self, most_asked: int = MOST_ASKED, copies: Copies | None = None) -> None:
        self._copies = copies or Copies()
        self._threads = ThreadPoolExecutor(most_asked, thread_name_prefix="long-work")
        self._places = threading.Semaphore(most_asked)

    async def run(self, work: Work, seconds: float) -> bytes | NotDone:
        """Return the answer of `work`. Its pace ends after `seconds`."""
        if not self._places.acquire(blocking=False):
            return _BUSY
        found = self._threads.submit(self.answer, work, seconds)
        found.add_done_callback(lambda _: self._places.release())  # also of a caller that is cancelled: when its work has ended
        return await asyncio.wrap_future(found)

    def answer(self, work: Work, seconds: float) -> bytes | NotDone:
        """Return the answer of `work`. Blocks, and does not count as a question."""
        try:
            running = self._copies.begin(lambda pace: (work(pace),), seconds)
        except OSError as error:
            return _not_done(_NO_PROCESS.format(error))
        try:
            found = bytearray()
            for part in running.parts():
                found += part
                if len(found) > MOST_ANSWER_BYTES:
                    return _not_done(f"the answer is longer than {MOST_ANSWER_BYTES >> 20} MiB; ask for less")
            return bytes(found)
        except AnswerFailedError as error:
            return _not_done(str(error))
        finally:
            running.close()

    async def stream(self, work: StreamedWork, seconds: float) -> AnswerStream | NotDone:
        """Return the answer of `work` as it comes, once its first part is there. Its pace ends after `seconds`. It must be closed."""
        if not self._places.acquire(blocking=False):
            return _BUSY
        begun = self._threads.submit(self._begun, work, seconds)
        try:
            found = await asyncio.wrap_future(begun)
        except asyncio.CancelledError:
            begun.add_done_callback(self._abandon)
            raise
        if isinstance(found, NotDone):
            self._places.release()
        return found

    def end_all(self) -> None:
        """End all work, because this process ends."""
        self._copies.end_all()

    def _begun(self, work: StreamedWork, seconds: float) -> AnswerStream | NotDone:
        """Begin the work and wait for the first part of its answer."""
        try:
            running = self._copies.begin(work, seconds)
        except OSError as error:
            return _not_done(_NO_PROCESS.format(error))
        parts = running.parts()
        try:
            return AnswerStream(next(parts, b""), parts, running, self._threads, self._places)
        except AnswerFailedError as error:
            running.close()
            return _not_done(str(error))

    def _abandon(self, begun: Future[AnswerStream | NotDone]) -> None:
        """Close work whose caller was cancelled while it began."""
        found = None if begun.cancelled() or begun.exception() else begun.result()
        if isinstance(found, AnswerStream):
            found.close()
        else:
            self._places.release()


class AnswerStream:
    """An answer that arrives in parts. It must be closed, from the event loop or from a thread."""

    def __init__(
        self, first: bytes, parts: Iterator[bytes], running: Running, threads: ThreadPoolExecutor, places: threading.Semaphore
    ) -> None:
        self._first, self._parts, self._running, self._threads, self._places = first, parts, running, threads, places

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield each part. Raises AnswerFailedError where the work ends before its answer is complete."""
        part = self._first
        while part:
            yield part
            part = await asyncio.wrap_future(self._threads.submit(next, self._parts, b""))

    def close(self) -> None:
        """End the work, if it still writes, and give its place to another once it has ended."""
        closed = self._threads.submit(self._running.close)  # which waits for a read that is in progress
        closed.add_done_callback(lambda _: self._places.release())


def _not_done(why: str) -> NotDone:
    logger.warning("a question is not answered: %s", why)
    return NotDone(why, False)
