"""Servers for the conformance cases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from extender.decision.state.changes import Listed
from extender.kube.objects.decode import seen
from extender.server.service import build_service
from extender.settings import Server, Settings
from extender.sources.simulated import simulated
from tests.conformance.calls import Args, Small
from tests.conftest import Served, serve
from tests.objects import GPU


@pytest.fixture
def names(served: Served) -> list[str]:
    return list(served.cluster.machines)


@pytest.fixture
def small() -> Iterator[Small]:
    """Return a function that starts a server whose cluster has only the given objects."""
    running: list[Iterator[Served]] = []

    def start(*manifests: Args, **settings: Any) -> Served:
        service = build_service(Settings(server=Server(log_level="error"), **settings))
        kinds = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}
        for kind, listed in kinds.items():
            service.store.apply((Listed(listed, tuple(seen(kind, one) for one in manifests if one["kind"] == kind)),))
        running.append(serve(service, simulated(GPU)))
        return next(running[-1])

    yield start
    for server in running:
        next(server, None)
