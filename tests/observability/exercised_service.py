"""A service that decides, refuses, errs and measures, so that its metrics have values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from extender.kube.objects.decode import seen
from extender.server.service import Service
from tests.objects import node, pod
from tests.web.live_clusters import following, served_verbs, small_service

_NAMES = ["hgx-h100-0", "t4-0", "t4-1"]


@contextmanager
def exercised() -> Iterator[tuple[Service, httpx.Client]]:
    """Yield the service and a client of its verbs and metrics, while it serves and one client follows the live view."""
    service, machines = small_service()
    store = service.store
    with served_verbs(service) as client, following(client) as events:
        next(events)
        store.apply(machines.telemetry(1.0))
        placed = pod(2, name="placed")
        for verb in ("filter", "prioritize"):
            client.post(f"/scheduler/{verb}", json={"Pod": placed, "NodeNames": _NAMES})
        machines.bind(placed, "hgx-h100-0", store)
        client.post("/scheduler/filter", json={"Pod": pod(16, name="large"), "NodeNames": _NAMES})
        client.post("/scheduler/filter", content=b"no JSON")
        client.post("/scheduler/preempt", json={"Pod": placed, "NodeNameToMetaVictims": {}})
        client.post("/scheduler/bind", json={"PodName": "x", "PodNamespace": "y", "PodUID": "z", "Node": "t4-0"})
        machines.xid("t4-0", 0, 79)
        store.apply((*machines.telemetry(2.0), seen("Node", node("t4-1", 4, labels={"nvidia.com/gpu.product": "A100"}))))
        yield service, client
