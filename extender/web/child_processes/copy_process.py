"""A copy of this process as its parent sees it: it has a time by which all its work has ended, and is ended where it has not."""

from __future__ import annotations

import io
import os
import select
import signal
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_POLL_SECONDS = 0.001


class CopyProcess:
    """A child process that has been given work, with the processes that it has started. Thread-safe."""

    def __init__(self, pid: int, works: int, until_seconds: float) -> None:
        """`works`: how many pieces of work it has; `until_seconds`: when the last of them has ended, by `time.monotonic()`."""
        self.unfinished = works
        """How many pieces of its work are still being read."""
        self.until_seconds = until_seconds
        self._pid = pid
        self._has_ended = False
        self._lock = threading.Lock()
        with suppress(OSError):  # it has done so itself, and may have ended
            os.setpgid(pid, pid)

    def end(self) -> None:
        """End it, and all processes that it has started."""
        with self._lock:
            if not self._has_ended:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait until it has ended. Where its time is over, end it: a lock that was held while it was made can stop it at any place."""
        while not self._is_reaped():
            if time.monotonic() > self.until_seconds:
                self.end()
            time.sleep(_POLL_SECONDS)

    def _is_reaped(self) -> bool:
        with self._lock:
            try:
                self._has_ended = os.waitpid(self._pid, os.WNOHANG) != (0, 0)
            except ChildProcessError:  # where SIGCHLD is ignored, the kernel has removed it
                self._has_ended = True
            return self._has_ended


class BoundedPipe(io.RawIOBase):
    """The end of a pipe that is read until a moment. Reading later raises TimeoutError."""

    def __init__(self, descriptor: int, until_seconds: float) -> None:
        """`until_seconds`: by `time.monotonic()`. The descriptor is closed with this object."""
        self._descriptor, self._until_seconds = descriptor, until_seconds
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Wait for bytes, and read as many as there are. Raises TimeoutError, and OSError."""
        left_seconds = self._until_seconds - time.monotonic()
        if not self._poll.poll(max(0.0, left_seconds) * 1000.0):
            raise TimeoutError
        return os.readv(self._descriptor, [buffer])

    def close(self) -> None:
        """Close the pipe."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
