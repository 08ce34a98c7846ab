"""Signals end a command in namespaces and all that it started. Needs no root: the namespaces are those of a user namespace."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.cluster.assets.kube_assets import VERSION
from tests.lab.real_node import cgroups
from tests.lab.real_node.ending_signals import ENDING

ROOT = Path(__file__).parents[3]
UNSHARE = shutil.which("unshare") or "unshare"
IN_USER_NAMESPACE = f'#!/bin/sh\nexec {UNSHARE} --user --map-root-user "$@"\n'
BLOCKS_SIGNALS = f"""#!{sys.executable}
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
if not os.fork():
    os.execvp("bash", sys.argv[sys.argv.index("bash"):])
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
"""What `unshare` does with signals, without namespaces."""

RUN = """
import sys
from tests.lab.real_node.namespaces import run
sys.exit(run([sys.executable, "-c", sys.argv[1]], {}, float(sys.argv[2])))
"""
CLOSES = """
import os, pathlib, subprocess, sys, time
from tests.lab.real_node.ending_signals import interrupt_on_signals
interrupt_on_signals()
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
try:
    print("started", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    pass
finally:
    time.sleep(0.5)
    child.kill()
    pathlib.Path(os.environ["CLOSED"]).write_text("closed")
sys.exit(7)
"""
IGNORES = """
import signal, subprocess, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
subprocess.Popen(["sleep", "600"], start_new_session=True)
print("started", flush=True)
time.sleep(600)
"""
LAB = """
import os, pathlib, sys
import tests.lab.__main__ as program

class StandIn:
    def __init__(self, folder, *_):
        self.plane, self.plane.folder = self, folder
        self.url = "http://127.0.0.1"
        self.node = self.machine = self.extender = self
        self.gpus = []
    def kubeconfig(self, _name):
        return "kubeconfig"
    def close(self):
        (self.folder / "kubelet.log").write_text("closed")

program.binaries.find, program.Lab = lambda: None, StandIn
sys.argv = ["tests.lab", "--keep", os.environ["CLOSED"]]
sys.exit(program.main())
"""
"""The lab's own program, which starts no control plane and no node."""


class Started:
    """A program that runs a command in namespaces; its group is its own, as in a terminal."""

    def __init__(self, folder: Path, unshare: str, command: str, order_seconds: float, ignored: Collection[signal.Signals] = ()) -> None:
        """`ignored`: the signals that it starts with as ignored, whatever is ignored here."""
        self.closed, self.temporary = folder / "closed", folder / "tmp"
        self.temporary.mkdir()
        programs = folder / "programs"
        programs.mkdir()
        (programs / "unshare").write_text(unshare)
        (programs / "unshare").chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "TMPDIR": str(self.temporary),
            "CLOSED": str(self.closed),
            "PYTHONUNBUFFERED": "1",
        }
        own = [sys.executable, "-c", RUN, command, str(order_seconds)]
        before = {number: signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL) for number in ENDING}
        try:
            self.program = subprocess.Popen(own, cwd=ROOT, env=environment, stdout=subprocess.PIPE, start_new_session=True)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait_line(self) -> str:
        """The next line of output."""
        assert self.program.stdout is not None
        return self.program.stdout.readline().decode().strip()

    def ended(self) -> int:
        """The exit status, once every process that has the output open is gone: all that was started inherits it."""
        self.program.communicate(timeout=60)
        return self.program.returncode

    def close(self) -> None:
        """Kill what is left in its process group: nothing, unless a test fails."""
        if self.program.poll() is None:
            os.killpg(self.program.pid, signal.SIGKILL)
            self.program.wait()
        assert self.program.stdout is not None
        self.program.stdout.close()


def user_namespaces_are_refused() -> str | None:
    """Why this kernel or container makes none; None where it does."""
    command = [UNSHARE, "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip() or f"status {done.returncode}" if done.returncode else None


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Started]]:
    found: list[Started] = []
    yield found
    for one in found:
        one.close()


