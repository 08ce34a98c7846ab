"""kill -9 of the real `fabricwise steer`, between a kubelet and a plugin that are played by real gRPC servers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from extender.steering.processes.hand_over import HAND_OVER_SOCKET, take_over
from tests.steering.connections.fakes import FakeKubelet, FakePlugin, allocate_request, wait_for
from tests.steering.steered_machine import GPU, IDS, facts


class Steer:
    """The process with its folders, and a kubelet and a plugin on either side of it."""

    def __init__(self, root: Path) -> None:
        self.folder, self.shared = root / "d", root / "s"
        self.folder.mkdir()
        self.shared.mkdir()
        (self.shared / "devices.json").write_bytes(facts())
        self.kubelet = FakeKubelet(self.folder)
        self.plugin = FakePlugin(self.folder, IDS)
        self.others: list[subprocess.Popen[bytes]] = []
        self.log_path = root / "log"
        self.log = self.log_path.open("ab")
        self.parent = self.start()
        wait_for("the link", (self.folder / "fabricwise.sock").exists, 30)
        self.plugin.register(self.folder / "fabricwise.sock")
        wait_for("the kubelet has the devices", lambda: self.kubelet.lists.get(GPU))

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        folders = [
            f"--device-plugins={self.folder}",
            f"--shared={self.shared}",
            f"--pod-resources={self.folder / 'none.sock'}",
        ]
        command = [sys.executable, "-m", "extender", "steer", "--no-decisions", "--host=127.0.0.1", "--port=0", *folders, *more]
        return subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def child(self) -> int:
        """The serving process."""
        (child,) = Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children").read_text().split()
        return int(child)

    def kill_child(self) -> None:
        """kill -9 of the serving process, and wait for the next one."""
        before = self.child()
        os.kill(before, signal.SIGKILL)
        wait_for("another child", lambda: self.children() not in ([], [before]))

    def children(self) -> list[int]:
        return list(map(int, Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children").read_text().split()))

    def kill_parent(self) -> None:
        self.parent.kill()
        self.parent.wait()

    def wait_kept(self, other: subprocess.Popen[bytes], times: int) -> None:
        """Until a steerer has all connections without serving; `times`: how often any has begun to, by the log."""
        line = b"this one keeps its connections"
        wait_for(
            "another steerer has the connections", lambda: self.log_path.read_bytes().count(line) >= times and keeps_all(other.pid), 30
        )

    def kill_all(self) -> None:
        """Kill both processes, as the end of their container does."""
        child = self.child()
        self.kill_parent()
        os.kill(child, signal.SIGKILL)

    def close(self) -> None:
        """End all, also where one of them does not end: a server that stays would keep this process from ending."""
        with contextlib.ExitStack() as stack:
            for end in (self.log.close, self.kubelet.close, self.plugin.close):
                stack.callback(end)
            stack.callback(lambda: take_over(self.shared).drop())  # ends one whose parent was killed
            for parent in [self.parent, *self.others]:
                stack.callback(parent.wait)
                stack.callback(parent.kill)
                stack.callback(parent.wait, 10)
                stack.callback(parent.terminate)


@pytest.fixture
def steer(tmp_path: Path) -> Iterator[Steer]:
    made = Steer(tmp_path)
    yield made
    made.close()


def noticed_nothing(steer: Steer) -> bool:
    """Whether the kubelet saw no end of a list of devices, and no other registration than the first."""
    return not steer.kubelet.ended and len(steer.kubelet.requests) == 1


def test_kubelet_notices_nothing_of_three_kills_of_the_serving_process(steer: Steer) -> None:
    for _ in range(3):
        steer.kill_child()
        assert sorted(steer.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
        assert steer.kubelet.call("Allocate", allocate_request("GPU-0")) == b"\x0a\x00answer of the plugin"
    assert noticed_nothing(steer)


def test_allocation_that_is_under_way_when_the_serving_process_is_killed_is_answered_by_the_next_one(steer: Steer) -> None:
    steer.plugin.allocate_delay_seconds = 1.0
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(steer.kubelet.call, "Allocate", allocate_request("GPU-0"))
        threading.Event().wait(0.3)
        steer.kill_child()
        assert answer.result(20) == b"\x0a\x00answer of the plugin"
    assert noticed_nothing(steer)


def test_list_that_the_plugin_changes_after_a_kill_reaches_the_kubelet(steer: Steer) -> None:
    steer.kill_child()
    wait_for("the list of the next process", lambda: len(steer.kubelet.lists[GPU]) == 2)
    steer.plugin.change(IDS[:7])
    wait_for("the shorter list", lambda: steer.kubelet.lists[GPU][-1] == steer.plugin.list_message())
    assert noticed_nothing(steer)


def test_serving_process_goes_on_when_its_parent_is_killed_and_hands_over_to_the_next_steerer(steer: Steer) -> None:
    steer.kill_parent()
    assert sorted(steer.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
    steer.parent = steer.start()
    wait_for("the list of the next steerer", lambda: len(steer.kubelet.lists[GPU]) == 2, 30)
    steer.kill_child()
    assert sorted(steer.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
    assert noticed_nothing(steer)


def test_steerer_that_is_killed_as_a_whole_is_registered_again_by_the_next_one(steer: Steer) -> None:
    steer.kill_all()
    wait_for("the kubelet sees that the list ended", lambda: steer.kubelet.ended == [GPU])
    steer.parent = steer.start()
    wait_for("the list of the next steerer", lambda: len(steer.kubelet.lists[GPU]) == 2, 30)
    assert sorted(steer.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]


def standing_by(steer: Steer) -> None:
    """Until a second steerer has all connections."""
    steer.others.append(steer.start("--stand-by"))
    steer.wait_kept(steer.others[-1], 1)


def keeps_all(pid: int) -> bool:
    """Whether a steerer stands by with all connections: it has no child, and three sockets."""
    count = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += path.readlink().name.startswith("socket:")
    return count == 3 and not Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_steerer_that_stands_by_goes_on_when_the_other_is_killed_as_a_whole_and_hands_over_to_the_next(steer: Steer) -> None:
    standing_by(steer)
    steer.kill_all()
    assert sorted(steer.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
    steer.parent = steer.start()
    wait_for("the third process serves", lambda: len(steer.kubelet.lists[GPU]) == 3, 30)
    steer.wait_kept(steer.others[0], 2)
    steer.kill_all()
    assert sorted(steer.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
    assert noticed_nothing(steer)


def test_steerer_that_stands_by_leaves_it_to_the_parent_to_start_a_killed_process_anew(steer: Steer) -> None:
    standing_by(steer)
    steer.kill_child()
    assert sorted(steer.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
    steer.wait_kept(steer.others[0], 2)
    assert Path(f"/proc/{steer.others[0].pid}/task/{steer.others[0].pid}/children").read_text() == ""
    assert noticed_nothing(steer)


def test_steerer_that_stands_by_goes_on_where_the_parent_pauses_before_it_starts_a_process_anew(steer: Steer) -> None:
    standing_by(steer)
    for _ in range(3):
        steer.kill_child()
        assert sorted(steer.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
    assert noticed_nothing(steer)


def test_steerer_that_is_told_to_end_leaves_the_connections_to_the_one_that_stands_by(steer: Steer) -> None:
    standing_by(steer)
    steer.parent.terminate()
    steer.parent.wait(10)
    assert sorted(steer.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
    assert noticed_nothing(steer)


def test_steerer_that_is_told_to_end_ends_the_connections_where_none_stands_by(steer: Steer) -> None:
    steer.parent.terminate()
    steer.parent.wait(10)
    wait_for("the kubelet sees that the list ended", lambda: steer.kubelet.ended == [GPU])


def test_steerer_that_starts_beside_another_serves_and_the_other_stands_by(steer: Steer) -> None:
    first = steer.parent
    steer.others.append(first)
    steer.parent = steer.start()
    wait_for("the second steerer serves", lambda: len(steer.kubelet.lists[GPU]) == 2, 30)
    steer.wait_kept(first, 1)
    assert first.poll() is None
    steer.kill_all()
    assert sorted(steer.kubelet.preferred(IDS, 2)) == ["GPU-0", "GPU-1"]
    assert noticed_nothing(steer)


def test_plugin_that_dies_while_the_serving_process_is_killed_ends_the_kubelets_list(steer: Steer) -> None:
    os.kill(steer.child(), signal.SIGSTOP)
    steer.plugin.close()
    os.kill(steer.child(), signal.SIGKILL)
    wait_for("the kubelet sees that the list ended", lambda: steer.kubelet.ended == [GPU])


def test_kubelet_that_restarts_while_the_serving_process_is_killed_gets_the_plugin_again(steer: Steer) -> None:
    os.kill(steer.child(), signal.SIGSTOP)
    steer.kubelet.restart()
    os.kill(steer.child(), signal.SIGKILL)
    wait_for("the link is made anew, which restarts the plugin", (steer.folder / "fabricwise.sock").is_symlink)
    steer.plugin.close()
    steer.plugin = FakePlugin(steer.folder, IDS[:4])
    steer.plugin.register(steer.folder / "fabricwise.sock")
    wait_for("the kubelet has the devices", lambda: steer.kubelet.lists.get(GPU) == [steer.plugin.list_message()])
    assert sorted(steer.kubelet.preferred(IDS[:4], 2)) == ["GPU-0", "GPU-1"]


def test_steerer_that_dies_at_every_start_ends_the_kubelets_connections_instead_of_letting_it_wait(steer: Steer) -> None:
    seen: set[int] = set()

    def kill_each() -> bool:
        for child in steer.children():
            if child not in seen:
                seen.add(child)
                os.kill(child, signal.SIGKILL)
        return GPU in steer.kubelet.ended

    wait_for("the kubelet sees that the list ended", kill_each, 30)


def test_steerer_that_dies_before_it_has_taken_the_connections_over_takes_none(steer: Steer) -> None:
    before = steer.child()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.connect(str(steer.shared / HAND_OVER_SOCKET))
        channel.shutdown(socket.SHUT_RD)
    wait_for("it is noticed", lambda: b"did not take them" in steer.log_path.read_bytes() or steer.children() != [before])
    assert steer.kubelet.preferred(IDS, 2) == ["GPU-0", "GPU-1"]
    assert steer.child() == before
    assert noticed_nothing(steer)
