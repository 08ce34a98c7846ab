"""Part `questions`: the verbs while one question after another is asked, long or bad ones, beside the same server without questions."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path

from tests.bench.clusters import Cluster
from tests.bench.cycles import Cycles, Extender, Timings
from tests.bench.processes.leash import leashed
from tests.bench.processes.question_client import QUESTIONS
from tests.bench.processes.servers import api, fabricwise
from tests.bench.report_rows import Row, percentile
from tests.bench.run import Run
from tests.cluster.processes.control_plane import free_port

P99_AIM = 1.1
NONE = "no"
EVENTS_PER_SECOND = 20
"""Pod events, so that answers differ."""
PAUSE_SECONDS = 0.01
"""Between two cycles: kube-scheduler works between them too."""


def beside_questions(run: Run) -> list[Row]:
    """Return p50 and p99 of each verb with questions beside those without, and how long each question takes."""
    sizes, port = run.sizes, free_port()
    cluster = Cluster(sizes.nodes, sizes.sight_states, sizes.pods // 5, platforms=sizes.platforms)
    run.say(f"starting, {cluster.nodes:,} nodes, {cluster.pods:,} pods")
    blocks: dict[tuple[str, int], Timings] = {}
    answers = run.folder / "answers.jsonl"
    with api(cluster) as source, fabricwise(source, run.folder, {"server": {"debug_port": port, "log_level": "error"}}) as ours:
        cycles = Cycles(source, cluster.names(), [Extender("Fabricwise", ours.connection)])
        cycles.warm(cluster.nodes)
        source.post("/bench/rate", str(EVENTS_PER_SECOND).encode())
        for _ in range(sizes.load_blocks):
            for kind in (NONE, *QUESTIONS):
                run.say(f"{kind} questions")
                with nullcontext() if kind == NONE else asking(f"http://127.0.0.1:{port}", kind, answers):
                    for names in sizes.load_names:
                        timings = cycles.run(names, sizes.question_rounds, PAUSE_SECONDS)["Fabricwise"]
                        blocks.setdefault((kind, names), Timings()).add(timings)
        source.post("/bench/rate", b"0")
    return [*_verbs(sizes.load_names, blocks), *_questions(answers)]


@contextmanager
def asking(url: str, kind: str, answers: Path) -> Iterator[None]:
    """Questions of one kind beside the verbs, while the block runs."""
    command = [sys.executable, "-m", "tests.bench.processes.question_client", url, kind]
    with answers.open("ab") as output:
        child = subprocess.Popen(leashed(command), stdin=subprocess.DEVNULL, stdout=output, process_group=0)
    try:
        time.sleep(1.0)
        yield
    finally:
        child.kill()
        child.wait()


def _verbs(names_per_request: tuple[int, ...], blocks: dict[tuple[str, int], Timings]) -> list[Row]:
    rows: list[Row] = []
    for kind, names, verb, (percent, aim) in product(QUESTIONS, names_per_request, ("filter", "prioritize"), ((50, None), (99, P99_AIM))):
        busy, calm = (getattr(blocks[each, names], verb) for each in (kind, NONE))
        value, beside = (1000 * percentile(seconds, percent) for seconds in (busy, calm))
        what = f"{verb}, {names:,} names, {kind} questions"
        rows.append(Row("questions", what, f"p{percent} ms", value, beside, "without questions", aim))
    return rows


def _questions(answers: Path) -> list[Row]:
    seconds: dict[str, list[float]] = {}
    for line in answers.read_text().splitlines():
        answer = json.loads(line)
        seconds.setdefault(f"{answer['question']}, status {answer['status']}", []).append(answer["seconds"])
    return [Row("questions", question, "median s", percentile(taken, 50)) for question, taken in sorted(seconds.items())]
