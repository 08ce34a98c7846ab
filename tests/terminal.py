"""Runs a Python program with standard output and standard error on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from tests.checkout import ROOT


def on_a_terminal(*arguments: str, columns: int = 80, environment: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return what `python ARGUMENTS` writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")}
    child = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**kept, "TERM": "xterm-256color", **environment},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    parts: list[bytes] = []
    with suppress(OSError):  # reading fails once the child has closed the terminal
        while part := os.read(ours, 1 << 16):
            parts.append(part)
    os.close(ours)
    child.wait(60)
    return b"".join(parts).decode(errors="replace").replace("\r\n", "\n")
