"""A cgroup of the lab's own: a kubelet ends what it finds in its root and does not know, which may be the pods of a real one."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
NAME = "FABRICWISE_LAB_CGROUP"
"""Environment variable that names the cgroup."""
_REMOVE_SECONDS = 10.0
"""How long the kernel may take to end killed processes, which are in their cgroups until then."""


def _hierarchies() -> list[Path]:
    """The one of cgroup v2, or each of v1."""
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    return [] if not _ROOT.is_dir() else [folder for folder in _ROOT.iterdir() if folder.is_dir() and not folder.is_symlink()]


def make() -> str:
    """Make the cgroup that the environment names, in every hierarchy; its name."""
    name = os.environ[NAME]
    for hierarchy in _hierarchies():
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # of cgroup v1: empty in a new cgroup, and then no process may enter it
            if (folder / setting).exists() and (hierarchy / setting).exists():
                (folder / setting).write_text((hierarchy / setting).read_text())
    return name


def remove(name: str, seconds: float = _REMOVE_SECONDS) -> None:
    """Remove a cgroup with all below it, once its processes are gone; says on standard error what is left after `seconds`."""
    until = time.monotonic() + seconds
    for hierarchy in _hierarchies():
        while (hierarchy / name).exists():
            for folder, _, _ in os.walk(hierarchy / name, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
            if time.monotonic() > until:
                print(f"{hierarchy / name} still has processes: remove it with rmdir once they have ended", file=sys.stderr)
                break
            time.sleep(0.02)
