"""Part `memory`: how long a start takes once the API server has answered, and the memory of the process after it."""

from __future__ import annotations

import time

from tests.bench.clusters import Cluster
from tests.bench.processes.servers import api, fabricwise
from tests.bench.report_rows import Row
from tests.bench.run import Run

AIMED = (20_000, 50_000)
"""Nodes and pods that the aims are for."""
READY_AIM_SECONDS, MEMORY_AIM_MIB = 10.0, 500.0
SETTLE_SECONDS = 2.0
"""Time after which the process has frozen its objects and returned free memory, or will not."""


def memory(run: Run) -> list[Row]:
    """Return seconds to ready and MiB, for each size of cluster."""
    rows = []
    for nodes, pods in run.sizes.memory:
        cluster = Cluster(nodes, run.sizes.sight_states, pods, platforms=run.sizes.platforms)
        run.say(f"starting, {nodes:,} nodes, {pods:,} pods")
        with api(cluster) as source, fabricwise(source, run.folder) as ours:
            ready = time.monotonic()
            answered = source.get("/bench/status")
            time.sleep(SETTLE_SECONDS)
            mib = ours.resident_mib()
        aimed = (nodes, pods) == AIMED
        case = f"{nodes:,} nodes, {pods:,} pods"
        seconds = max(0.0, ready - answered["last_byte"])
        rows.append(Row("memory", case, "s, last byte of the lists to ready", seconds, aim=READY_AIM_SECONDS if aimed else None))
        rows.append(Row("memory", case, "s, first request to ready", ready - answered["first_request"]))
        rows.append(Row("memory", case, "MiB resident", mib, aim=MEMORY_AIM_MIB if aimed else None))
    return rows
