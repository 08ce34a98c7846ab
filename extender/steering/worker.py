"""A parent that has everything loaded and starts the steerer anew at once when it dies: a container's restart takes seconds to minutes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable

log = logging.getLogger("fabricwise.steering")

_STEADY_SECONDS = 2.0
"""A worker that lived so long is started anew at once; one that died sooner after a growing pause."""
_MOST_PAUSE_SECONDS = 5.0


def keep_running(work: Callable[[Callable[[], bool]], int]) -> int:
    """Run `work` in child processes, one after another, until this process is told to end; the last one's exit status.

    `work` is given a function that says whether the parent still lives, and returns an exit status; 2 says that a new try is of no use.
    """
    told: list[int] = []
    children: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        told.append(number)
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    failures = 0
    while True:
        started, child = time.monotonic(), _fork(work)
        children[:] = [child]
        status = _wait(child)
        children.clear()
        if told or status == 2:
            return status
        failures = 0 if time.monotonic() - started > _STEADY_SECONDS else failures + 1
        pause = 0.0 if failures <= 1 else min(_MOST_PAUSE_SECONDS, 0.1 * 2.0 ** min(failures, 10))
        log.error("the steerer ended with status %d and is started anew in %.1f s", status, pause)
        time.sleep(pause)


def _fork(work: Callable[[Callable[[], bool]], int]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        status = work(lambda: os.getppid() == parent)
    except BaseException:
        log.exception("the steerer ended")
    finally:
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int) -> int:
    """The child's exit status, 128 + n where signal n ended it."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
