"""Failures during a burst of pods on a real control plane: every pod is bound, and every bandwidth floor is met."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from extender.scheduling.scheduling_service import STALE
from tests.cluster.fleets.fleet import Kubelets, scheduled
from tests.cluster.fleets.rig import Rig, rigged
from tests.cluster.processes.balancer import Balancer
from tests.cluster.processes.control_plane import ControlPlane, Extender, wait_for
from topology.gputopology.topology_record import DeviceStatus

pytestmark = pytest.mark.cluster

PODS = 60
FLOOR = "200"
"""GB/s: an NVLink bridge, of which there are sixty-four; a pair that is torn apart gives 10."""


@pytest.fixture
def rig(plane: ControlPlane) -> Iterator[Rig]:
    with rigged(plane, "drill", {"a100-pcie-bridge-pairs": 16}) as rig:
        yield rig


def burst(rig: Rig, scheduler: str) -> None:
    """Sixty pods of two, every fifth with a floor, fed in over two seconds."""
    for number in range(PODS):
        rig.create(rig.pod(f"drill-{number:02d}", 2, scheduler, min_busbw=FLOOR if number % 5 == 0 else None))
        time.sleep(2 / PODS)


def in_a_burst(rig: Rig, scheduler: str) -> threading.Thread:
    thread = threading.Thread(target=burst, args=(rig, scheduler), daemon=True)
    thread.start()
    wait_for("the burst has begun", lambda: len(scheduled(rig.plane, "drill")) >= 3)
    return thread


def check(rig: Rig, kubelets: Kubelets, seconds: float = 120.0) -> None:
    """Wait until all pods are bound and served, and check that each with a floor has at least its bandwidth."""
    wait_for("all served", lambda: len(kubelets.devices) == PODS, seconds)
    below = [name for name, speed in kubelets.speeds.items() if int(name[-2:]) % 5 == 0 and speed < float(FLOOR)]
    assert below == []


def longest_gap(kubelets: Kubelets, after: float) -> float:
    """The longest time without a pod being bound, from a moment on (seconds)."""
    return max((b - a for a, b in pairwise([after, *(at for at, _ in kubelets.order if at > after)])), default=0.0)


def test_burst_survives_kill_9_of_the_extender(rig: Rig) -> None:
    extender = rig.extender()
    rig.scheduler("drill-scheduler", extender.url)
    with Kubelets(rig.fleet, "drill") as kubelets:
        feeding = in_a_burst(rig, "drill-scheduler")
        extender.process.kill()
        killed = time.monotonic()
        time.sleep(1)
        extender.process.start()
        extender.wait_ready()
        back = time.monotonic()
        feeding.join()
        check(rig, kubelets)
        print(
            f"\nextender killed, back after {back - killed:.1f} s; all {PODS} bound {kubelets.order[-1][0] - killed:.1f} s after the kill"
        )


def test_burst_survives_kill_9_of_one_replica(rig: Rig) -> None:
    first, second = rig.extender(), rig.extender()
    balancer = Balancer([first.port, second.port])
    rig.scheduler("drill-scheduler", balancer.url)
    try:
        with Kubelets(rig.fleet, "drill") as kubelets:
            feeding = in_a_burst(rig, "drill-scheduler")
            first.process.kill()
            killed = time.monotonic()
            feeding.join()
            check(rig, kubelets)
            assert second.decisions(), "the other one decided"
            after = [at for at, _ in kubelets.order if at > killed]
            print(f"\nreplica killed: next pod bound after {after[0] - killed:.2f} s, longest gap {longest_gap(kubelets, killed):.2f} s")
    finally:
        balancer.close()


def test_other_replica_requeues_pods_when_the_leader_is_killed(rig: Rig) -> None:
    """A pod is refused by one replica, which dies. The other one, without a filter request of the pod, requeues it once a GpuTopology
    resolves the rejection."""
    settings = {"lease": {"duration_seconds": 3, "retry_seconds": 0.3}}
    first = rig.extender(settings)
    wait_for("the first leads", lambda: leading(first))
    second = rig.extender(settings)
    sick = DeviceStatus(None, (), tuple((n, "Xid 79") for n in range(8)), time.time())
    for name in rig.fleet.machines:
        rig.fleet.status[name] = sick
        rig.fleet.publish(name)
    wait_for("all sick", lambda: all(row["free"] == 0 for row in _nodes(second, rig)))
    balancer = Balancer([first.port, second.port])
    rig.scheduler("drill-scheduler", balancer.url)
    try:
        rig.create(rig.pod("drill-sick", 2, "drill-scheduler"))
        wait_for("refused", lambda: "too few healthy GPUs" in str(rig.plane.pods()["drill-sick"]["status"]))
        assert not leading(second)
        first.process.kill()
        killed = time.monotonic()
        name = next(iter(rig.fleet.machines))
        rig.fleet.status[name] = DeviceStatus(None, (), (), time.time())
        rig.fleet.publish(name)
        assert wait_for("woken by the other, and bound", lambda: rig.plane.node_of("drill-sick"), 30) == name
        print(f"\nleader killed: the other had woken the pod, and it was bound, after {time.monotonic() - killed:.1f} s (Lease of 3 s)")
        wait_for("its event, although no replica may have led when it was bound", lambda: _predicted(rig, "drill-sick") == 1, 30)
    finally:
        balancer.close()


def _predicted(rig: Rig, name: str) -> int:
    """Return the number of events on the pod with its prediction."""
    query = {"fieldSelector": f"involvedObject.name={name},reason=GpusPredicted"}
    return len(rig.plane.client.get("/api/v1/namespaces/default/events", params=query).json()["items"])


def leading(extender: Extender) -> bool:
    return "fabricwise_leading 1.0" in extender.client.get("/metrics").text


def _nodes(extender: Extender, rig: Rig) -> list[dict[str, Any]]:
    return [row for row in extender.client.get("/v1/nodes").json()["nodes"] if row["node"] in rig.fleet.machines]


def test_burst_survives_kill_9_of_the_api_server(rig: Rig) -> None:
    extender = rig.extender()
    rig.scheduler("drill-scheduler", extender.url)
    with Kubelets(rig.fleet, "drill") as kubelets:
        feeding = threading.Thread(target=_stubborn_burst, args=(rig,), daemon=True)
        feeding.start()
        wait_for("the burst has begun", lambda: len(scheduled(rig.plane, "drill")) >= 3)
        rig.plane.api_server.kill()
        killed = time.monotonic()
        time.sleep(3)
        answer = extender.client.post("/v1/explain", json=rig.pod("asked", 2, "drill-scheduler")).json()
        assert answer["chosen"], "decisions go on from the last state"
        assert answer["state_age_seconds"] > 0, "and say how old it is"
        rig.plane.api_server.start()
        rig.plane.wait_ready()
        back = time.monotonic()
        feeding.join()
        check(rig, kubelets)
        wait_for("fresh again", lambda: "state_age_seconds" not in extender.client.post("/v1/explain", json=rig.pod("a", 2, "x")).json())
        print(f"\nAPI server killed, back after {back - killed:.1f} s; all {PODS} bound {kubelets.order[-1][0] - back:.1f} s later")


def _stubborn_burst(rig: Rig) -> None:
    """Create a pod, with further attempts while the API server is down."""
    for number in range(PODS):
        manifest = rig.pod(f"drill-{number:02d}", 2, "drill-scheduler", min_busbw=FLOOR if number % 5 == 0 else None)

        def create(manifest: dict[str, Any] = manifest) -> bool:
            return rig.plane.client.post("/api/v1/namespaces/default/pods", json=manifest).status_code in (201, 409)

        wait_for("pod created", create)
        time.sleep(2 / PODS)


def test_filter_answers_with_an_error_once_the_state_is_older_than_configured(rig: Rig) -> None:
    extender = rig.extender({"kube": {"max_state_age_seconds": 2}})
    names = list(rig.fleet.machines)
    args = {"Pod": rig.pod("asked", 2, "x"), "NodeNames": names}
    rig.plane.api_server.kill()
    try:
        wait_for("the outage noticed", lambda: extender.client.post("/scheduler/filter", json=args).json()["Error"] == STALE, 20)
    finally:
        rig.plane.api_server.start()
        rig.plane.wait_ready()
    wait_for("answers again", lambda: extender.client.post("/scheduler/filter", json=args).json()["NodeNames"] == names, 30)


def test_extender_decides_although_its_log_cannot_be_written(rig: Rig) -> None:
    """The write of every log line fails."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("NOT TESTED on a full disk: there is no /dev/full")
    extender = rig.extender({"server": {"log_level": "debug"}}, ("/bin/sh", "-c", 'exec "$@" >/dev/full 2>&1', "full-disk"))
    rig.scheduler("drill-scheduler", extender.url)
    with Kubelets(rig.fleet, "drill") as kubelets:
        feeding = in_a_burst(rig, "drill-scheduler")
        assert extender.client.post("/scheduler/filter", content=b"{").json()["Error"]
        feeding.join()
        check(rig, kubelets)


