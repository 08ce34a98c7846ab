"""Long work of the debug API: in a child process, bounded in time, in number and in the size of its answer.

A child process is a copy of this one, so it reads the state without any transfer; its work takes neither the interpreter's lock from the
verbs nor memory that stays. It has one thread: a lock that another thread of the parent holds at that moment is never released in it. So
work uses an evaluator and a ranker of its own, and a child that does not end is killed, which is answered like work that takes too long.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import select

from extender.decision.pace import Pace

Work = Callable[[Pace], bytes]
"""Returns an encoded answer. What it changes is lost with its process."""

MOST_RUNNING = 2
MOST_WAITING = 8
MOST_ANSWER_BYTES = 64 << 20

_GRACE_SECONDS = 1.0
"""How long work may still take after its pace has ended it: one step, and the encoding."""
_KILLED_SECONDS = 5
"""After so much longer the child ends itself, in case its parent has been killed."""
_CHILD_NICENESS = 10
_MOST_FILES = 1 << 16
_DONE, _RAISED = b"+", b"-"

logger = logging.getLogger("fabricwise.questions")


@dataclass(frozen=True, slots=True)
class NotDone:
    """Why there is no answer."""

    why: str
    is_busy: bool
    """Whether other work is the reason; it makes sense to try again."""


class LongWork:
    """Runs work beside the verbs. Safe to be called from several event loops."""

    def __init__(self, most_running: int = MOST_RUNNING, most_waiting: int = MOST_WAITING) -> None:
        self._threads = ThreadPoolExecutor(most_running, thread_name_prefix="long-work")
        self._places = threading.Semaphore(most_running + most_waiting)

    async def run(self, work: Work, seconds: float) -> bytes | NotDone:
        """Return the answer of `work`. Its pace ends after `seconds`; time in which it waits for other work does not count."""
        if not self._places.acquire(blocking=False):
            return NotDone("too many questions are being answered; try again in some seconds", True)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, in_child_process, work, seconds)
        finally:
            self._places.release()


def in_child_process(work: Work, seconds: float) -> bytes | NotDone:
    """Return the answer of `work`, which runs in a copy of this process; NotDone where it raises or takes too long. Blocks."""
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of locks, see above
        child = os.fork()
    if child == 0:
        _run_in_child(work, seconds, writable)
    os.close(writable)
    try:
        return _answer(readable, time.monotonic() + seconds + _GRACE_SECONDS)
    finally:
        os.close(readable)
        os.kill(child, signal.SIGKILL)  # it has ended, or must
        os.waitpid(child, 0)


def _answer(readable: int, until_seconds: float) -> bytes | NotDone:
    """Read what the child writes, to its end."""
    parts: list[bytes] = []
    size = 0
    while True:
        ready, _, _ = select([readable], [], [], max(0.0, until_seconds - time.monotonic()))
        if not ready:
            return NotDone("the answer takes too long; ask for less", False)
        part = os.read(readable, 1 << 20)
        size += len(part)
        if size > MOST_ANSWER_BYTES:
            return NotDone(f"the answer is longer than {MOST_ANSWER_BYTES >> 20} MiB; ask for less", False)
        if part:
            parts.append(part)
            continue
        answer = b"".join(parts)
        if answer[:1] == _DONE:
            return answer[1:]
        why = answer[1:].decode(errors="replace") or "the process that computes the answer has ended without one"
        logger.warning("a question is not answered: %s", why)
        return NotDone(why, False)


def _run_in_child(work: Work, seconds: float, writable: int) -> None:
    """Run the work, write its answer and end this process, whatever happens."""
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds + _KILLED_SECONDS)
        _close_all_but(writable)
        os.nice(_CHILD_NICENESS)
        _be_killed_first()
        until_seconds = time.monotonic() + seconds
        _write(writable, _DONE + work(lambda: time.monotonic() < until_seconds))
        status = 0
    except Exception as error:
        _write(writable, _RAISED + f"{type(error).__name__}: {error}".encode()[:2_000])
    finally:
        os._exit(status)


def _be_killed_first() -> None:
    """Where memory runs out, let the kernel end this process and not its parent. Linux alone has such a file."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _close_all_but(kept: int) -> None:
    """Close the parent's sockets, which would else remain open after the parent closes them. The standard streams stay."""
    os.closerange(3, kept)
    os.closerange(kept + 1, _MOST_FILES)


def _write(writable: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(writable, view) :]
