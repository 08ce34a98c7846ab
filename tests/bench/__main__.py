"""Filter and prioritize over keep-alive HTTP, beside the same server answering without deciding; and table building.

The two servers are processes of their own and are asked in turn, so that a noisy machine slows both alike. Nodes are of
ten platforms with random GPUs held: thousands of distinct states, more than any real cluster has.
"""

from __future__ import annotations

import gc
import http.client
import json
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.request.pod_request import Demand, demand_of
from extender.sources.simulated import node_manifest
from extender.telemetry import dcgm
from extender.telemetry.exposition import parse
from tests.cluster.control_plane import free_port
from tests.exposition import dcgm_text
from tests.objects import pod, pod_struct, snapshot
from topology.bandwidth.all_reduce import all_reduce
from topology.gputopology import Allocation, DeviceStatus, TopologyRecord, encode
from topology.machine.hardware import positions_of
from topology.placement import fresh_table
from topology.platforms import machine_of, platforms

NODES = 5000
ROUNDS = {100: 400, 500: 300, 5000: 60}
console = Console(width=110)


def cluster(count: int) -> Iterator[dict[str, Any]]:
    """Nodes and topologies with random GPUs allocated."""
    chance = random.Random(3)
    names = list(platforms())
    for number in range(count):
        machine = machine_of(names[number % len(names)])
        held = chance.sample(range(len(machine.gpus)), chance.randrange(len(machine.gpus)))
        name = f"gpu-node-{number:05d}.cluster.local"
        yield node_manifest(name, machine)
        yield encode(TopologyRecord(name, machine, DeviceStatus(allocated=tuple(Allocation(i) for i in sorted(held)))))


@contextmanager
def server(*command: str) -> Iterator[http.client.HTTPConnection]:
    """A server process and a keep-alive connection to it."""
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", *(part.replace("PORT", str(port)) for part in command)])
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        deadline = time.monotonic() + 180
        while True:
            try:
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                break
            except OSError as error:
                connection.close()
                if child.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the server did not start: {command}") from error
                time.sleep(0.2)
        yield connection
        connection.close()
    finally:
        child.terminate()
        child.wait(timeout=20)


def ask(connection: http.client.HTTPConnection, verb: str, body: bytes) -> float:
    """Seconds for one request."""
    started = time.perf_counter()
    connection.request("POST", f"/scheduler/{verb}", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    took = time.perf_counter() - started
    if response.status != 200 or not content:
        raise SystemExit(f"{verb} answered {response.status}: {content[:200]!r}")
    return took


def verbs(ours: http.client.HTTPConnection, floor: http.client.HTTPConnection, names: list[str]) -> Table:
    """Latency of each verb at 100, 500 and 5,000 names."""
    table = Table(title=f"verbs over keep-alive HTTP, {NODES} nodes known, ms", title_justify="left")
    for column in ("verb", "names", "p50", "p99", "floor p50", "floor p99", "p50 ratio", "p99 ratio"):
        table.add_column(column, justify="right")
    for verb in ("filter", "prioritize"):
        for count, rounds in ROUNDS.items():
            chosen = random.Random(count).sample(names, count)
            bodies = [json.dumps({"Pod": pod(size), "Nodes": None, "NodeNames": chosen}).encode() for size in (1, 2, 4, 8)]
            for body in bodies:  # evaluated once before measuring, so that caches are filled
                ask(ours, verb, body)
                ask(floor, verb, body)
            pairs = [(ask(ours, verb, bodies[n % 4]), ask(floor, verb, bodies[n % 4])) for n in range(rounds)]
            mine, bare = (quantiles([1000 * pair[side] for pair in pairs], n=100) for side in (0, 1))
            figures = [mine[49], mine[98], bare[49], bare[98]]
            table.add_row(verb, str(count), *(f"{f:.2f}" for f in figures), f"{mine[49] / bare[49]:.2f}", f"{mine[98] / bare[98]:.2f}")
    return table


def arrivals(fed: http.client.HTTPConnection, others: dict[str, http.client.HTTPConnection], names: list[str]) -> Table:
    """The cost of telemetry of every node every 15 s for filter, compared with an extender without telemetry (fewer than half of its node
    states are distinct) and with one that has the same telemetry but receives none."""
    table = Table(title=f"filter while telemetry of {NODES} nodes arrives every 15 s, ms", title_justify="left")
    for column in ("names", "beside", "p50", "p99", "beside p50", "beside p99", "p50 ratio", "p99 ratio"):
        table.add_column(column, justify="left" if column == "beside" else "right")
    time.sleep(20)  # longer than the interval, so that the telemetry of every node is known
    for count, rounds in ((500, 500), (5000, 300)):
        chosen = random.Random(count).sample(names, count)
        bodies = [json.dumps({"Pod": pod(size), "Nodes": None, "NodeNames": chosen}).encode() for size in (1, 2, 4, 8)]
        for connection in (fed, *others.values()):
            for body in bodies:
                ask(connection, "filter", body)
        rows = []
        for n in range(rounds):
            rows.append([1000 * ask(connection, "filter", bodies[n % 4]) for connection in (fed, *others.values())])
            time.sleep(0.02)
        mine, *bare = (quantiles(column, n=100) for column in zip(*rows, strict=True))
        for name, one in zip(others, bare, strict=True):
            figures = [f"{mine[49]:.2f}", f"{mine[98]:.2f}", f"{one[49]:.2f}", f"{one[98]:.2f}"]
            table.add_row(str(count), name, *figures, f"{mine[49] / one[49]:.2f}", f"{mine[98] / one[98]:.2f}")
    return table


def parsing() -> str:
    """Our parser compared with that of prometheus-client, on an exposition of eight GPUs."""
    text = dcgm_text({f"GPU-{n}": {f"DCGM_FI_DEV_OTHER_{m}": m for m in range(12)} for n in range(8)})
    lines = text.count("\n")
    ours = min(_timed(lambda: dcgm.devices(parse(text, dcgm.wanted, whole=True).samples))[1] for _ in range(50))
    theirs = min(_timed(lambda: [s for f in text_string_to_metric_families(text) for s in f.samples])[1] for _ in range(10))
    return (
        f"exposition of 8 GPUs, {lines} lines: {lines / ours:,.0f} lines/s to readings, prometheus-client {lines / theirs:,.0f} to samples"
        f" ({theirs / ours:.0f}x); 5,000 such nodes every 15 s: {5000 / 15 * ours:.0%} of a core, else {5000 / 15 * theirs:.0%}"
    )


def first_judgements() -> str:
    """The cost of the first evaluation of a node state, compared with a later look-up."""
    state = snapshot(*cluster(800))
    evaluator = Evaluator(DEFAULT_POLICY)
    demand = demand_of(pod_struct(pod(4)), "nvidia.com/gpu")
    assert isinstance(demand, Demand)
    states = list({view.state for view in state.views.values()})
    spent = []
    for _ in range(2):
        started = time.perf_counter()
        for one in states:
            evaluator.evaluate(demand, one)
        spent.append((time.perf_counter() - started) / len(states))
    first, again = (1e6 * seconds for seconds in spent)
    return f"{len(states)} distinct states: first judgement {first:.0f} us, again {again:.2f} us ({first / again:.0f}x)"


def tables() -> Table:
    """The cost of the whole table of a machine shape, compared with one set; and of sixteen GPUs, whose table is built partly."""
    table = Table(title="tables per machine shape", title_justify="left")
    columns = ("platform", "GPUs", "kinds of set", "table s", "MB", "whole set alone s", "look-up us", "first answer s", "prediction ms")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=column == "platform")
    for name in ("dgx-1v", "dgx-1p", "a100-pcie-bridge-pairs", "hgx-h100", "rtx4090", "dgx-2"):
        table.add_row(name, *(f"{figure:.3g}" for figure in _figures(name)))
    return table


