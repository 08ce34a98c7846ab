"""The parent of the serving process: it starts the serving process anew at once when that dies, or stands by.

The parent has everything loaded and keeps the kubelet's connections, and so does a steerer that stands by, in another container.
One process serves, the one that holds the lock. A steerer that starts takes the connections over from the one that serves, which then
stands by. So neither a killed process nor a killed container ends a connection, and neither does a rollout.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from extender.steering.end_request import POLL_SECONDS, EndRequest
from extender.steering.kubelet_side.keeper import Keeper
from extender.steering.kubelet_side.kept_connections import Kept
from extender.steering.kubelet_side.kept_steps import receive_step
from extender.steering.processes.hand_over import take_over
from extender.steering.processes.serving_status import HANDED_OVER, NOT_ALONE, USELESS
from extender.steering.processes.stand_by import stand_by

log = logging.getLogger("fabricwise.steering")

_STEADY_SECONDS = 2.0
"""A process that served so long is started anew at once; one that died sooner after a growing pause."""
_MOST_PAUSE_SECONDS = 5.0
_MOST_FAILURES = 5
"""After so many early deaths the kubelet's connections are ended: else it would wait for answers without end."""
_DYING_SECONDS = 1.0
_LOCK_SECONDS = 1.0
_CHANNEL_SECONDS = 1.0
"""So long one step is waited for. A signal that arrives just before a wait begins does not end it, and Python's handler runs only after."""
_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_LOCK = "steerer.lock"
"""Name in the folder that the steerers of a node share. The serving process holds the lock."""

Work = Callable[[Keeper], int]
"""Serves until it is told to end; returns an exit status."""


class ParentProcess:
    """One of the steerers that share a folder. SIGTERM and SIGINT end it, from its making on."""

    def __init__(self, work: Work, shared: Path) -> None:
        self._work, self._shared = work, shared
        self._ending = EndRequest()
        self._child: int | None = None
        for number in _END_SIGNALS:
            signal.signal(number, self._end)

    def _end(self, _number: int, _frame: object) -> None:
        self._ending.make()
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)

    def run(self, stands_by: bool = False) -> int:
        """Serve, or stand by, until told to end; an exit status. `stands_by`: serve only once no other does."""
        kept = stand_by(self._shared, self._ending) if stands_by else take_over(self._shared)
        while not self._ending.is_made:
            status = self._keep_serving(kept)
            if self._ending.is_made or status != HANDED_OVER:
                return status
            log.info("this steerer stands by")
            kept = stand_by(self._shared, self._ending)
        return 0

    def _keep_serving(self, kept: Kept) -> int:
        """Serve in child processes, one after another. The status of the last one: told to end, useless, or handed over."""
        failures = 0
        while not self._ending.is_made:
            started, status = time.monotonic(), self._serve(kept)
            if self._ending.is_made or status in (USELESS, HANDED_OVER):
                kept.forget()
                return status
            if status == NOT_ALONE:
                kept.forget()
                kept = take_over(self._shared)
            failures = 0 if time.monotonic() - started > _STEADY_SECONDS else failures + 1
            pause = 0.0 if failures <= 1 else min(_MOST_PAUSE_SECONDS, 0.1 * 2.0 ** min(failures, 10))
            log.error("the steerer ended with status %d and is started anew in %.1f s", status, pause)
            if failures >= _MOST_FAILURES:
                kept.drop()
            self._ending.pause(pause)
        return 0

    def _serve(self, kept: Kept) -> int:
        """One child process, from its start to its end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # until each process has its own way to end: a child that ran the parent's handler would not end
        signal.pthread_sigmask(signal.SIG_BLOCK, _END_SIGNALS)
        child = os.fork()
        if not child:
            self._in_child(kept, ours, theirs)
        theirs.close()
        self._child = child
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _END_SIGNALS)
        if self._ending.is_made:  # before there was a child to pass it on to
            self._end(0, None)
        _follow(ours, kept, child)
        status = _wait(child)
        self._child = None
        return status

    def _in_child(self, kept: Kept, ours: socket.socket, theirs: socket.socket) -> None:
        """Serve, and end the process."""
        status = 70
        try:
            for number in _END_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _END_SIGNALS)
            os.setsid()  # what kills the parent's group leaves this process, which can hand over
            ours.close()
            if _lock(self._shared):
                status = self._work(Keeper(kept, theirs))
            else:
                log.warning("another steerer serves already")
                status = NOT_ALONE
        except OSError as error:
            text = "the steerer cannot serve: %s: the folders of --device-plugins and --shared must exist, be writable and have space"
            log.error(text, error)
        except BaseException:
            log.exception("the steerer ended")
        finally:
            sys.stderr.flush()
            os._exit(status)


def _lock(shared: Path) -> bool:
    """Whether this process is now the one that serves: until it ends."""
    shared.mkdir(parents=True, exist_ok=True)
    file, until = os.open(shared / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(POLL_SECONDS)
        else:
            return True


def _follow(channel: socket.socket, kept: Kept, child: int) -> None:
    """Keep what the child tells, until it ends or tells no more."""
    with contextlib.closing(channel):
        channel.settimeout(_CHANNEL_SECONDS)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    if (told := receive_step(channel)) is None:
                        break
                    kept.take(*told)
        except (OSError, msgspec.DecodeError) as error:
            log.error("what the steerer tells cannot be read: %s", error)
        until = time.monotonic() + _DYING_SECONDS
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > until:
                log.warning("the steerer lives and tells nothing: its connections are not kept")
                kept.forget()
                return
            time.sleep(0.001)


def _wait(child: int) -> int:
    """The child's exit status, 128 + n where signal n ended it."""
    while (found := os.waitpid(child, os.WNOHANG)) == (0, 0):
        time.sleep(POLL_SECONDS)  # short, because a signal that arrives just before a wait does not end it
    _, status = found
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
