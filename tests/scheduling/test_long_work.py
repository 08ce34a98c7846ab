"""Long work of the debug API runs in child processes: bounded in time, in number and in what its failure affects."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from extender.decision.pace import Pace
from extender.errors import RequestError
from extender.web import long_work
from extender.web.child_processes import copies
from extender.web.child_processes.copies import Copies
from extender.web.child_processes.fork_pace import MOST_WAIT_SECONDS, ForkPace
from extender.web.long_work import LongWork, NotDone, Work
from extender.web.questions.asked import Answer, answered, refused
from tests.scheduling.child_processes import children
from tests.waiting import wait

AT_ONCE = ForkPace(most_share=1e9)
"""A pace that never waits."""


class CountedCopies(Copies):
    """Copies that count how often the process is copied."""

    def __init__(self, pace: ForkPace | None = None) -> None:
        super().__init__(pace)
        self.made = 0

    def _fork(self) -> None:
        self.made += 1
        super()._fork()


def sleeping(_pace: Pace) -> bytes:
    time.sleep(30)
    return b""


def killed(_pace: Pace) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def answer(work: Work, seconds: float = 5) -> bytes | NotDone:
    return LongWork().answer(work, seconds)


def test_answer_is_what_the_work_returns_from_another_process() -> None:
    found = answer(lambda _pace: b"%d" % os.getpid())
    assert isinstance(found, bytes)
    assert int(found) != os.getpid()


def test_answer_longer_than_a_pipe_holds_is_complete() -> None:
    assert answer(lambda _pace: b"x" * (3 << 20)) == b"x" * (3 << 20)


def test_answer_longer_than_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_work, "MOST_ANSWER_BYTES", 1_000)
    found = answer(lambda _pace: b"x" * 2_000)
    assert isinstance(found, NotDone)
    assert "ask for less" in found.why


def test_pace_ends_work_that_takes_longer_than_its_time() -> None:
    def work(pace: Pace) -> bytes:
        steps = 0
        while pace():
            time.sleep(0.001)
            steps += 1
        return b"%d" % steps

    found = answer(work, 0.1)
    assert isinstance(found, bytes)
    assert int(found) > 0


def test_work_that_ignores_its_pace_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_GRACE_SECONDS", 0.1)

    assert answer(sleeping, 0.1) == NotDone("the answer takes too long; ask for less", False)


def test_work_that_waits_for_a_lock_of_another_thread_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_GRACE_SECONDS", 0.1)
    lock, held, release = threading.Lock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)

    def work(_pace: Pace) -> bytes:
        with lock:
            return b""

    found = answer(work, 0.1)
    release.set()
    holder.join()
    assert isinstance(found, NotDone)


def test_error_of_the_work_is_named_and_ends_only_the_child() -> None:
    def work(_pace: Pace) -> bytes:
        raise ValueError("no such node")

    assert answer(work) == NotDone("ValueError: no such node", False)


def test_end_of_the_child_without_an_answer_is_named() -> None:
    found = answer(lambda _pace: os._exit(3))
    assert isinstance(found, NotDone)
    assert "without one" in found.why


def test_signal_that_ends_the_child_is_named() -> None:
    assert answer(killed) == NotDone("the process was ended by signal 9", False)


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="NOT TESTED: only Linux has oom_score_adj")
def test_kernel_ends_the_child_before_its_parent_where_memory_runs_out() -> None:
    assert answer(lambda _pace: Path("/proc/self/oom_score_adj").read_bytes()) == b"1000\n"


def test_no_file_of_the_parent_stays_open_in_the_child() -> None:
    readable, writable = os.pipe()

    def work(_pace: Pace) -> bytes:
        try:
            os.fstat(writable)
        except OSError:
            return b"closed"
        return b"open"

    assert answer(work) == b"closed"
    os.close(readable)
    os.close(writable)


def hang(*_: object) -> None:
    """Do what a copy does that stops at a lock of the C library, which no alarm of its own ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGALRM])
    time.sleep(60)
    os._exit(0)