def _figures(name: str) -> tuple[float, ...]:
    machine = machine_of(name)
    whole = (1 << len(machine.gpus)) - 1
    _, first = _timed(lambda: fresh_table(machine).extremes(whole, 4))
    built = fresh_table(machine)
    _, took = _timed(built.warm)
    tracemalloc.start()
    kept = fresh_table(machine)
    kept.warm()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    _, alone = _timed(lambda: all_reduce(built.fabric, positions_of(whole)))
    masks = list(range(min(whole, 4095) + 1))
    _, looked = _timed(lambda: [built.busbw_gbps(mask) for mask in masks])
    slowest = max(_timed(partial(fresh_table(machine).predictor.predict, whole, ((k, False),)))[1] for k in range(1, 1 + built.size))
    return kept.size, len(built.sets.distinct), took, held / 1e6, alone, 1e6 * looked / len(masks), first, 1e3 * slowest


def _timed(work: Callable[[], object]) -> tuple[object, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def main() -> None:
    """Run all and print."""
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder) / "cluster.json"
        objects = list(cluster(NODES))
        dump.write_text(json.dumps({"kind": "List", "items": objects}))
        config = Path(folder) / "extender.yaml"
        config.write_text("server: {log_level: warning}\n")
        names = [thing["metadata"]["name"] for thing in objects if thing["kind"] == "Node"]
        console.print(f"starting two servers, {NODES} nodes ...")
        serve = ("extender.cli.app", "serve", "--cluster", str(dump), "--config", str(config), "--port", "PORT")
        with server(*serve) as ours, server("tests.bench.floor", "PORT") as floor:
            console.print(verbs(ours, floor, names))
        console.print(f"starting three servers, {NODES} nodes, telemetry arriving at one of them ...")
        calm, still, arriving = (("tests.bench.arriving", mode, str(dump), "PORT") for mode in ("calm", "still", "arriving"))
        with server(*calm) as none, server(*still) as known, server(*arriving) as fed:
            console.print(arrivals(fed, {"no telemetry": none, "known, none arriving": known}, names))
    console.print(parsing())
    console.print(first_judgements())
    console.print(tables())


if __name__ == "__main__":
    main()
