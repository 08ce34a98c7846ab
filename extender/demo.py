"""The show: the real HTTP service on a simulated cluster, pods scheduled through the real verbs, live in a terminal.

Beside it the same stream is placed by a count-only scheduler: kube-scheduler's default, which prefers the node with the
largest share of free GPUs and does not ask how they are joined. Both clusters hand out devices by the same rules.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from extender.adapters.simulated import SimulatedCluster, simulated
from extender.errors import ClusterSourceError, FabricwiseError
from extender.service import Service, build_service, server_for
from extender.settings import Server, Settings
from extender.show import gbps, gpu_set
from topology.hardware import mask_of
from topology.placement import table_for

_SIZES, _CHANCES = (1, 2, 4, 8), (0.25, 0.35, 0.30, 0.10)
_START_SECONDS = 20.0


@dataclass(slots=True)
class Placed:
    """One pod of the stream: where we put it and where a count-only scheduler did."""

    pod: str
    size: int
    node: str | None = None
    gpus: tuple[int, ...] = ()
    predicted_gbps: float | None = None
    actual_gbps: float | None = None
    counted_node: str | None = None
    counted_gbps: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class Stage:
    """What is on screen."""

    ours: SimulatedCluster
    url: str
    total: int
    rows: int
    """Pods that fit on the screen below the cluster."""
    placed: list[Placed] = field(default_factory=list)
    news: str = "telemetry: all GPUs well"
    stray: tuple[str, int] = ("", 0)
    """Where the stray process runs."""


def run_demo(console: Console, pods: int, seed: int, pause_seconds: float, once: bool) -> None:
    """Run the stream, then a summary; without `once` the service stays up until Ctrl-C."""
    settings = Settings(server=Server(log_level="warning"))
    service = build_service(settings)
    ours, counting = simulated(settings.resource), simulated(settings.resource)
    console.print("Computing what every set of GPUs of ten platforms is worth ...", style="dim")
    service.live.apply(ours.listing())
    with _serving(service) as url, httpx.Client(base_url=url, timeout=10) as client:
        stage = Stage(ours, url, pods, rows=max(3, console.height - len(ours.machines) - 10))
        view = Live(_screen(stage), console=console, refresh_per_second=8) if console.is_terminal else nullcontext()
        try:
            with view as live:
                for pod in _stream(pods, seed):
                    told = _happen(stage, len(stage.placed))
                    service.live.apply(ours.looks(time.monotonic()))
                    if told and live is None:
                        console.print(f"-- {told}", highlight=False, soft_wrap=True)
                    stage.placed.append(_place(pod, client, service, ours, counting))
                    if live is not None:
                        live.update(_screen(stage))
                    else:
                        console.print(_line(stage.placed[-1]), highlight=False, soft_wrap=True)
                    time.sleep(pause_seconds)
            console.print(_summary(stage))
            if not once:
                console.print(f"\nStill serving: {url}/docs, {url}/v1/decisions, {url}/v1/nodes. Ctrl-C ends.", style="bold")
                threading.Event().wait()
        except KeyboardInterrupt:
            console.print("ended")


@contextmanager
def _serving(service: Service) -> Iterator[str]:
    """The service on a free loopback port; yields its URL. Raises FabricwiseError when it does not come up."""
    server = server_for(service, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, name="demo-server", daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise FabricwiseError("the demo's HTTP server did not start on 127.0.0.1")
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def _stream(pods: int, seed: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(seed)
    for number in range(pods):
        size = chance.choices(_SIZES, _CHANCES)[0]
        container = {"name": "server", "resources": {"limits": {"nvidia.com/gpu": str(size)}}}
        name = f"llm-{number:03d}-tp{size}"
        yield {"metadata": {"name": name, "namespace": "demo", "uid": name}, "spec": {"containers": [container]}}


def _place(pod: dict[str, Any], client: httpx.Client, service: Service, ours: SimulatedCluster, counting: SimulatedCluster) -> Placed:
    """One scheduling cycle over HTTP, as kube-scheduler would do it, and the count-only one beside it."""
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
        raise ClusterSourceError(f"filter answered: {answer['Error']}")
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
    placed.gpus = ours.bind(pod, placed.node, service.live)
    placed.actual_gbps = _speed(ours, placed.node, placed.gpus)
    return placed


def _happen(stage: Stage, number: int) -> str | None:
    """What befalls the cluster's GPUs meanwhile: a stray process on a free one, its end, and an error of another free one."""
    ours = stage.ours
    if number == stage.total // 4:
        stage.stray = node, gpu = _free_gpu(ours)
        ours.stray(node, gpu, 60 << 30)
        stage.news = f"telemetry: on {node} a process unknown to Kubernetes takes 60 GiB of GPU {gpu}, which is free on paper"
    elif number == stage.total // 2:
        ours.stray(*stage.stray, 0)
        stage.news = f"telemetry: the process on {stage.stray[0]} has ended"
    elif number == 2 * stage.total // 3:
        node, gpu = _free_gpu(ours)
        ours.xid(node, gpu, 79)
        stage.news = f"telemetry: {node} GPU {gpu} reports XID 79: it has fallen off the bus"
    else:
        return None
    return stage.news


