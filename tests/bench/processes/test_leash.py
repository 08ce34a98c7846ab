"""Processes of the benchmark end with it, however it ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE_SECONDS = 60.0
SIGNALS = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=["killed", "interrupted", "terminated"])

PARENT = """
import subprocess, sys, time
from tests.bench.processes.leash import leashed
child = subprocess.Popen(leashed([sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]), stdout=subprocess.PIPE)
child.stdout.read(1)  # it runs
print(child.pid, flush=True)
time.sleep(600)
"""


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have started."""
    found = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, listing.read_text().split()):
            found += [child, *descendants(child)]
    return found


def ended(pidfd: int, seconds: float) -> bool:
    """Whether the process ends within this time; a pidfd is readable once its process has ended."""
    return bool(select.select([pidfd], [], [], seconds)[0])


@SIGNALS
def test_leashed_process_ends_when_its_parent_ends(number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    with parent.stdout as said:
        child = os.pidfd_open(int(said.readline()))
    try:
        parent.send_signal(number)
        parent.wait(PATIENCE_SECONDS)
        assert ended(child, PATIENCE_SECONDS), "the child outlives its parent"
    finally:
        if not ended(child, 0):
            signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)


@SIGNALS
def test_benchmark_leaves_no_process_behind(number: signal.Signals) -> None:
    bench = subprocess.Popen([sys.executable, "-m", "tests.bench", "--tiny", "--only", "verbs"], stderr=subprocess.DEVNULL)
    deadline, children = time.monotonic() + PATIENCE_SECONDS, list[int]()
    while len(children) < 3 and time.monotonic() < deadline:  # the floor, the API server and Fabricwise
        children = descendants(bench.pid)
        time.sleep(0.02)
    pidfds = [os.pidfd_open(child) for child in children]
    try:
        assert len(pidfds) >= 3
        bench.send_signal(number)
        assert bench.wait(PATIENCE_SECONDS) != 0
        assert all(ended(pidfd, PATIENCE_SECONDS) for pidfd in pidfds)
    finally:
        for pidfd in pidfds:
            if not ended(pidfd, 0):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
