"""A parent that has everything loaded, keeps the kubelet's connections, and starts the steerer anew at once when it dies.

A parent that dies leaves a steerer that goes on. The next parent takes the connections over from it; see `take_over`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from extender.steering.kept import Keeper, Kept, receive_step

log = logging.getLogger("fabricwise.steering")

USELESS, HANDED_OVER = 2, 3
"""Exit statuses of the steerer: a new try is of no use; another steerer has its connections."""

_STEADY_SECONDS = 2.0
"""A worker that lived so long is started anew at once; one that died sooner after a growing pause."""
_MOST_PAUSE_SECONDS = 5.0
_MOST_FAILURES = 5
"""After so many early deaths the kubelet's connections are ended: else it would wait for answers without end."""
_DYING_SECONDS = 1.0
_HAND_OVER_SECONDS = 5.0
_SOCKET = "steerer.sock"

Work = Callable[[Keeper], int]
"""Serves until it is told to end; returns an exit status."""


def keep_running(work: Work, kept: Kept | None = None) -> int:
    """Run `work` in child processes, one after another, until this process is told to end; the last one's exit status.

    `kept`: connections that another steerer handed over.
    """
    kept = kept or Kept()
    told: list[int] = []
    children: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        told.append(number)
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    failures = status = 0
    while not told:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        started, child = time.monotonic(), _fork(work, kept, ours, theirs)
        theirs.close()
        children[:] = [child]
        if told:  # before there was a child to pass it on to
            os.kill(child, signal.SIGTERM)
        _follow(ours, kept, child)
        status = _wait(child)
        children.clear()
        if told or status in (USELESS, HANDED_OVER):
            return status
        failures = 0 if time.monotonic() - started > _STEADY_SECONDS else failures + 1
        pause = 0.0 if failures <= 1 else min(_MOST_PAUSE_SECONDS, 0.1 * 2.0 ** min(failures, 10))
        log.error("the steerer ended with status %d and is started anew in %.1f s", status, pause)
        if failures >= _MOST_FAILURES:
            kept.drop()
        until = time.monotonic() + pause
        while not told and time.monotonic() < until:
            time.sleep(0.05)
    return status


def _fork(work: Work, kept: Kept, ours: socket.socket, theirs: socket.socket) -> int:
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        ours.close()
        status = work(Keeper(kept, theirs))
    except BaseException:
        log.exception("the steerer ended")
    finally:
        sys.stderr.flush()
        os._exit(status)


def _follow(channel: socket.socket, kept: Kept, child: int) -> None:
    """Keep what the child tells, until it ends or tells no more."""
    with contextlib.closing(channel):
        try:
            while (told := receive_step(channel)) is not None:
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
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def offer_hand_over(keeper: Keeper, shared: Path) -> None:
    """Hand all connections to the first steerer that asks, and end. Asked in a thread; raises OSError where the socket cannot be made."""
    path = shared / _SOCKET
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path.unlink(missing_ok=True)
    server.bind(str(path))
    path.chmod(0o600)
    server.listen(1)

    def hand_over() -> None:
        while True:
            channel, _ = server.accept()
            keeper.lock.acquire()  # never released: nothing may follow
            try:
                keeper.hand_over(channel)
            except OSError as error:
                log.error("the connections were not handed over as a whole: %s", error)
            log.warning("another steerer has taken over")
            sys.stderr.flush()
            os._exit(HANDED_OVER)

    threading.Thread(target=hand_over, name="hand-over", daemon=True).start()


def take_over(shared: Path) -> Kept:
    """The connections of a steerer that still runs, which ends by that. Empty where there is none."""
    kept = Kept()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(_HAND_OVER_SECONDS)
        try:
            channel.connect(str(shared / _SOCKET))
            while (told := receive_step(channel)) is not None:
                kept.take(*told)
        except (FileNotFoundError, ConnectionError):
            pass
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the steerer that runs does not hand over: %s", error)
    return kept
