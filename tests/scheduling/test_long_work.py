"""Long work of the debug API runs in a child process: bounded in time, in number and in what its failure affects."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from extender.decision.pace import Pace
from extender.errors import RequestError
from extender.web import long_work
from extender.web.long_work import LongWork, NotDone, in_child_process
from extender.web.questions.asked import Answer, answered, refused


def test_answer_is_what_the_work_returns_from_another_process() -> None:
    answer = in_child_process(lambda _pace: b"%d" % os.getpid(), 5)
    assert isinstance(answer, bytes)
    assert int(answer) != os.getpid()


def test_answer_longer_than_a_pipe_holds_is_complete() -> None:
    assert in_child_process(lambda _pace: b"x" * (3 << 20), 5) == b"x" * (3 << 20)


def test_answer_longer_than_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_work, "MOST_ANSWER_BYTES", 1_000)
    answer = in_child_process(lambda _pace: b"x" * 2_000, 5)
    assert isinstance(answer, NotDone)
    assert "ask for less" in answer.why


def test_pace_ends_work_that_takes_longer_than_its_time() -> None:
    def work(pace: Pace) -> bytes:
        steps = 0
        while pace():
            time.sleep(0.001)
            steps += 1
        return b"%d" % steps

    answer = in_child_process(work, 0.1)
    assert isinstance(answer, bytes)
    assert int(answer) > 0


def test_work_that_ignores_its_pace_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_work, "_GRACE_SECONDS", 0.1)

    def work(_pace: Pace) -> bytes:
        time.sleep(30)
        return b""

    assert in_child_process(work, 0.1) == NotDone("the answer takes too long; ask for less", False)


def test_work_that_waits_for_a_lock_of_another_thread_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_work, "_GRACE_SECONDS", 0.1)
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

    answer = in_child_process(work, 0.1)
    release.set()
    holder.join()
    assert isinstance(answer, NotDone)


def test_error_of_the_work_is_named_and_ends_only_the_child() -> None:
    def work(_pace: Pace) -> bytes:
        raise ValueError("no such node")

    assert in_child_process(work, 5) == NotDone("ValueError: no such node", False)


def test_end_of_the_child_without_an_answer_is_named() -> None:
    answer = in_child_process(lambda _pace: os._exit(3), 5)
    assert isinstance(answer, NotDone)
    assert "without one" in answer.why


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="NOT TESTED: only Linux has oom_score_adj")
def test_kernel_ends_the_child_before_its_parent_where_memory_runs_out() -> None:
    assert in_child_process(lambda _pace: Path("/proc/self/oom_score_adj").read_bytes(), 5) == b"1000\n"


def test_no_file_of_the_parent_stays_open_in_the_child() -> None:
    readable, writable = os.pipe()

    def work(_pace: Pace) -> bytes:
        try:
            os.fstat(writable)
        except OSError:
            return b"closed"
        return b"open"

    assert in_child_process(work, 5) == b"closed"
    os.close(readable)
    os.close(writable)


def test_questions_beyond_the_bound_are_refused_at_once_and_the_others_are_answered() -> None:
    async def ask() -> list[bytes | NotDone]:
        work = LongWork(most_running=1, most_waiting=1)

        def slow(_pace: Pace) -> bytes:
            time.sleep(0.2)
            return b"done"

        return await asyncio.gather(*(work.run(slow, 5) for _ in range(4)))

    answers = asyncio.run(ask())
    assert answers[:2] == [b"done", b"done"]
    assert all(isinstance(answer, NotDone) and answer.is_busy for answer in answers[2:])


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
