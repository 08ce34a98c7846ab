"""A steerer ends when it is told to, at whatever moment, and no signal stops it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import ROOT
from tests.steering.connections.fakes import wait_for

PROCESS = """
import os, signal, sys, threading, time
from pathlib import Path
from extender.steering.processes.parent_process import ParentProcess

def work(keeper):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    (folder / "serves").touch()
    time.sleep(60)
    return 70

def tell_to_end():
    while not (folder / "serves").exists():
        time.sleep(0.01)
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

folder = Path(sys.argv[1])
parent = ParentProcess(work, folder)
threading.Thread(target=tell_to_end).start()
sys.exit(parent.run())
"""
"""The signal reaches another thread. So it interrupts no wait of the parent, like one that arrives just before a wait begins."""

AT_ONCE = """
import os, signal, sys, time
from pathlib import Path
from extender.steering.processes import parent_process

def work(keeper):
    time.sleep(60)
    return 70

fork = os.fork

def fork_and_signal():
    if child := fork():
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        time.sleep(0.5)
    return child

os.fork = fork_and_signal
sys.exit(parent_process.ParentProcess(work, Path(sys.argv[1])).run())
"""
"""The child gets the signal, which the parent passes on, before it has run its first line."""


SIGNALS = """
import signal, sys, threading
from pathlib import Path
from extender.steering.answers.chooser import Chooser
from extender.steering.proxies.counts import Counts
from extender.steering.proxies import node_steerer

node_steerer.LOOK_SECONDS = 0.01
folder = Path(sys.argv[1])
steerer = node_steerer.Steerer(folder, folder, Chooser(lambda: None, None, None), Counts(), "test")
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
threading.Timer(3.0, steerer.state.stop.make).start()
steerer.run()
signal.setitimer(signal.ITIMER_REAL, 0)
"""

TOLD_AGAIN_AND_AGAIN = """
import signal
from extender.steering.proxies.node_steerer import SteererState

state = SteererState()
signal.signal(signal.SIGALRM, lambda *_: state.stop.make())
signal.setitimer(signal.ITIMER_REAL, 0.00002, 0.00002)
for _ in range(300_000):
    state.stop.make()
signal.setitimer(signal.ITIMER_REAL, 0)
assert state.stop.is_made
"""
"""The handler interrupts itself, as where a container is told to end twice."""


def test_steerer_that_is_told_to_end_while_it_is_told_to_end_does_not_wait_for_itself() -> None:
    ended = subprocess.run([sys.executable, "-c", TOLD_AGAIN_AND_AGAIN], cwd=ROOT, timeout=60, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_folder_that_cannot_be_used_is_named_with_a_remedy_and_the_steerer_still_ends(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    folders = [f"--device-plugins={tmp_path}", f"--shared={tmp_path / 'a file' / 'shared'}"]
    command = [sys.executable, "-m", "extender", "steer", "--no-decisions", "--host=127.0.0.1", "--port=0", *folders]
    with (tmp_path / "log").open("wb") as file, subprocess.Popen(command, cwd=ROOT, stderr=file) as process:
        wait_for("it is tried again", lambda: b"is started anew" in (tmp_path / "log").read_bytes(), 60)
        process.terminate()
        process.wait(30)
    text = (tmp_path / "log").read_text()
    assert "Not a directory" in text
    assert "a file/shared" in text
    assert "--shared must exist, be writable" in text
    assert "Traceback" not in text


def test_signals_do_not_stop_the_steerers_loop(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SIGNALS, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, timeout=30, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("process", [PROCESS, AT_ONCE], ids=["a signal that interrupts no wait", "a signal at the start of the child"])
def test_parent_that_is_told_to_end_ends_with_its_child(process: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", process, str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, timeout=30, capture_output=True, text=True, check=False)
    assert ended.returncode in (0, 128 + 15), ended.stderr