@pytest.mark.parametrize("stops", ["_run_copy", "_run_work"])
def test_copy_that_stops_before_it_can_bound_itself_is_ended_with_its_processes(monkeypatch: pytest.MonkeyPatch, stops: str) -> None:
    monkeypatch.setattr(copies, "_START_SECONDS", 0.5)
    monkeypatch.setattr(copies, "_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(copies, stops, hang)
    work, before = LongWork(copies=Copies(AT_ONCE)), children()
    assert work.answer(lambda _pace: b"1", 0.1) == NotDone("the answer takes too long; ask for less", False)
    monkeypatch.undo()
    assert children() <= before
    assert work.answer(lambda _pace: b"2", 5) == b"2", "the next question is answered"


def test_process_that_ends_does_not_wait_for_its_questions() -> None:
    work, before = LongWork(copies=Copies(AT_ONCE)), children()
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(work.answer, sleeping, 60)
        wait("a copy runs", lambda: children() - before)
        work.end_all()
        assert isinstance(asked.result(10), NotDone)


def test_no_process_and_no_file_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_GRACE_SECONDS", 0.1)
    work, files, before = LongWork(copies=Copies(AT_ONCE)), len(os.listdir("/proc/self/fd")), children()
    assert work.answer(lambda _pace: b"1", 5) == b"1"
    assert isinstance(work.answer(lambda _pace: os._exit(3), 5), NotDone)
    assert isinstance(work.answer(sleeping, 0.0), NotDone)
    assert len(os.listdir("/proc/self/fd")) <= files
    assert children() <= before


def test_questions_are_answered_where_the_end_of_children_is_ignored() -> None:
    """A server inherits that from what has started it."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        work = LongWork(copies=Copies(AT_ONCE))
        assert work.answer(lambda _pace: b"1", 5) == b"1"
        assert work.answer(killed, 5) == NotDone("the process was ended by signal 9", False)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_process_that_cannot_be_started_is_an_error_of_the_question_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    work, files = LongWork(), len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fork", refuse)
        found = work.answer(lambda _pace: b"1", 5)
    assert isinstance(found, NotDone)
    assert "no process can be started" in found.why
    assert len(os.listdir("/proc/self/fd")) <= files
    assert work.answer(lambda _pace: b"2", 5) == b"2", "the next question is answered"


def test_questions_beyond_the_bound_are_refused_at_once_and_the_others_are_answered() -> None:
    async def ask() -> list[bytes | NotDone]:
        work = LongWork(most_asked=2)

        def slow(_pace: Pace) -> bytes:
            time.sleep(0.2)
            return b"done"

        return await asyncio.gather(*(work.run(slow, 5) for _ in range(4)))

    answers = asyncio.run(ask())
    assert answers[:2] == [b"done", b"done"]
    assert all(isinstance(found, NotDone) and found.is_busy for found in answers[2:])


def test_copying_takes_its_share_of_the_time_and_three_copies_are_made_at_once() -> None:
    pace, now_seconds, copied = ForkPace(most_share=0.01), 100.0, []
    while now_seconds < 200.0:
        wait_seconds = pace.wait_seconds(now_seconds)
        assert wait_seconds >= 0.0
        now_seconds += wait_seconds
        pace.forked(now_seconds, 0.02)
        copied.append(now_seconds)
    assert copied[:3] == [100.0, 100.0, 100.0]
    assert copied[3] == pytest.approx(102.0), "0.02 s are 1 % of 2 s"
    assert len(copied) == pytest.approx(0.01 * 100.0 / 0.02, abs=4)


def test_no_question_waits_while_kube_scheduler_does_not_call() -> None:
    calls = True
    pace = ForkPace(most_share=0.01, is_called=lambda: calls)
    for _ in range(10):
        pace.forked(100.0, 0.02)
    assert pace.wait_seconds(100.0) > 0.0
    calls = False
    assert pace.wait_seconds(100.0) == 0.0
    calls = True
    assert pace.wait_seconds(100.0) > 0.0, "what was taken is still counted"


def test_copy_is_made_when_no_verb_is_being_answered() -> None:
    order: list[str] = []

    class Noted(Copies):
        def _fork(self) -> None:
            order.append("copy")
            super()._fork()

    assert LongWork(copies=Noted(AT_ONCE, lambda: order.append("gave way"))).answer(lambda _pace: b"1", 5) == b"1"
    assert order == ["copy", "gave way"]


def test_slow_copy_makes_the_next_question_wait_for_some_seconds_at_most() -> None:
    pace = ForkPace(most_share=0.01)
    for _ in range(10):
        pace.forked(100.0, 3.0)
    assert pace.wait_seconds(100.0) == pytest.approx(MOST_WAIT_SECONDS)
    assert pace.wait_seconds(100.0 + MOST_WAIT_SECONDS) == pytest.approx(0.0)


def test_work_that_waits_for_a_copy_is_done_by_one_copy() -> None:
    """Twelve questions at the same time: the first copies are made at once, the last one has all work that came meanwhile."""
    pace = ForkPace(most_share=0.005)
    for _ in range(3):
        pace.forked(time.monotonic(), 0.002)
    made = CountedCopies(pace)
    work = LongWork(copies=made)
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda number: work.answer(lambda _pace: b"%d" % number, 5), range(12)))
    assert found == [b"%d" % number for number in range(12)]
    assert made.made < 12


def test_failure_of_one_piece_of_work_affects_no_other_of_the_same_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_GRACE_SECONDS", 0.1)
    pace = ForkPace(most_share=0.005)
    for _ in range(3):
        pace.forked(time.monotonic(), 0.002)
    works: list[Work] = [
        lambda _pace: os._exit(3),
        lambda _pace: b"1",
        killed,
        sleeping,
        lambda _pace: b"2",
    ]
    work = LongWork(copies=Copies(pace))
    with ThreadPoolExecutor(len(works)) as threads:
        found = list(threads.map(lambda each: work.answer(each, 0.2), works))
    assert [one if isinstance(one, bytes) else None for one in found] == [None, b"1", None, None, b"2"]


def _wrong(_pace: Pace) -> Answer:
    raise RequestError("size 0: give 1 to 16")


def _broken(_pace: Pace) -> Answer:
    raise KeyError(1)


@pytest.mark.parametrize(
    ("ask", "status", "body"),
    [
        pytest.param(lambda _pace: Answer({"slots": 3}), 200, b'{"slots":3}', id="answer"),
        pytest.param(lambda _pace: refused("no node gpu-x", 404), 404, b'{"error":"no node gpu-x"}', id="refused"),
        pytest.param(_wrong, 400, b'{"error":"size 0: give 1 to 16"}', id="wrong-request"),
        pytest.param(_broken, 503, b'{"error":"KeyError: 1"}', id="broken"),
    ],
)
def test_outcome_of_a_question_is_a_response(ask: Callable[[Pace], Answer], status: int, body: bytes) -> None:
    response = asyncio.run(answered(LongWork(), ask, 5))
    assert (response.status_code, response.body) == (status, body)
