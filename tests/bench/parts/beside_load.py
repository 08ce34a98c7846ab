"""Part `load`: the verbs while pod events arrive at the watch, beside the same server without events; and what the events cost."""

from __future__ import annotations

import time

from tests.bench.clusters import Cluster
from tests.bench.cycles import Cycles, Extender, Timings
from tests.bench.processes.servers import Server, api, fabricwise
from tests.bench.report_rows import Row, percentile
from tests.bench.run import Run

P99_AIM = 1.2
CPU_AIM_CORES = 0.15


def beside_load(run: Run) -> list[Row]:
    """Return the processor time that the events take, and p50 and p99 of each verb with events beside those without."""
    sizes = run.sizes
    cluster = Cluster(sizes.nodes, sizes.sight_states, sizes.pods, platforms=run.sizes.platforms)
    run.say(f"starting, {cluster.nodes:,} nodes, {cluster.pods:,} pods")
    with api(cluster) as source, fabricwise(source, run.folder) as ours:
        cycles = Cycles(source, cluster.names(), [Extender("Fabricwise", ours.connection)])
        cycles.warm(cluster.nodes)
        rate = sizes.events_per_second
        name = f"{rate} pod events/s, {cluster.pods:,} pods"
        run.say(f"{name}, no requests")
        idle = _cores(ours, sizes.load_seconds)
        before = source.get("/bench/status")["events"]
        source.post("/bench/rate", str(rate).encode())
        cores, started = _cores(ours, sizes.load_seconds), time.monotonic()
        sent = (source.get("/bench/status")["events"] - before) / (sizes.load_seconds + time.monotonic() - started)
        rows = [Row("load", name, "cores for events", cores - idle, aim=CPU_AIM_CORES), Row("load", name, "events/s sent", sent)]
        blocks: dict[tuple[bool, int], Timings] = {}
        for _ in range(sizes.load_blocks):
            for loaded in (False, True):
                run.say(f"{name if loaded else 'no events'}, requests")
                source.post("/bench/rate", str(rate if loaded else 0).encode())
                time.sleep(0.2)  # the last events of the other kind of block are folded
                for names in sizes.load_names:
                    timings = cycles.run_for(names, sizes.load_seconds / len(sizes.load_names))["Fabricwise"]
                    blocks.setdefault((loaded, names), Timings()).add(timings)
        source.post("/bench/rate", b"0")
    for names in sizes.load_names:
        for verb in ("filter", "prioritize"):
            busy, calm = (getattr(blocks[loaded, names], verb) for loaded in (True, False))
            for percent, aim in ((50, None), (99, P99_AIM)):
                value, beside = (1000 * percentile(seconds, percent) for seconds in (busy, calm))
                rows.append(Row("load", f"{verb}, {names:,} names, {name}", f"p{percent} ms", value, beside, "without events", aim))
    return rows


def _cores(server: Server, seconds: float) -> float:
    """Return how many cores the server uses during the next `seconds`."""
    before, started = server.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / (time.monotonic() - started)
