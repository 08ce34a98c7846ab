"""Runs a command that ends with the process that started it: `python leash.py COMMAND ARGUMENTS...`.

The kernel is asked to send SIGKILL to this process when its parent ends, for whatever reason; the request survives `exec`, so it holds for
any program, also one that knows nothing of the benchmark. It is a script of its own that imports no project code, because each server of
the benchmark starts through it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>."""


def leashed(command: list[str]) -> list[str]:
    """Return the command that runs `command` so that it ends with its parent; elsewhere than on Linux, `command` itself."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-S", "-E", __file__, str(os.getpid()), *command]


def main() -> None:
    """Become the command given after the parent's process id."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel was asked
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
