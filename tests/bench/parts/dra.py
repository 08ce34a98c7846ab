"""Filter at 5,000 nodes, half of them served by Dynamic Resource Allocation, against the same nodes with device plugins: p50 of both.

`python -m tests.bench.parts.dra`. Both are measured in turns in one process, because only their ratio means anything on a busy machine.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable

from extender.decision.state.changes import Listed
from extender.kube.objects.decode import seen
from extender.scheduling.scheduling_service import NotDecided
from extender.server.service import build_service
from extender.settings import Settings
from extender.sources.simulated import node_manifest
from extender.sources.simulated_dra import allocated, claim_manifest, class_manifest, exact_request, slice_manifests
from extender.web.scheduler_api import SchedulerApi
from tests.objects import pod
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import TopologyRecord
from topology.platforms import machine_of

NODES, ROUNDS = 5_000, 200
PLATFORMS = ("hgx-h100", "dgx-a100", "dgx-1v", "l40s")
SIZES = (1, 2, 4, 8)


def filter_of(dra_share: float) -> Callable[[bytes], None]:
    """The filter verb of an extender that knows `NODES` nodes with some GPUs in use, of which a share is served by claims."""
    apis: list[SchedulerApi] = []

    class Kept(SchedulerApi):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            apis.append(self)

    store = build_service(Settings(), scheduler_api=Kept).store
    dice = random.Random(4)
    objects: dict[str, list[dict[str, object]]] = {"Node": [], "Pod": [], "GpuTopology": [], "ResourceSlice": [], "ResourceClaim": []}
    for number in range(NODES):
        name, platform = f"n{number}", PLATFORMS[number % len(PLATFORMS)]
        machine, taken = machine_of(platform, name), dice.randrange(0, 7)
        node = node_manifest(name, machine)
        objects["GpuTopology"].append(encode(TopologyRecord(name, machine)))
        running = pod(taken, name=f"p{number}", node=name) if taken else None
        if number < NODES * dra_share:
            node["status"]["allocatable"] = {"cpu": "192"}
            objects["ResourceSlice"] += slice_manifests(name, machine)
            if running is not None:
                claim = claim_manifest(f"c{number}", [exact_request(taken)], "team")
                objects["ResourceClaim"].append(
                    allocated(claim, name, [f"gpu-{i}" for i in range(taken)], [(f"uid-p{number}", f"p{number}")])
                )
        objects["Node"].append(node)
        objects["Pod"] += [running] if running is not None else []
    listed = {
        "ResourceSlice": "resourceslices",
        "ResourceClaim": "resourceclaims",
        "Pod": "pods",
        "GpuTopology": "topologies",
        "Node": "nodes",
    }
    store.apply((Listed("deviceclasses", (seen("DeviceClass", class_manifest()),)),))
    for kind, name in listed.items():
        store.apply((Listed(name, tuple(seen(kind, one) for one in objects[kind])),))
    api = apis[0]

    async def complete(body: bytes) -> None:
        while isinstance(await api.filter(body), NotDecided):
            pass

    return lambda body: asyncio.run(complete(body))


def main() -> None:
    """Measure and print."""
    started = time.perf_counter()
    plugin = filter_of(0.0)
    middle = time.perf_counter()
    mixed = filter_of(0.5)
    print(f"listed: {middle - started:.1f} s without DRA, {time.perf_counter() - middle:.1f} s with half")
    names = [f"n{number}" for number in range(NODES)]
    bodies = [json.dumps({"Pod": pod(size, name=f"ask{size}"), "NodeNames": names}).encode() for size in SIZES]
    took: dict[str, list[float]] = {"plugin": [], "mixed": []}
    for round_ in range(ROUNDS):
        body = bodies[round_ % len(bodies)]
        for name, verb in (("plugin", plugin), ("mixed", mixed)):
            begun = time.perf_counter()
            verb(body)
            took[name].append(time.perf_counter() - begun)
    p50 = {name: statistics.median(times[len(SIZES) :]) * 1000 for name, times in took.items()}
    print(f"filter, {NODES} nodes, p50: {p50['plugin']:.2f} ms without DRA, {p50['mixed']:.2f} ms with half DRA")
    print(f"ratio {p50['mixed'] / p50['plugin']:.3f}")


if __name__ == "__main__":
    main()
