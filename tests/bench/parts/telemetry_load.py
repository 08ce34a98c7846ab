"""Part `telemetry`: filter while telemetry of every node arrives every fifteen seconds, beside the same extender without arrivals."""

from __future__ import annotations

import time
from contextlib import ExitStack

from tests.bench.clusters import Cluster
from tests.bench.cycles import Cycles, Extender
from tests.bench.processes.arriving import FIRST_ROUND_SECONDS
from tests.bench.processes.servers import server
from tests.bench.report_rows import Row, percentile
from tests.bench.run import Run

MODES = {"calm": "without telemetry", "still": "telemetry known, none arriving"}
"""What the extender with arriving telemetry is compared with."""
PAUSE_SECONDS = 0.02
"""Between two cycles, so that telemetry arrives in between and not only during requests."""


def telemetry_load(run: Run) -> list[Row]:
    """Return p50 and p99 of filter with telemetry arriving, beside two extenders on the same nodes."""
    cluster = Cluster(run.sizes.nodes, run.sizes.sight_states, platforms=run.sizes.platforms)
    dump = run.folder / "cluster.json"
    dump.write_text(cluster.dump())
    rows: list[Row] = []
    run.say(f"starting three servers, {cluster.nodes:,} nodes")
    with ExitStack() as stack:
        servers = {
            mode: stack.enter_context(server("tests.bench.processes.arriving", mode, str(dump), "PORT")) for mode in ("arriving", *MODES)
        }
        extenders = [Extender(mode, one.connection) for mode, one in servers.items()]
        time.sleep(FIRST_ROUND_SECONDS + 1)
        cycles = Cycles(None, cluster.names(), extenders)
        cycles.warm(cluster.nodes)
        for names in run.sizes.load_names:
            run.say(f"{names:,} names")
            timings = cycles.run(names, run.sizes.telemetry_rounds, PAUSE_SECONDS)
            for mode, name in MODES.items():
                for percent in (50, 99):
                    value, beside = (1000 * percentile(timings[which].filter, percent) for which in ("arriving", mode))
                    rows.append(Row("telemetry", f"filter, {names:,} names, telemetry arriving", f"p{percent} ms", value, beside, name))
    return rows
