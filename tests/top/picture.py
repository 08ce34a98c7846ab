"""`python -m tests.top.picture docs/pictures`: the pictures of `fabricwise top` in the documentation, from a simulated cluster."""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

from extender.cli.top.live_data import OwnData
from extender.cli.top.top_app import TopApp
from extender.errors import ClusterSourceError
from extender.kube.objects.decode import seen
from extender.scheduling.ports import Cluster
from extender.server.service import Service, build_service
from extender.settings import Settings
from extender.sources.simulated import SimulatedCluster, simulated
from tests.objects import pod
from tests.top.test_top_app import settled, shown

SIZE = (118, 24)
SHOWN = "a100-pcie-bridge-pairs-0"
"""The node that is opened: it has a free GPU, which an unknown process uses."""
NAMES = ("llm-70b", "embed", "rerank", "asr", "train", "batch")


def filled(settings: Settings, pods: int = 29) -> Service:
    """Return a service on the demo cluster with pods, telemetry, an unknown process and a GPU error."""
    service, cluster = build_service(settings, Cluster("the simulated cluster")), simulated(settings.resource)
    service.store.apply(cluster.listing())
    random_choice = random.Random(3)
    for number in range(pods):
        name = f"{random_choice.choice(NAMES)}-{number}"
        _bind(cluster, service, pod(random_choice.choice((1, 2, 2, 4)), name=name), random_choice)
    cluster.stray(SHOWN, cluster.machines[SHOWN].indices(cluster.free(SHOWN))[0], 60 << 30)
    cluster.xid("dgx-1v-1", 5, 79)
    service.store.apply(cluster.telemetry(time.monotonic()))
    waiting = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/14 nodes are available: 14 too few free GPUs"}]}
    service.store.apply([seen("Pod", pod(8, name="llm-405b", status=waiting))])
    return service


def _bind(cluster: SimulatedCluster, service: Service, manifest: dict[str, Any], chance: random.Random) -> None:
    for node in chance.sample(list(cluster.machines), len(cluster.machines)):
        try:
            cluster.bind(manifest, node, service.store)
        except ClusterSourceError:  # the node is full
            continue
        return


async def pictures(service: Service) -> dict[str, str]:
    """Return file name -> SVG of the nodes, and of one node."""
    app, drawn = TopApp(OwnData(service, lambda: [], "the demo", 3600.0), 3600.0), dict[str, str]()
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        drawn["top-nodes.svg"] = app.export_screenshot()
        app.table.move_cursor(row=shown(app).index(SHOWN))
        await pilot.press("enter")
        await settled(pilot)
        drawn["top-node.svg"] = app.export_screenshot()
    return {name: re.sub(r"@font-face\s*{.*?}", "", svg, flags=re.S) for name, svg in drawn.items()}


if __name__ == "__main__":
    for name, svg in asyncio.run(pictures(filled(Settings()))).items():
        (Path(sys.argv[1]) / name).write_text(svg)
