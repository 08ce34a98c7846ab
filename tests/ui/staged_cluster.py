"""A simulated cluster with pods, faults and telemetry, served by the real HTTP service; pods come and go as a test or screenshot asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from extender.decision.state.changes import PodGone, TopologySeen
from extender.kube.objects.decode import seen
from extender.scheduling.ports import Cluster
from extender.server.http_servers import server_for
from extender.server.service import Service, build_service
from extender.settings import Server, Settings
from extender.sources.simulated import SimulatedCluster, cluster_machines
from extender.web.live.cluster_history import SIZES as HISTORY_SIZES
from extender.web.live.cluster_history import ClusterHistory, Sample
from tests.waiting import wait
from topology.gputopology.topology_record import Allocation, DeviceStatus
from topology.machine.hardware import Machine

PLATFORMS: dict[str, int] = {
    "hgx-b200": 2,
    "hgx-h200": 1,
    "hgx-h100": 4,
    "dgx-a100": 2,
    "dgx-1v": 2,
    "a100-pcie-bridge-pairs": 3,
    "a40-bridge-pairs": 1,
    "l40s": 3,
    "l4": 2,
    "t4": 2,
}
BROKEN_NODE = "a100-pcie-bridge-pairs-1"
"""Its bridge between GPU 2 and GPU 3 is missing."""
SLOW_POD = "chat/llama-70b-1"
"""It holds GPU 2 and GPU 3 of `BROKEN_NODE`."""
SIZES = (2, 4, 1, 8, 2, 1, 4, 2, 1, 2, 8, 1, 4, 2, 2, 1)
NAMES = ("llama-70b", "qwen3-32b", "whisper", "mixtral", "rerank", "embed", "deepseek-v3", "sdxl")


def without_bridge(machine: Machine, a: int, b: int) -> Machine:
    """Return the machine without the NVLinks between two positions; the driver reports them as not up."""
    lost = machine.nvlinks[a][b]
    links = [list(row) for row in machine.nvlinks]
    links[a][b] = links[b][a] = 0
    gpus = tuple(replace(gpu, dead_links=lost) if position in (a, b) else gpu for position, gpu in enumerate(machine.gpus))
    return replace(machine, gpus=gpus, nvlinks=tuple(tuple(row) for row in links))


class Machines(SimulatedCluster):
    """The simulated cluster, with pods on given GPUs and pods that end."""

    def put(self, manifest: dict[str, Any], node: str, indices: tuple[int, ...]) -> None:
        """Let a pod hold exactly these GPUs."""
        status, meta = self._status[node], manifest["metadata"]
        held = tuple(Allocation(index, meta["uid"], meta["namespace"], meta["name"]) for index in indices)
        free = tuple(index for index in status.free or () if index not in indices)
        self._status[node] = DeviceStatus(free, status.allocated + held, status.unhealthy)

    def release(self, uid: str) -> str | None:
        """End a pod. Returns its node; None where no node has it."""
        for node, status in self._status.items():
            mine = tuple(each.index for each in status.allocated if each.pod_uid == uid)
            if mine:
                kept = tuple(each for each in status.allocated if each.pod_uid != uid)
                self._status[node] = DeviceStatus(tuple(sorted((*(status.free or ()), *mine))), kept, status.unhealthy)
                return node
        return None


def pod_manifest(
    name: str, gpus: int, namespace: str = "chat", floor_gbps: float | None = None, age_seconds: float = 0.0
) -> dict[str, Any]:
    """Return a pod that asks for GPUs; its uid is namespace/name."""
    annotations = {} if floor_gbps is None else {"fabricwise.dev/min-busbw": f"{floor_gbps:g}"}
    created = (datetime.now(UTC) - timedelta(seconds=age_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta = {"name": name, "namespace": namespace, "uid": f"{namespace}/{name}", "annotations": annotations, "creationTimestamp": created}
    container = {"name": "server", "image": "vllm/vllm-openai", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container], "schedulerName": "gpu-scheduler"}}


class Stage:
    """A service with its cluster."""

    def __init__(self, machines: dict[str, Machine] | None = None) -> None:
        """`machines`: node name -> machine; by default twenty-two nodes of ten platforms, of which one lacks a bridge."""
        self.settings = Settings(server=Server(log_level="warning"))
        self.service: Service = build_service(self.settings, Cluster("the staged cluster"))
        if machines is None:
            machines = cluster_machines(PLATFORMS)
            machines[BROKEN_NODE] = without_bridge(machines[BROKEN_NODE], 2, 3)
        self.machines = Machines(machines, self.settings.resource)
        self.service.store.apply(self.machines.listing())
        self._placed = 0

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[str]:
        """Serve on a port of the loopback interface, by default a free one. Yields the address."""
        server = server_for(self.service, "127.0.0.1", port)
        thread = threading.Thread(target=server.run, name="ui-server", daemon=True)
        thread.start()
        wait("the server has started", lambda: server.started)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)

    def place(self, manifest: dict[str, Any], client: httpx.Client, *, bind: bool = True) -> str | None:
        """Schedule a pod through the verbs, as kube-scheduler does. Returns its node; None where it stays Pending.

        `bind` False: the pod is decided and never seen on its node.
        """
        gpus = int(manifest["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
        self.service.store.apply((seen("Pod", {**manifest, "status": {"phase": "Pending"}}),))
        fits = [name for name in self.machines.machines if self.machines.free(name).bit_count() >= gpus]
        answer = client.post("/scheduler/filter", json={"Pod": manifest, "NodeNames": fits}).json()
        if not answer["NodeNames"]:
            return None
        scores = client.post("/scheduler/prioritize", json={"Pod": manifest, "NodeNames": answer["NodeNames"]}).json()
        node: str = max(scores, key=lambda entry: entry["Score"])["Host"]
        if bind:
            self.machines.bind(manifest, node, self.service.store)
        return node

    def put(self, manifest: dict[str, Any], node: str, indices: tuple[int, ...]) -> None:
        """Let a pod run on exactly these GPUs of a node."""
        self.machines.put(manifest, node, indices)
        bound = {**manifest, "spec": {**manifest["spec"], "nodeName": node}, "status": {"phase": "Running"}}
        self.service.store.apply((seen("Pod", bound), TopologySeen(node, self.machines.record(node))))

    def end(self, uid: str) -> None:
        """End a pod."""
        node = self.machines.release(uid)
        if node is not None:
            self.service.store.apply((PodGone(uid), TopologySeen(node, self.machines.record(node))))

    def measure(self) -> None:
        """Apply the telemetry of all nodes now."""
        self.service.store.apply(self.machines.telemetry(time.monotonic()))

    def play(self, client: httpx.Client) -> None:
        """Fill the cluster about half, with faults: what the screenshots show."""
        self.service.feed.history = ClusterHistory()  # without the sample of this moment, which would be before the older ones
        slow = SLOW_POD.split("/")[1]
        self.put(pod_manifest(slow, 2, age_seconds=5400), BROKEN_NODE, (2, 3))
        for number, gpus in enumerate(SIZES + SIZES[:11]):
            self.place(pod_manifest(f"{NAMES[number % len(NAMES)]}-{number + 2}", gpus, age_seconds=3600 - 60 * number), client)
            self.remember(3600.0 - 130 * number)
        self.machines.stray("dgx-1v-1", 6, 21 << 30)
        self.machines.xid("hgx-h100-3", 5, 79)
        self.measure()
        self.place(pod_manifest("deepseek-v3-40", 4, "research"), client, bind=False)
        self.place(pod_manifest("train-8-wide", 8, "research", floor_gbps=900), client)
        self.measure()
        self._placed = 100

    def remember(self, age_seconds: float) -> None:
        """Add a sample of the cluster as it is now to the history, as if it had been taken some time ago."""
        free = [self.machines.free(name).bit_count() for name in self.machines.machines]
        gpus = sum(len(machine.gpus) for machine in self.machines.machines.values())
        sample = Sample(
            at_seconds=time.time() - age_seconds,
            nodes=len(free),
            gpus=gpus,
            free=sum(free),
            taken=gpus - sum(free),
            assumed=0,
            excluded=0,
            unknown=0,
            pending=0,
            fits={str(size): sum(each // size for each in free) for size in HISTORY_SIZES},
            slots=None,
        )
        self.service.feed.history.add(sample, time.monotonic())

    def next_pod(self, client: httpx.Client, gpus: int = 2) -> str:
        """Place one further pod. Returns namespace/name."""
        self._placed += 1
        name = f"{NAMES[self._placed % len(NAMES)]}-{self._placed}"
        self.place(pod_manifest(name, gpus), client)
        self.measure()
        return f"chat/{name}"
