"""Leader election: at most one replica leads, and another one takes over from a replica that stops or fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from extender.kube.lease import KubeLease
from tests.extender.leases import SETTINGS, Leases
from tests.waiting import wait
from topology.agent.publisher import ApiError


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


def test_only_one_of_two_replicas_leads(leases: Leases, replica: Replica) -> None:
    one = replica("one")
    wait("one leads", one.is_leading)
    other = replica("other")
    reads = leases.reads

    def several_renewals() -> bool:
        assert one.is_leading()
        assert not other.is_leading()
        return leases.reads >= reads + 60

    wait("both replicas have read the Lease many times", several_renewals)


def test_replica_that_stops_releases_the_lease_to_another(leases: Leases, replica: Replica) -> None:
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


def test_lease_of_a_dead_replica_is_acquired_after_its_duration(leases: Leases, replica: Replica) -> None:
    leases.object = {
        "metadata": {"name": "fabricwise", "namespace": "x", "resourceVersion": "0"},
        "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 1, "renewTime": "2999-01-01T00:00:00.000000Z", "leaseTransitions": 4},
    }
    one = replica("one")
    wait("the Lease was read several times", lambda: leases.reads >= 5)
    assert not one.is_leading(), "times in the Lease, written by another clock, are not used"
    wait("one leads", one.is_leading)
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


def test_at_most_one_of_six_replicas_acquires_a_free_lease(leases: Leases, replica: Replica) -> None:
    replicas = [replica(f"r{number}") for number in range(6)]
    wait("one replica leads", lambda: any(lease.is_leading() for lease in replicas))
    reads = leases.reads

    def many_attempts() -> bool:
        assert sum(lease.is_leading() for lease in replicas) <= 1
        return leases.reads >= reads + 100

    wait("every replica has tried many times", many_attempts)
