"""Copies of this process, each of which runs the work that waited when it was made.

A copy is made by fork, so it reads the state without any transfer. It forks once more for each piece of work: what one does to its process
affects no other, and the kernel ends a process whose time is over. All that is left to the parent is to read pipes, and to end a copy that
has stopped before the kernel was told to.

A copy has one thread: a lock that another thread of the parent held at that moment is never released in it. So work uses an evaluator and
a ranker of its own, and nothing here writes a log in a copy. Work that waits for such a lock is ended like work that takes too long.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from extender.decision.pace import Pace
from extender.web.child_processes.copy_process import BoundedPipe, CopyProcess
from extender.web.child_processes.fork_pace import ForkPace
from extender.web.child_processes.frames import AnswerFailedError, parts, write_end, write_failure, write_part

StreamedWork = Callable[[Pace], Iterable[bytes]]
"""Yields the parts of an encoded answer. What it changes is lost with its process."""

MOST_COPIES = 2
"""Copies that live at the same time."""
MOST_RUNNING = 2
"""Processes of one copy that work at the same time; the others of that copy wait."""

TAKES_TOO_LONG = "the answer takes too long; ask for less"
_GRACE_SECONDS = 1.0
"""How long work may still take after its pace has ended it: one step, and the encoding."""
_START_SECONDS = 5.0
"""How long a copy may take to start its work, on a busy machine."""
_NICENESS = 10
_MOST_FILES = 1 << 16

logger = logging.getLogger("fabricwise.questions")


@dataclass(eq=False, slots=True)
class _Asked:
    """A piece of work, and the pipe for its answer."""

    work: StreamedWork
    seconds: float
    readable: int
    writable: int
    copy: CopyProcess | None = None
    """What runs it; None: it waits for the next copy."""


class Running:
    """Work that a copy of this process does. It must be closed."""

    def __init__(self, readable: int, copy: CopyProcess, finished: Callable[[CopyProcess], None]) -> None:
        """`finished` is called once the pipe is closed."""
        self._copy, self._finished = copy, finished
        self._pipe = io.BufferedReader(BoundedPipe(readable, copy.until_seconds))

    def parts(self) -> Iterator[bytes]:
        """Yield the parts of the answer as they arrive. Blocks. Raises AnswerFailedError where the work ends before it is complete."""
        try:
            yield from parts(self._pipe)
        except TimeoutError:
            self._copy.end()
            raise AnswerFailedError(TAKES_TOO_LONG) from None

    def close(self) -> None:
        """Close the pipe, which ends work that still writes. May block until work that does not write has ended by itself."""
        self._pipe.close()
        self._finished(self._copy)


class Copies:
    """Makes copies of this process and gives them work. Thread-safe."""

    def __init__(self, pace: ForkPace | None = None, give_way: Callable[[], None] = lambda: None) -> None:
        """`give_way` is called before each copy; it may wait a moment while a verb is answered."""
        self._pace, self._give_way = pace or ForkPace(), give_way
        self._changed = threading.Condition()
        self._waiting: list[_Asked] = []
        self._living: list[CopyProcess] = []

    def begin(self, work: StreamedWork, seconds: float) -> Running:
        """Give the work to the next copy, together with all other work that waits for one. Blocks until that copy is made.

        The work's pace ends after `seconds`, counted from when it begins to run. Raises OSError where no process can be made.
        """
        asked = _Asked(work, seconds, *os.pipe())
        with self._changed:
            self._waiting.append(asked)
            try:
                while asked.copy is None:
                    wait_seconds = self._wait_seconds()
                    if wait_seconds == 0.0:
                        self._fork()
                    else:
                        self._changed.wait(wait_seconds)
            except OSError:
                self._waiting.remove(asked)
                os.close(asked.readable)
                os.close(asked.writable)
                raise
        return Running(asked.readable, asked.copy, self._finished)

    def end_all(self) -> None:
        """End all work, because this process ends. The answers fail."""
        with self._changed:
            for copy in self._living:
                copy.end()

    def _finished(self, copy: CopyProcess) -> None:
        """Count work whose pipe is closed. The last of a copy waits for the copy to end."""
        with self._changed:
            copy.unfinished -= 1
            if copy.unfinished:
                return
        copy.wait()
        with self._changed:
            self._living.remove(copy)
            self._changed.notify_all()

    def _wait_seconds(self) -> float | None:
        """Return how long to wait before the next copy; None: until one has ended."""
        return None if len(self._living) == MOST_COPIES else self._pace.wait_seconds(time.monotonic())

    def _fork(self) -> None:
        """Make a copy that runs all work that waits. Raises OSError."""
        self._give_way()
        started_seconds = time.thread_time()  # the thread's own time: other processes on the machine do not count
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of locks, see above
            pid = os.fork()
        if pid == 0:
            _run_copy(self._waiting)
        self._pace.forked(time.monotonic(), time.thread_time() - started_seconds)
        most_seconds = _START_SECONDS + sum(asked.seconds + _GRACE_SECONDS for asked in self._waiting)
        copy = CopyProcess(pid, len(self._waiting), time.monotonic() + most_seconds)
        for asked in self._waiting:
            os.close(asked.writable)
            asked.copy = copy
        self._waiting.clear()
        self._living.append(copy)
        self._changed.notify_all()


def _run_copy(waiting: list[_Asked]) -> NoReturn:
    """Run each piece of work in a process of its own, and end this one, whatever happens."""
    try:
        os.setpgid(0, 0)  # so that the parent can end it with all processes that it starts
        _close_all_but([asked.writable for asked in waiting])
        os.nice(_NICENESS)
        _be_killed_first()
        gc.freeze()  # a collection would write to, and so copy, all memory that the parent holds
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whatever started the server may ignore it
        running: dict[int, _Asked] = {}
        for asked in waiting:
            if len(running) == MOST_RUNNING:
                _await_one(running)
            pid = os.fork()
            if pid == 0:
                _run_work(asked)
            running[pid] = asked
        while running:
            _await_one(running)
    finally:
        os._exit(0)


def _await_one(running: dict[int, _Asked]) -> None:
    """Wait until one of the processes ends, and write why where it was ended before it has written an answer."""
    pid, status = os.wait()
    asked = running.pop(pid)
    with suppress(OSError):
        if os.WIFSIGNALED(status):
            by_time = os.WTERMSIG(status) == signal.SIGALRM
            write_failure(asked.writable, TAKES_TOO_LONG if by_time else f"the process was ended by signal {os.WTERMSIG(status)}")
        os.close(asked.writable)


def _run_work(asked: _Asked) -> NoReturn:
    """Run the work, write its answer and end this process, whatever happens."""
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, asked.seconds + _GRACE_SECONDS)
        until_seconds = time.monotonic() + asked.seconds
        for part in asked.work(lambda: time.monotonic() < until_seconds):
            write_part(asked.writable, part)
        write_end(asked.writable)
    except Exception as error:
        with suppress(OSError):
            write_failure(asked.writable, f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


def _be_killed_first() -> None:
    """Where memory runs out, let the kernel end this process and not its parent. Linux alone has such a file."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _close_all_but(kept: Iterable[int]) -> None:
    """Close the parent's sockets, which would else remain open after the parent closes them. The standard streams stay."""
    start = 3
    for descriptor in sorted(kept):
        os.closerange(start, descriptor)
        start = descriptor + 1
    os.closerange(start, _MOST_FILES)
