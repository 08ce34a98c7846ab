"""An extender on a dump, with or without telemetry arriving for every node every fifteen seconds, every gauge noisy.

The looks come from a process of their own, as from the collector, so that what is measured is what their arrival costs the verbs: decoding,
folding, judging anew. What scraping and parsing cost is the collector's affair, in another process.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from extender.collectors.feed import TelemetryFeed
from extender.collectors.ipc import ScrapeResult, frame
from extender.server.cluster_source import open_service
from extender.server.http_servers import server_for, settle_process
from extender.settings import Server, Settings, Telemetry
from extender.telemetry.readings import DeviceReading

INTERVAL_SECONDS = 15.0
FIRST_ROUND_SECONDS = 4.0
"""The first look at every node comes sooner, so that a measurement need not wait for a whole interval."""
GIB = 1 << 30


class Arrivals(TelemetryFeed):
    """A feed whose collector is this module's `emit`."""

    dump: ClassVar[str] = ""
    rounds: ClassVar[int] = 1_000_000

    def command(self) -> list[str]:
        """The generator in place of the collector."""
        return [sys.executable, "-m", "tests.bench.processes.arriving", "emit", self.dump, str(self.rounds)]


def end_with_parent() -> None:
    """End this process at once when the other end of its standard input is closed, as the operating system does when the parent dies.

    What the parent writes there (the targets of a collector) is read and dropped, so that the parent is never blocked.
    """

    def read_to_the_end() -> None:
        while os.read(sys.stdin.fileno(), 1 << 16):
            pass
        os._exit(0)

    threading.Thread(target=read_to_the_end, name="end-with-parent", daemon=True).start()


def emit(dump: str, rounds: int) -> None:
    """Send a scrape result for every node, evenly over each interval, `rounds` times; then wait until the parent ends.

    The first round takes `FIRST_ROUND_SECONDS`.
    """
    end_with_parent()
    chance = random.Random(5)
    objects = json.loads(Path(dump).read_text())["items"]
    nodes = [(thing["metadata"]["name"], len(thing["spec"]["gpus"])) for thing in objects if thing["kind"] == "GpuTopology"]
    started, sent = time.monotonic(), 0
    while sent < rounds * len(nodes):
        name, gpus = nodes[sent % len(nodes)]
        devices = tuple(_reading(index, chance) for index in range(gpus))
        sys.stdout.buffer.write(frame(ScrapeResult(name, "dcgm-exporter", name, name, time.monotonic(), 0.01, devices)))
        sys.stdout.buffer.flush()
        sent += 1
        rounds_sent = sent / len(nodes)
        due = started + FIRST_ROUND_SECONDS * min(1.0, rounds_sent) + INTERVAL_SECONDS * max(0.0, rounds_sent - 1)
        time.sleep(max(0.0, due - time.monotonic()))
    threading.Event().wait()


def _reading(index: int, chance: random.Random) -> DeviceReading:
    used = chance.randrange(2 * GIB)
    return DeviceReading(
        f"GPU-{index}",
        index=index,
        fb_used_bytes=used,
        fb_free_bytes=80 * GIB - used,
        utilization=chance.random(),
        xid=0,
        memory_utilization=chance.random(),
        temperature_celsius=chance.uniform(30, 90),
        power_watts=chance.uniform(100, 700),
        row_remap_failed=False,
        pcie_replays=0,
        pcie_tx_bytes_per_second=chance.uniform(0, 2e10),
    )


def main() -> None:
    """`emit DUMP ROUNDS`, or `calm|still|arriving DUMP PORT`: no telemetry, one look at every node, or one every interval."""
    if sys.argv[1] == "emit":
        with suppress(BrokenPipeError):  # the extender has ended
            emit(sys.argv[2], int(sys.argv[3]))
        return
    mode, dump, port = sys.argv[1:4]
    telemetry = Telemetry(source="off", interval_seconds=INTERVAL_SECONDS)
    fed = open_service(dump, Settings(server=Server(log_level="warning"), telemetry=telemetry))
    service = fed.service
    fed.start()
    settle_process(service)
    if mode != "calm":
        Arrivals.dump, Arrivals.rounds = dump, 1 if mode == "still" else Arrivals.rounds
        Arrivals(service.store, telemetry, service.metrics).start()
    server_for(service, "127.0.0.1", int(port)).run()


if __name__ == "__main__":
    main()
