"""Processes that keep a steerer serving: a parent that starts it anew at once when it dies, and others that stand by.

The parent has everything loaded and keeps the kubelet's connections (`kept`), and so does a steerer that stands by, in another container.
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
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from extender.steering.kept import Begins, Keeper, Kept, receive_step

log = logging.getLogger("fabricwise.steering")

USELESS, HANDED_OVER, NOT_ALONE = 2, 3, 4
"""Exit statuses of the serving process: a new try is of no use; another one has its connections; another one serves."""

_STEADY_SECONDS = 2.0
"""A process that served so long is started anew at once; one that died sooner after a growing pause."""
_MOST_PAUSE_SECONDS = 5.0
_MOST_FAILURES = 5
"""After so many early deaths the kubelet's connections are ended: else it would wait for answers without end."""
_DYING_SECONDS = 1.0
_HAND_OVER_SECONDS = 5.0
_LOCK_SECONDS = 1.0

_RESTART_SECONDS = 0.3
"""So long the parent of a serving process that died has to start the next one, before a steerer that stands by does."""
_FIRST_START_SECONDS = 10.0
"""The same where there is no connection that could end."""
_POLL_SECONDS = 0.02

HAND_OVER_SOCKET, KEEP_SOCKET, _LOCK = "steerer.sock", "steerer-keep.sock", "steerer.lock"

Work = Callable[[Keeper], int]
"""Serves until it is told to end; returns an exit status."""


class Steerers:
    """One of the steerers that share a folder. SIGTERM and SIGINT end it, from its making on."""

    def __init__(self, work: Work, shared: Path) -> None:
        self._work, self._shared = work, shared
        self._told = False
        self._child: int | None = None
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)

    def _end(self, _number: int, _frame: object) -> None:
        self._told = True
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)

    def run(self, stands_by: bool = False) -> int:
        """Serve, or stand by, until told to end; an exit status. `stands_by`: serve only once no other does."""
        kept = self._stand_by() if stands_by else take_over(self._shared)
        while not self._told:
            status = self._keep_serving(kept)
            if self._told or status != HANDED_OVER:
                return status
            log.info("this steerer stands by")
            kept = self._stand_by()
        return 0

    def _keep_serving(self, kept: Kept) -> int:
        """Serve in child processes, one after another. The status of the last one: told to end, useless, or handed over."""
        failures = 0
        while not self._told:
            started, status = time.monotonic(), self._serve(kept)
            if self._told or status in (USELESS, HANDED_OVER):
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
            self._pause(pause)
        return 0

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._told and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)

    def _serve(self, kept: Kept) -> int:
        """One child process, from its start to its end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        child = os.fork()
        if not child:
            self._in_child(kept, ours, theirs)
        theirs.close()
        self._child = child
        if self._told:  # before there was a child to pass it on to
            self._end(0, None)
        _follow(ours, kept, child)
        status = _wait(child)
        self._child = None
        return status

    def _in_child(self, kept: Kept, ours: socket.socket, theirs: socket.socket) -> None:
        """Serve, and end the process."""
        status = 70
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.setsid()  # what kills the parent's group leaves this process, which can hand over
            ours.close()
            if _lock(self._shared):
                status = self._work(Keeper(kept, theirs))
            else:
                log.warning("another steerer serves already")
                status = NOT_ALONE
        except BaseException:
            log.exception("the steerer ended")
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _stand_by(self) -> Kept:
        """Keep what the serving process tells, until none serves: then the connections are returned."""
        kept, alone_since = Kept(), time.monotonic()
        while not self._told:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
                channel.settimeout(_LOCK_SECONDS)
                try:
                    channel.connect(str(self._shared / KEEP_SOCKET))
                except OSError:
                    patience = _RESTART_SECONDS if kept.endpoints else _FIRST_START_SECONDS
                    if time.monotonic() - alone_since > patience:
                        log.warning("no other steerer serves: this one does")
                        return kept
                    time.sleep(_POLL_SECONDS)
                    continue
                self._keep(channel, kept)
            alone_since = time.monotonic()
        return kept

    def _keep(self, channel: socket.socket, kept: Kept) -> None:
        while not self._told:
            try:
                step = receive_step(channel)
            except TimeoutError:
                continue
            except ConnectionError:  # it died before it accepted
                return
            except (OSError, msgspec.DecodeError) as error:
                log.error("what the serving steerer tells cannot be read: %s", error)
                kept.forget()
                self._pause(_LOCK_SECONDS)
                return
            if step is None:
                return
            if isinstance(step[0], Begins):  # one that ends may still be connected to, and tells nothing
                log.info("another steerer serves, this one keeps its connections")
            kept.take(*step)


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
            time.sleep(_POLL_SECONDS)
        else:
            return True


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


def offer_connections(keeper: Keeper, shared: Path) -> None:
    """Let steerers that stand by keep all connections, and hand them to the first that asks to serve, and end.

    Asked in threads. Raises OSError where the sockets cannot be made.
    """

    def hand_over(channel: socket.socket) -> None:
        keeper.lock.acquire()  # never released: nothing may follow
        try:
            keeper.hand_over(channel)
        except OSError as error:
            log.error("the connections were not handed over as a whole: %s", error)
        log.warning("another steerer has taken over")
        sys.stderr.flush()
        os._exit(HANDED_OVER)

    _listen(shared / KEEP_SOCKET, keeper.tell_from_now_on)
    _listen(shared / HAND_OVER_SOCKET, hand_over)


def _listen(path: Path, answer: Callable[[socket.socket], None]) -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path.unlink(missing_ok=True)
    server.bind(str(path))
    path.chmod(0o600)
    server.listen(4)

    def accept() -> None:
        while True:
            answer(server.accept()[0])

    threading.Thread(target=accept, name=path.stem, daemon=True).start()


def take_over(shared: Path) -> Kept:
    """The connections of a steerer that serves, which ends by that. Empty where there is none."""
    kept = Kept()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(_HAND_OVER_SECONDS)
        try:
            channel.connect(str(shared / HAND_OVER_SOCKET))
            while (told := receive_step(channel)) is not None:
                kept.take(*told)
        except (FileNotFoundError, ConnectionError):
            pass
        except (OSError, msgspec.DecodeError) as error:
            log.warning("the steerer that runs does not hand over: %s", error)
    return kept
