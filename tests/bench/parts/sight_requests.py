"""Part `sight`: the first request of a demand over HTTP: time until its answer is complete, attempts, and the longest stall meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

from tests.bench.clusters import LIST_VERSION, Cluster, pending_pod
from tests.bench.cycles import Extender, body, filtered
from tests.bench.processes.servers import Connection, Server, api, fabricwise
from tests.bench.report_rows import Row
from tests.bench.run import Run

DEMANDS: dict[str, tuple[int, ...]] = {
    "1": (1,),
    "3": (3,),
    "8": (8,),
    "2+1+1": (2, 1, 1),
    "8 x 1": (1,) * 8,
    "4+4": (4, 4),
}
"""Name -> GPUs per container."""
COMPLETE_AIM_MS, STALL_AIM_MS, ATTEMPTS_AIM = 300.0, 10.0, 2.0
PROBE_PAUSE_SECONDS = 0.002


@dataclass
class Probe:
    """Seconds that /healthz took, over a connection of its own."""

    seconds: list[float] = field(default_factory=list)

    def stall(self, usual: float) -> float:
        """Return the slowest answer less the usual one."""
        return max(usual, *self.seconds) - usual


@contextmanager
def probing(server: Server) -> Iterator[Probe]:
    """Ask /healthz every few milliseconds until the block ends."""
    probe, stop, connection = Probe(), threading.Event(), Connection(server.url)

    def ask() -> None:
        while not stop.is_set():
            probe.seconds.append(connection.ask("GET", "/healthz")[1])
            time.sleep(PROBE_PAUSE_SECONDS)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield probe
    finally:
        stop.set()
        thread.join()
        connection.close()


def sight_requests(run: Run) -> list[Row]:
    """Return milliseconds, attempts and the longest stall per demand. The demands follow each other on one server, as in a real cluster."""
    sizes = run.sizes
    cluster = Cluster(sizes.nodes, sizes.sight_states, min(sizes.nodes, 5000), gpu_pod_share=1.0, platforms=sizes.platforms)
    rows: list[Row] = []
    run.say(f"starting, {cluster.nodes:,} nodes, {cluster.states:,} states")
    with api(cluster) as source, fabricwise(source, run.folder) as ours:
        with probing(ours) as probe:
            time.sleep(0.5)
        usual = median(probe.seconds)
        extender = Extender("Fabricwise", ours.connection)
        for number, (demand, groups) in enumerate(DEMANDS.items()):
            run.say(f"first sight of {demand} GPUs")
            content = body(pending_pod(f"sight-{number}", groups, LIST_VERSION + 1 + number), cluster.names())
            with probing(ours) as probe:
                time.sleep(0.1)
                _, seconds, attempts = filtered(extender, content)
                time.sleep(0.1)
            case = f"first filter of {demand} GPUs, {cluster.nodes:,} nodes, {cluster.states:,} states"
            rows.append(Row("sight", case, "complete after ms", 1000 * seconds, aim=COMPLETE_AIM_MS))
            rows.append(Row("sight", case, "attempts", attempts, aim=ATTEMPTS_AIM))
            rows.append(Row("sight", case, "longest stall ms", 1000 * probe.stall(usual), aim=STALL_AIM_MS))
    return rows
