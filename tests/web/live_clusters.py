"""Served clusters and readers of their stream, for the tests of the live view."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from extender.scheduling.ports import Cluster
from extender.server.http_servers import debug_server_for, server_for
from extender.server.service import Service, build_service
from extender.settings import DebugAuth, Server, Settings
from extender.sources.simulated import SimulatedCluster, simulated

Frame = dict[str, Any]
"""One event: `event`, `id` (None where it has none) and `data`, decoded."""


def small_service(counts: dict[str, int] | None = None, cluster: Cluster | None = None, **server: Any) -> tuple[Service, SimulatedCluster]:
    """Return a service of a simulated cluster; `server`: settings of that group."""
    settings = Settings(server=Server(log_level="error", **server))
    service, machines = build_service(settings, cluster), simulated(settings.resource, counts or {"t4": 2, "hgx-h100": 1})
    service.store.apply(machines.listing())
    return service, machines


@contextmanager
def running(server: uvicorn.Server) -> Iterator[str]:
    """Run a server in a thread until the block ends, and yield its URL."""
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def served_verbs(service: Service) -> Iterator[httpx.Client]:
    """A client of the port of the verbs."""
    with running(server_for(service, "127.0.0.1", 0)) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield client


@contextmanager
def served_debug(service: Service, **headers: str) -> Iterator[httpx.Client]:
    """A client of the debug port."""
    with running(debug_server_for(service, "127.0.0.1", 0)) as url, httpx.Client(base_url=url, timeout=20, headers=headers) as client:
        yield client


@contextmanager
def following(client: httpx.Client, last_event_id: str | None = None) -> Iterator[Iterator[Frame]]:
    """The events of the stream, as they come."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    with client.stream("GET", "/v1/stream", headers=headers) as response:
        assert response.status_code == 200, response.read()
        yield frames_in(response.iter_lines())


def frames_in(lines: Iterator[str]) -> Iterator[Frame]:
    """Parse server-sent events."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield {"event": fields["event"], "id": fields.get("id"), "data": json.loads(fields["data"])}
            fields = {}


def next_of(frames: Iterator[Frame], event: str) -> Frame:
    """Return the next event of a kind."""
    return next(frame for frame in frames if frame["event"] == event)


KUBERNETES = DebugAuth(mode="kubernetes")
