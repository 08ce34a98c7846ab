"""Part `people`: the verbs while people ask long questions, and while browsers watch, beside the same server without them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.clusters import Cluster
from tests.bench.cycles import Cycles, Extender, Timings
from tests.bench.processes.leash import leashed
from tests.bench.processes.servers import Server, api, fabricwise
from tests.bench.rows import Row, percentile
from tests.bench.run import Run

P99_AIM = 1.1
KINDS = {"questions": 1, "browsers": 10}
"""Kind of people -> how many."""
EVENTS_PER_SECOND = 20
"""Pod events, so that browsers have changes to show."""
PAUSE_SECONDS = 0.01
"""Between two cycles: kube-scheduler works between them too."""


def beside_people(run: Run) -> list[Row]:
    """Return p50 and p99 of each verb with people beside those without, and how long each question takes."""
    sizes = run.sizes
    cluster = Cluster(sizes.nodes, sizes.sight_states, sizes.pods // 5, platforms=sizes.platforms)
    run.say(f"starting, {cluster.nodes:,} nodes, {cluster.pods:,} pods")
    blocks: dict[tuple[str, int], Timings] = {}
    answers = run.folder / "answers.jsonl"
    with api(cluster) as source, fabricwise(source, run.folder) as ours:
        cycles = Cycles(source, cluster.names(), [Extender("Fabricwise", ours.connection)])
        cycles.warm(cluster.nodes)
        source.post("/bench/rate", str(EVENTS_PER_SECOND).encode())
        for _ in range(sizes.load_blocks):
            for kind in ("nobody", *KINDS):
                run.say(f"beside {KINDS.get(kind, '')} {kind}".replace("  ", " "))
                with people(ours, kind, answers):
                    for names in sizes.load_names:
                        rounds = max(10, int(100 * sizes.load_seconds / len(sizes.load_names)))
                        timings = cycles.run(names, rounds, PAUSE_SECONDS)["Fabricwise"]
                        blocks.setdefault((kind, names), Timings()).add(timings)
        source.post("/bench/rate", b"0")
    return [*_verbs(sizes.load_names, blocks), *_questions(answers)]


@contextmanager
def people(server: Server, kind: str, answers: Path) -> Iterator[None]:
    """People beside the verbs, while the block runs."""
    if kind not in KINDS:
        yield
        return
    command = [sys.executable, "-m", "tests.bench.processes.asking", server.url, kind, str(KINDS[kind])]
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
    for kind, number in KINDS.items():
        for names in names_per_request:
            for verb in ("filter", "prioritize"):
                busy, calm = (getattr(blocks[which, names], verb) for which in (kind, "nobody"))
                for percent, aim in ((50, None), (99, P99_AIM)):
                    value, beside = (1000 * percentile(seconds, percent) for seconds in (busy, calm))
                    rows.append(Row("people", f"{verb}, {names:,} names, {number} {kind}", f"p{percent} ms", value, beside, "nobody", aim))
    return rows


def _questions(answers: Path) -> list[Row]:
    seconds: dict[str, list[float]] = {}
    for line in answers.read_text().splitlines():
        answer = json.loads(line)
        seconds.setdefault(f"{answer['question']}, status {answer['status']}", []).append(answer["seconds"])
    return [Row("people", question, "median s", percentile(taken, 50)) for question, taken in sorted(seconds.items())]