def test_two_schedulers_with_one_extender_do_not_take_the_same_gpus(rig: Rig) -> None:
    """Only the shared extender knows the assumed pods of both schedulers. Sixty-four pods need one bridged pair each."""
    extender = rig.extender()
    for half in ("a", "b"):
        for number in range(32):
            rig.create(rig.pod(f"drill-{half}{number:02d}", 2, f"drill-{half}", min_busbw=FLOOR))
    with Kubelets(rig.fleet, "drill") as kubelets:
        for half in ("a", "b"):
            rig.scheduler(f"drill-{half}", extender.url)
        wait_for("all served", lambda: len(kubelets.devices) == 64, 120)
        assert min(kubelets.speeds.values()) >= float(FLOOR)
        held = [line for line in extender.client.get("/metrics").text.splitlines() if 'cause="held"' in line and "total" in line]
        took = kubelets.order[-1][0] - kubelets.order[0][0]
        print(f"\ntwo schedulers: 64 pods on 64 bridges in {took:.1f} s; asked again because of holds: {held}")


def test_slow_clients_do_not_delay_the_scheduler(rig: Rig) -> None:
    """A hundred connections that send half a request and then nothing, and twenty that never read their answers."""
    extender = rig.extender({"limits": {"body_seconds": 3}})
    rig.scheduler("drill-scheduler", extender.url)
    slow = [_half_a_request(extender) for _ in range(100)] + [_never_reads(extender) for _ in range(20)]
    try:
        with Kubelets(rig.fleet, "drill") as kubelets:
            started = time.monotonic()
            in_a_burst(rig, "drill-scheduler").join()
            check(rig, kubelets)
            print(f"\nwith 120 slow clients: {PODS} pods bound in {kubelets.order[-1][0] - started:.1f} s")
        answer = b""
        while b"Error" not in answer and (part := slow[0].recv(4096)):
            answer += part
        assert b"did not arrive within 3 s" in answer, answer
    finally:
        for connection in slow:
            connection.close()


def _half_a_request(extender: Extender) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", extender.port), timeout=20)
    connection.sendall(b'POST /scheduler/filter HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"Pod": {')
    return connection


def _never_reads(extender: Extender) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", extender.port), timeout=20)
    connection.sendall(b"GET /v1/decisions?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    return connection