def _free_gpu(ours: SimulatedCluster) -> tuple[str, int]:
    """A free GPU on the node where most are, and the best-connected of those: where the next pod would go."""
    worth = {name: (table_for(m).capability(ours.free(name), {4: 1.0}), ours.free(name).bit_count()) for name, m in ours.machines.items()}
    node = max(worth, key=lambda name: worth[name])
    free = ours.machines[node].indices(ours.free(node))
    return node, free[-1] if free else 0


def _count_only(cluster: SimulatedCluster, size: int) -> str | None:
    """The node with the largest share of free GPUs: NodeResourcesFit's LeastAllocated."""
    shares = {
        name: cluster.free(name).bit_count() / len(machine.gpus)
        for name, machine in cluster.machines.items()
        if cluster.free(name).bit_count() >= size
    }
    return max(shares, key=lambda name: shares[name], default=None)


def _speed(cluster: SimulatedCluster, node: str, gpus: tuple[int, ...]) -> float | None:
    machine = cluster.machines[node]
    return table_for(machine).busbw_gbps(mask_of(machine.positions(list(gpus))))


def _line(placed: Placed) -> str:
    where = f"{placed.node} {gpu_set(placed.gpus)}" if placed.node else f"pending: {'; '.join(placed.reasons)}"
    figures = f"predicted {gbps(placed.predicted_gbps):>5} got {gbps(placed.actual_gbps):>5} GB/s"
    return f"{placed.pod:<13} {where:<45} {figures}   count-only: {_counted(placed)}"


def _counted(placed: Placed) -> str:
    """What the count-only scheduler would have given the pod."""
    if placed.counted_node is None:
        return "pending"
    return placed.counted_node if placed.counted_gbps is None else f"{gbps(placed.counted_gbps)} on {placed.counted_node}"


def _screen(stage: Stage) -> RenderableType:
    pods = Table(title=f"pods, newest last ({len(stage.placed)} of {stage.total}); verbs on {stage.url}", title_justify="left", expand=True)
    for name, justify in (
        ("pod", "left"),
        ("node", "left"),
        ("GPUs", "left"),
        ("predicted GB/s", "right"),
        ("got", "right"),
        ("count-only would get", "right"),
    ):
        pods.add_column(name, justify="right" if justify == "right" else "left", no_wrap=True)
    for placed in stage.placed[-stage.rows :]:
        ahead = (placed.actual_gbps or 0) > (placed.counted_gbps or 0)
        pods.add_row(
            placed.pod,
            placed.node or Text("pending", style="yellow"),
            gpu_set(placed.gpus) if placed.gpus else "-",
            gbps(placed.predicted_gbps),
            Text(gbps(placed.actual_gbps), style="green" if ahead else ""),
            _counted(placed),
        )
    return Group(_cluster(stage), pods)


def _cluster(stage: Stage) -> Table:
    table = Table(title=f"cluster: ■ taken  □ free; {stage.news}", title_justify="left", expand=True)
    for name in ("node", "GPUs", "product", "best pair left", "best four left"):
        table.add_column(name, justify="right" if "left" in name else "left", no_wrap=True)
    for name, machine in stage.ours.machines.items():
        free, known = stage.ours.free(name), table_for(machine)
        boxes = "".join("□" if free >> place & 1 else "■" for place in range(len(machine.gpus)))
        best = [known.extremes(free, size) for size in (2, 4)]
        speeds = [gbps(found[0].busbw_gbps) if found else "-" for found in best]
        table.add_row(name, boxes, (machine.gpus[0].product or "").removeprefix("NVIDIA "), *speeds)
    return table


def _summary(stage: Stage) -> RenderableType:
    table = Table(title="what the pods of two and more GPUs got, GB/s all-reduce (mean)", title_justify="left")
    for name in ("pod size", "pods placed by both", "fabricwise", "count-only", "gain"):
        table.add_column(name, justify="right", no_wrap=True)
    for size in (2, 4, 8):
        both = [p for p in stage.placed if p.size == size and p.actual_gbps is not None and p.counted_gbps is not None]
        if both:
            ours = sum(p.actual_gbps or 0 for p in both) / len(both)
            counted = sum(p.counted_gbps or 0 for p in both) / len(both)
            table.add_row(str(size), str(len(both)), gbps(ours), gbps(counted), f"{ours / counted:.1f}x" if counted else "-")
    landed = sum(p.node is not None for p in stage.placed)
    counted_landed = sum(p.counted_node is not None for p in stage.placed)
    close = [p for p in stage.placed if p.predicted_gbps and p.actual_gbps and abs(p.actual_gbps / p.predicted_gbps - 1) <= 0.05]
    linked = [p for p in stage.placed if p.actual_gbps]
    return Group(
        table,
        Text(f"placed {landed} of {len(stage.placed)} pods (count-only: {counted_landed}); "
             f"{len(close)} of {len(linked)} got within 5 % of the predicted bandwidth"),
    )  # fmt: skip
