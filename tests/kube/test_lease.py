"""At most one replica leads at any time; on an API server in memory that keeps resource versions as the real one does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from extender.kube.lease import LeaderLease
from tests.kube.leases import SETTINGS, Leases
from tests.waiting import wait
from topology.agent.publisher import ApiError


@pytest.fixture
def leases() -> Leases:
    return Leases()


Replica = Callable[[str], LeaderLease]


@pytest.fixture
def replica(leases: Leases) -> Iterator[Replica]:
    started: list[LeaderLease] = []

    def start(name: str) -> LeaderLease:
        lease = LeaderLease(leases, SETTINGS, name)  # type: ignore[arg-type]
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
    reads = leases.reads

    def several_renewals() -> bool:
        assert one.is_leading()
        assert not other.is_leading()
        return leases.reads >= reads + 60

    wait("both replicas have read the Lease many times", several_renewals)


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
