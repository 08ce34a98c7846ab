"""Part `watchers`: the verbs while clients follow the live view of a large cluster whose pods come and go, beside no clients."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.bench.clusters import Cluster
from tests.bench.cycles import Cycles, Extender, Timings
from tests.bench.processes.leash import leashed
from tests.bench.processes.servers import Server, api, fabricwise
from tests.bench.report_rows import Row, percentile
from tests.bench.run import Run
from tests.cluster.processes.control_plane import free_port

CLIENTS = 10
P99_AIM = 1.1


def beside_watchers(run: Run) -> list[Row]:
    """Return the processor time of `CLIENTS` clients, the bytes that each reads, and p50 and p99 of each verb with clients beside none."""
    sizes, port = run.sizes, free_port()
    cluster = Cluster(sizes.nodes, sizes.sight_states, sizes.pods, platforms=sizes.platforms)
    run.say(f"starting, {cluster.nodes:,} nodes")
    with api(cluster) as source, fabricwise(source, run.folder, {"server": {"debug_port": port, "log_level": "error"}}) as ours:
        debug_url = f"http://127.0.0.1:{port}"
        cycles = Cycles(source, cluster.names(), [Extender("Fabricwise", ours.connection)])
        cycles.warm(cluster.nodes)
        rate = min(50, sizes.events_per_second)
        source.post("/bench/rate", str(rate).encode())
        name = f"{CLIENTS} clients, {rate} pod events/s"
        rows = _answers(debug_url)
        run.say("no clients, no requests")
        idle = _cores(ours, sizes.load_seconds)
        with watching(debug_url) as clients:
            run.say(f"{name}, no requests")
            before = clients.counts()
            cores = _cores(ours, sizes.load_seconds)
            after = clients.counts()
            read = (after["bytes"] - before["bytes"]) / CLIENTS / 1024 / sizes.load_seconds
        rows += [Row("watchers", name, "cores for clients", cores - idle), Row("watchers", name, "KiB/s per client", read)]
        blocks: dict[tuple[bool, int], Timings] = {}
        for _ in range(sizes.load_blocks):
            for watched in (False, True):
                run.say(f"{name if watched else 'no clients'}, requests")
                with watching(debug_url, CLIENTS if watched else 0):
                    for names in sizes.load_names:
                        timings = cycles.run_for(names, sizes.load_seconds / len(sizes.load_names))["Fabricwise"]
                        blocks.setdefault((watched, names), Timings()).add(timings)
        source.post("/bench/rate", b"0")
    for names in sizes.load_names:
        for verb in ("filter", "prioritize"):
            watched_seconds, calm = (getattr(blocks[watched, names], verb) for watched in (True, False))
            for percent, aim in ((50, None), (99, P99_AIM)):
                value, beside = (1000 * percentile(seconds, percent) for seconds in (watched_seconds, calm))
                rows.append(Row("watchers", f"{verb}, {names:,} names, {name}", f"p{percent} ms", value, beside, "without clients", aim))
    return rows


def _answers(debug_url: str) -> list[Row]:
    """Rows of the whole cluster as one answer: the first, which makes all rows, and a later one."""
    rows = []
    with httpx.Client(base_url=debug_url, timeout=60) as client:
        for which in ("first", "later"):
            started = time.perf_counter()
            answer = client.get("/v1/cluster")
            case = f"GET /v1/cluster, {which}"
            rows.append(Row("watchers", case, "ms", 1000 * (time.perf_counter() - started)))
        rows.append(Row("watchers", "GET /v1/cluster", "KiB compressed", int(answer.headers["content-length"]) / 1024))
    return rows


class Watching:
    """Clients in a process of their own."""

    def __init__(self, child: subprocess.Popen[bytes] | None) -> None:
        self._child = child

    def counts(self) -> dict[str, int]:
        """Return what the clients have read, as of the next second."""
        assert self._child is not None
        assert self._child.stdout is not None
        found: dict[str, int] = json.loads(self._child.stdout.readline())
        return found


@contextmanager
def watching(debug_url: str, clients: int = CLIENTS) -> Iterator[Watching]:
    """Run clients until the block ends; none where `clients` is 0."""
    if not clients:
        yield Watching(None)
        return
    command = [sys.executable, "-m", "tests.bench.processes.stream_clients", debug_url, str(clients)]
    child = subprocess.Popen(leashed(command), stdout=subprocess.PIPE, process_group=0)
    try:
        running = Watching(child)
        running.counts()
        running.counts()
        yield running
    finally:
        child.terminate()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _cores(server: Server, seconds: float) -> float:
    """Return how many cores the server uses during the next `seconds`."""
    before, started = server.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / (time.monotonic() - started)
