"""`fabricwise demo`: the real HTTP service on a simulated cluster, with pods scheduled through the real verbs, live in a terminal.

For comparison, a count-only scheduler places the same pods on an equal cluster: as kube-scheduler does by default, it prefers the node
with the largest share of free GPUs and ignores their links. Both clusters allocate devices by the same rules.

`python -m extender.cli.commands.services.demo FILE.svg` draws the picture of the documentation.
"""

from __future__ import annotations

import io
import random
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import typer
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.live import Live

from extender.cli.rendering.console.output import console
from extender.cli.rendering.demo_screen import SIMULATED, Placed, Stage, one_line, screen, summary
from extender.errors import ClusterSourceError, FabricwiseError
from extender.server.http_servers import server_for
from extender.server.service import Service, build_service
from extender.settings import Server, Settings
from extender.sources.simulated import SimulatedCluster, simulated
from topology.machine.hardware import mask_of
from topology.placement.shared_tables import table_for

_SIZES, _CHANCES = (1, 2, 4, 8), (0.25, 0.35, 0.30, 0.10)
_START_SECONDS = 20.0
_STRAY_SHARE = 0.75
"""Share of a GPU's memory that the process unknown to Kubernetes uses."""
PICTURE_COLUMNS, PICTURE_LINES = 112, 34


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the last pod, for scripts.")] = False,
    pods: Annotated[int, typer.Option("--pods", min=1, max=500, help="Number of pods.")] = 36,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random pod sizes.")] = 7,
    pause_seconds: Annotated[float, typer.Option("--pause", min=0, help="Seconds between pods.")] = 0.25,
) -> None:
    """Watch GPU pods being placed by link quality: the real HTTP service on a simulated cluster.

    Without a terminal it prints a line per pod and ends after the last one.
    """
    watched = console.is_terminal
    run_demo(console, pods=pods, seed=seed, pause_seconds=pause_seconds if watched else 0.0, once=once or not watched)


def run_demo(console: Console, pods: int, seed: int, pause_seconds: float, once: bool) -> None:
    """Place `pods` pods, then print a summary; without `once` the service keeps running until Ctrl-C."""
    console.print("Computing the bandwidth of every set of GPUs of ten platforms ...", style="dim")
    with _playing(pods, seed) as (stage, url, events):
        watched = console.is_terminal
        if not watched:
            console.print(SIMULATED, highlight=False, soft_wrap=True)
        view = Live(screen(stage, *console.size), console=console, refresh_per_second=8) if watched else nullcontext()
        try:
            with view as store:
                for event in events:
                    if store is not None:
                        store.update(screen(stage, *console.size))
                    elif event is not None:
                        console.print(f"-- {event}", highlight=False, soft_wrap=True)
                    if store is None:
                        console.print(one_line(stage.placed[-1]), highlight=False, soft_wrap=True)
                    time.sleep(pause_seconds)
            console.print(summary(stage))
            if not once:
                console.print(f"\nStill serving: {url}/ in a browser, {url}/docs for the API. Ctrl-C ends.", style="bold")
                threading.Event().wait()
        except KeyboardInterrupt:
            console.print("ended")


def picture(pods: int = 36, seed: int = 7) -> str:
    """Return the demo's last screen and summary as SVG text, without references to other files or hosts."""
    console = Console(record=True, file=io.StringIO(), width=PICTURE_COLUMNS, height=PICTURE_LINES, force_terminal=True)
    with _playing(pods, seed) as (stage, _, events):
        for _event in events:
            pass
        console.print(screen(stage, PICTURE_COLUMNS, PICTURE_LINES))
        console.print()
        console.print(summary(stage))
    without_fonts = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)  # the fonts are on a CDN
    return console.export_svg(title="make demo", code_format=without_fonts)


@contextmanager
def _playing(pods: int, seed: int) -> Iterator[tuple[Stage, str, Iterator[str | None]]]:
    """Serve a simulated cluster. Yields what is on screen, the URL, and an iterator that places a pod per step.

    Each step of the iterator yields the event that happened to the GPUs before its pod, or None.
    """
    settings = Settings(server=Server(log_level="warning"))
    service = build_service(settings)
    ours, counting = simulated(settings.resource), simulated(settings.resource)
    service.store.apply(ours.listing())
    stage, started_seconds = Stage(ours, pods), time.monotonic()

    def events(client: httpx.Client) -> Iterator[str | None]:
        for pod in _stream(pods, seed):
            event = _happen(stage, len(stage.placed))
            service.store.apply(ours.telemetry(started_seconds + len(stage.placed)))  # a second per pod, so that every run is the same
            stage.placed.append(_place(pod, client, service, ours, counting))
            yield event

    with _serving(service) as url, httpx.Client(base_url=url, timeout=10) as client:
        yield stage, url, events(client)


