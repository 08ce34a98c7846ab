"""Part `growth` (only with `--full` or `--only growth`): how the verbs grow with nodes, distinct states, GPUs per node and pods.

One number grows at a time; the number of names per request stays the same.
"""

from __future__ import annotations

from dataclasses import replace

from tests.bench.clusters import Cluster
from tests.bench.cycles import Cycles, Extender
from tests.bench.processes.servers import api, fabricwise, floor
from tests.bench.report_rows import Row, percentile
from tests.bench.run import Run
from topology.platforms import machine_of, platforms

NAMES, ROUNDS = 500, 100


def _of_size(gpus: int) -> tuple[str, ...]:
    """Return the platforms with so many GPUs."""
    return tuple(name for name in platforms() if len(machine_of(name).gpus) == gpus)


BASE = Cluster(nodes=2000, states=500, pods=2000, gpu_pod_share=1.0)
AXES: dict[str, dict[int, Cluster]] = {
    "nodes known": {count: replace(BASE, nodes=count, pods=min(count, BASE.pods)) for count in (1000, 2000, 5000, 20_000)},
    "distinct states": {count: replace(BASE, nodes=4000, pods=4000, states=count) for count in (10, 100, 1000, 4000)},
    "GPUs per node": {count: replace(BASE, platforms=_of_size(count), states=30) for count in (4, 8, 16)},
    "pods known": {count: replace(BASE, pods=count, gpu_pod_share=min(1.0, 2000 / count)) for count in (2000, 10_000, 50_000)},
}
"""What grows -> its value -> the cluster."""


def growth(run: Run) -> list[Row]:
    """Return the medians of both verbs beside the floor's, for each value of what grows."""
    rows: list[Row] = []
    with floor() as bare:
        for axis, clusters in AXES.items():
            for value, cluster in clusters.items():
                run.say(f"{value:,} {axis}")
                with api(cluster) as source, fabricwise(source, run.folder) as ours:
                    extenders = [Extender("Fabricwise", ours.connection), Extender("floor", bare.connection)]
                    cycles = Cycles(source, cluster.names(), extenders)
                    cycles.warm(cluster.nodes)
                    timings = cycles.run(NAMES, ROUNDS)
                for verb in ("filter", "prioritize"):
                    ours_ms, floor_ms = (1000 * percentile(getattr(timings[name], verb), 50) for name in ("Fabricwise", "floor"))
                    rows.append(Row("growth", f"{verb}, {NAMES} names, {value:,} {axis}", "p50 ms", ours_ms, floor_ms, "floor"))
    return rows
