"""SIGINT, SIGTERM and SIGHUP end a command in namespaces, and all that it started.

The command is told first, and may close in order. After some time the first process of its pid namespace is killed: the kernel then kills
every process in it. `unshare` itself passes no signal on: it blocks SIGINT and SIGTERM while it waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _handled() -> list[signal.Signals]:
    """Those of `ENDING` that are not ignored, as by nohup, or by a shell for a command in the background."""
    return [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]


def interrupt_on_signals() -> None:
    """For the command: the first of the signals raises KeyboardInterrupt, later ones do not disturb what closes then."""
    numbers = _handled()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, lambda *_: None)  # not SIG_IGN, which programs started later would inherit
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


class EndingSignals:
    """What ends a command: a context, within which the signals are handled."""

    def __init__(self, order_seconds: float) -> None:
        """`order_seconds`: how long the command may take to close before it is killed."""
        self._order_seconds = order_seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._received: int | None = None
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, lambda *_: self._kill())
        for number in _handled():
            self._before[number] = signal.signal(number, self._tell)
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start `unshare`, whose child is the first process of a namespace, whose oldest child is the command.

        All three start with the signals blocked: a terminal sends them to each, and only the command may act on them. It unblocks them
        by `interrupt_on_signals`.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            self._child = subprocess.Popen(command, env=environment)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self._child

    def status(self, ended: int) -> int:
        """This program's exit status: 128 + n where signal n ended it, else that of the command, which by Ctrl-C ends as planned."""
        if self._received in (None, signal.SIGINT):
            return ended if ended >= 0 else 128 - ended
        return 128 + self._received

    def _tell(self, number: int, _frame: FrameType | None) -> None:
        if self._child is None:
            raise SystemExit(128 + number)
        if self._received is not None:
            return
        self._received = number
        signal.setitimer(signal.ITIMER_REAL, self._order_seconds)
        told = [command for first in children(self._child.pid) for command in children(first)[:1]]
        for command in told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(command, signal.SIGTERM)
        if not told:
            self._kill()

    def _kill(self) -> None:
        """Kill the first process of the namespace; `unshare` ends once the kernel has ended all others."""
        assert self._child is not None
        for first in children(self._child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(first, signal.SIGKILL)
                return
        self._child.kill()


def children(pid: int) -> list[int]:
    """Child processes, the oldest first; none of a process that has ended."""
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
