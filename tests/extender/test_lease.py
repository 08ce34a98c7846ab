"""At most one replica leads at any time; on an API server in memory that keeps resource versions as the real one does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from extender.kube.lease import KubeLease
from extender.settings import Lease
from tests.extender.test_telemetry_feed import wait
from topology.agent.publisher import ApiError

SETTINGS = Lease(duration_seconds=1.0, retry_seconds=0.05)


class Leases:
    """The Leases of one namespace; `broken` lets every request fail."""

    def __init__(self) -> None:
        self.object: dict[str, Any] | None = None
        self.broken: Callable[[], None] = lambda: None
        self.version = 0

    def get(self, path: str) -> dict[str, Any]:
        self.broken()
        if self.object is None:
            raise ApiError(404, "not there")
        return {**self.object, "metadata": dict(self.object["metadata"]), "spec": dict(self.object["spec"])}

    def create(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        self.broken()
        if self.object is not None:
            raise ApiError(409, "is there")
        return self._keep(manifest)

    def replace(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        self.broken()
        if self.object is None or manifest["metadata"]["resourceVersion"] != self.object["metadata"]["resourceVersion"]:
            raise ApiError(409, "has changed")
        return self._keep(manifest)

    def _keep(self, manifest: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.object = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}}
        return self.object


@pytest.fixture
def leases() -> Leases:
    return Leases()


Replica = Callable[[str], KubeLease]


@pytest.fixture
def replica(leases: Leases) -> Iterator[Replica]:
    started: list[KubeLease] = []

    def start(name: str) -> KubeLease:
        lease = KubeLease(leases, SETTINGS, name)  # type: ignore[arg-type]
        lease.start()
        started.append(lease)
        return lease

    yield start
    leases.broken = lambda: None
    for lease in started:
        lease.stop()


def test_second_replica_does_not_lead_while_the_first_renews(leases: Leases, replica: Replica) -> None:
    one = replica("one")
    wait("one leads", one.is_leading)
    other = replica("other")
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        assert one.is_leading()
        assert not other.is_leading()
        time.sleep(0.02)


def test_replica_that_stops_releases_the_lease(leases: Leases, replica: Replica) -> None:
    one = replica("one")
    wait("one leads", one.is_leading)
    other = replica("other")
    stopped = time.monotonic()
    one.stop()
    assert not one.is_leading()
    wait("other leads", other.is_leading)
    assert time.monotonic() - stopped < SETTINGS.duration_seconds + 0.5
    assert leases.object is not None
    assert leases.object["spec"]["holderIdentity"] == "other"


def test_lease_of_a_replica_that_ended_is_taken_after_its_duration(leases: Leases, replica: Replica) -> None:
    leases.object = {
        "metadata": {"name": "fabricwise", "namespace": "x", "resourceVersion": "0"},
        "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": "2999-01-01T00:00:00.000000Z", "leaseTransitions": 4},
    }
    one = replica("one")
    waited_seconds = wait("one leads", one.is_leading)
    assert waited_seconds > 0.5, "the time of the renewal is not compared with this replica's clock"
    assert leases.object["spec"]["leaseTransitions"] == 5


def test_replica_that_cannot_renew_stops_leading_before_the_lease_expires(leases: Leases, replica: Replica) -> None:
    one = replica("one")
    wait("one leads", one.is_leading)

    def down() -> None:
        raise ApiError(0, "no answer")

    leases.broken, since = down, time.monotonic()
    wait("one has stopped", lambda: not one.is_leading())
    assert time.monotonic() - since < SETTINGS.duration_seconds
    leases.broken = lambda: None
    wait("one leads again", one.is_leading)


def test_api_server_accepts_one_of_several_replicas_that_see_the_lease_free(leases: Leases, replica: Replica) -> None:
    replicas = [replica(f"r{number}") for number in range(6)]
    wait("a replica leads", lambda: any(one.is_leading() for one in replicas))
    for _ in range(50):
        assert sum(one.is_leading() for one in replicas) <= 1
        time.sleep(0.02)
