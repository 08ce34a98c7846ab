"""Fixtures for all tests: a served extender, and the optional folder of real-world data beside the checkout."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from extender.server.http_servers import server_for
from extender.server.service import Service, build_service
from extender.settings import Server, Settings
from extender.sources.simulated import SimulatedCluster, simulated
from tests.web.documented_answers import assert_documented

# Some tests play the kubelet by a gRPC server in this process, and others copy this process. gRPC's handlers would end the copies, which do
# not use gRPC. No process of the product does both.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# no health check of speed: it would be about the machine, not about the test
hypothesis_settings.register_profile(
    "fabricwise", deadline=None, max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("fabricwise")

SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report in the summary each check that could not run."""
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    for reason in sorted(set(reasons)):
        terminalreporter.write_line(f"!!! {reasons.count(reason)} skipped: {reason.removeprefix('Skipped: ')}", red=True, bold=True)


@dataclass(frozen=True)
class Served:
    """An extender listening on loopback."""

    service: Service
    cluster: SimulatedCluster
    client: httpx.Client


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real captures beside the checkout; tests that need it are skipped with a message if it is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"NOT TESTED against real captures: {SHARED} is not there")
    return SHARED


@pytest.fixture
def served() -> Iterator[Served]:
    """The simulated cluster behind a real HTTP server, without earlier decisions."""
    settings = Settings(server=Server(log_level="error"))
    service, cluster = build_service(settings), simulated(settings.resource)
    service.store.apply(cluster.listing())
    yield from serve(service, cluster)


def serve(service: Service, cluster: SimulatedCluster) -> Iterator[Served]:
    """Listen on a free port until the generator is closed."""
    server = server_for(service, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    hooks = {"response": [assert_documented]}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, event_hooks=hooks) as client:
        yield Served(service, cluster, client)
    server.should_exit = True
    thread.join(10)