@contextmanager
def _serving(service: Service) -> Iterator[str]:
    """Serve on a free loopback port and yield the URL. Raises FabricwiseError if the server does not start."""
    server = server_for(service, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, name="demo-server", daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise FabricwiseError("the demo's HTTP server did not start on 127.0.0.1: check that loopback ports can be opened")
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def _stream(pods: int, seed: int) -> Iterator[dict[str, Any]]:
    generator = random.Random(seed)
    for number in range(pods):
        size = generator.choices(_SIZES, _CHANCES)[0]
        container = {"name": "server", "resources": {"limits": {"nvidia.com/gpu": str(size)}}}
        name = f"llm-{number:03d}-tp{size}"
        yield {"metadata": {"name": name, "namespace": "demo", "uid": name}, "spec": {"containers": [container]}}


def _place(pod: dict[str, Any], client: httpx.Client, service: Service, ours: SimulatedCluster, counting: SimulatedCluster) -> Placed:
    """Run one scheduling cycle over HTTP, as kube-scheduler does, and one of the count-only scheduler. Returns both placements."""
    size = int(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    placed = Placed(pod["metadata"]["name"], size)
    counted = _count_only(counting, size)
    if counted is not None:
        gpus = counting.bind(pod, counted)
        placed.counted_node, placed.counted_gbps = counted, _speed(counting, counted, gpus)
    fits = [name for name in ours.machines if ours.free(name).bit_count() >= size]
    if not fits:
        placed.reasons = ("kube-scheduler counts too few free GPUs on every node",)
        return placed
    answer = client.post("/scheduler/filter", json={"Pod": pod, "NodeNames": fits}).json()
    if answer["Error"]:
        raise ClusterSourceError(f"the demo's filter answered: {answer['Error']}; try another --seed, and report this one")
    feasible = answer["NodeNames"]
    placed.reasons = tuple(sorted({*answer["FailedNodes"].values(), *answer["FailedAndUnresolvableNodes"].values()}))
    if not feasible:
        return placed
    scores = client.post("/scheduler/prioritize", json={"Pod": pod, "NodeNames": feasible}).json()
    best = max(entry["Score"] for entry in scores)
    placed.node = next(entry["Host"] for entry in scores if entry["Score"] == best)
    explained = client.post("/v1/explain", content=msgspec.json.encode(pod)).json()
    row = next(row for row in explained["nodes"] if row["node"] == placed.node)
    placed.predicted_gbps = row["expected_bandwidth_gbps"]
    placed.gpus = ours.bind(pod, placed.node, service.store)
    placed.actual_gbps = _speed(ours, placed.node, placed.gpus)
    return placed


def _happen(stage: Stage, number: int) -> str | None:
    """Return the event before pod `number`, if any: an unknown process starts on a free GPU, it ends, or a free GPU fails."""
    ours, target = stage.ours, _free_gpu(stage.ours)
    if number == stage.total // 4 and target is not None:
        node, index = stage.stray = target
        total = next(gpu.memory_bytes or 0 for gpu in ours.machines[node].gpus if gpu.index == index)
        used = int(_STRAY_SHARE * total)
        ours.stray(node, index, used)
        stage.news = f"telemetry: an unknown process holds {used >> 30} of {total >> 30} GiB of GPU {index} on {node}"
    elif number == stage.total // 2 and stage.stray is not None:
        ours.stray(*stage.stray, 0)
        stage.news = f"telemetry: the process on {stage.stray[0]} has ended"
        stage.stray = None
    elif number == 2 * stage.total // 3 and target is not None:
        node, index = target
        ours.xid(node, index, 79)
        stage.news = f"telemetry: GPU {index} on {node} has fallen off the bus (XID 79): it gets no pods"
    else:
        return None
    return stage.news


def _free_gpu(ours: SimulatedCluster) -> tuple[str, int] | None:
    """Return the last usable GPU of the node whose usable GPUs have the best links, as (node, index); None if no GPU is usable."""
    usable = {name: ours.usable(name) for name in ours.machines}
    quality = {name: (table_for(ours.machines[name]).capability(mask, {4: 1.0}), mask.bit_count()) for name, mask in usable.items() if mask}
    node = max(quality, key=lambda name: quality[name], default=None)
    return None if node is None else (node, ours.machines[node].indices(usable[node])[-1])


def _count_only(cluster: SimulatedCluster, size: int) -> str | None:
    """Return the node with the largest share of free GPUs, as NodeResourcesFit's LeastAllocated scores; None if the pod fits nowhere."""
    shares = {
        name: cluster.free(name).bit_count() / len(machine.gpus)
        for name, machine in cluster.machines.items()
        if cluster.free(name).bit_count() >= size
    }
    return max(shares, key=lambda name: shares[name], default=None)


def _speed(cluster: SimulatedCluster, node: str, gpus: tuple[int, ...]) -> float | None:
    machine = cluster.machines[node]
    return table_for(machine).busbw_gbps(mask_of(machine.positions(list(gpus))))


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture())