@pytest.fixture
def user_namespace() -> str:
    refused = user_namespaces_are_refused()
    if refused is not None:
        pytest.skip(f"NOT TESTED in namespaces: {refused}")
    return IN_USER_NAMESPACE


@pytest.fixture(params=["unshare's signals", "namespaces"])
def unshare(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("user_namespace")) if request.param == "namespaces" else BLOCKS_SIGNALS


STATUS = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 7}
"""SIGINT has the status of the command, because Ctrl-C is the planned end of a lab that waits."""


@pytest.mark.parametrize("to_group", [False, True], ids=["to the program", "to its group, as a terminal does"])
@pytest.mark.parametrize("number", STATUS, ids=lambda number: str(number.name))
def test_signal_lets_the_command_close_and_ends_all_that_it_started(
    tmp_path: Path, started: list[Started], unshare: str, number: signal.Signals, to_group: bool
) -> None:
    one = Started(tmp_path, unshare, CLOSES, 60.0)
    started.append(one)
    assert one.wait_line() == "started"
    if to_group:
        os.killpg(one.program.pid, number)
    else:
        one.program.send_signal(number)
    assert one.ended() == STATUS[number]
    assert one.closed.exists()
    assert list(one.temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: str(number.name))
def test_signal_closes_the_lab_and_its_logs_are_kept(tmp_path: Path, started: list[Started], unshare: str, number: signal.Signals) -> None:
    one = Started(tmp_path, unshare, LAB, 60.0)
    started.append(one)
    assert one.wait_line().startswith("The lab runs")
    one.program.send_signal(number)
    assert one.ended() == 128 + number
    assert (one.closed / "kubelet.log").read_text() == "closed"


def test_command_that_ignores_signals_is_killed_with_all_that_it_started(
    tmp_path: Path, started: list[Started], user_namespace: str
) -> None:
    one = Started(tmp_path, user_namespace, IGNORES, 0.3)
    started.append(one)
    assert one.wait_line() == "started"
    one.program.terminate()
    assert one.ended() == 143
    assert list(one.temporary.iterdir()) == []


def test_kill_9_of_the_program_ends_all_that_it_started(tmp_path: Path, started: list[Started], user_namespace: str) -> None:
    one = Started(tmp_path, user_namespace, IGNORES, 60.0)
    started.append(one)
    assert one.wait_line() == "started"
    one.program.kill()
    assert one.ended() == -signal.SIGKILL


@pytest.mark.parametrize("number", ENDING, ids=lambda number: str(number.name))
def test_signal_ends_a_program_that_waits_for_another_lab(tmp_path: Path, started: list[Started], number: signal.Signals) -> None:
    cache = tmp_path / "cache/fabricwise/kubernetes" / VERSION
    cache.mkdir(parents=True)
    with (cache / ".lab-lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one = Started(tmp_path, BLOCKS_SIGNALS, CLOSES, 60.0)
        started.append(one)
        assert one.wait_line() == "another lab runs on this machine; waiting until it ends"
        one.program.send_signal(number)
        assert one.ended() == 128 + number
    assert list(one.temporary.iterdir()) == []


def test_program_under_nohup_does_not_end_with_the_terminal(tmp_path: Path, started: list[Started]) -> None:
    one = Started(tmp_path, BLOCKS_SIGNALS, CLOSES, 60.0, ignored=[signal.SIGHUP])
    started.append(one)
    assert one.wait_line() == "started"
    os.killpg(one.program.pid, signal.SIGHUP)
    assert not one.closed.exists()
    one.program.terminate()
    assert one.ended() == 143


def test_cgroup_is_removed_with_all_below_it_once_it_has_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path)
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "lab/pods/pod").mkdir(parents=True)
    cgroups.remove("lab")
    assert not (tmp_path / "lab").exists()


def test_cgroup_that_keeps_a_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cgroups, "_ROOT", tmp_path)
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "lab/pods").mkdir(parents=True)
    (tmp_path / "lab/pods/busy").touch()
    cgroups.remove("lab", 0.0)
    assert f"{tmp_path / 'lab'} still has processes" in capsys.readouterr().err
