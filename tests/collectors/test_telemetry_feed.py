"""The real collector process scrapes real HTTP servers, one per node, some of which fail in various ways."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from extender.collectors.feed import TelemetryFeed
from extender.decision.state.changes import ClockTicked, PodGone, TopologySeen
from extender.kube.objects.decode import seen
from extender.server.service import Service, build_service
from extender.settings import Dcgm, Settings, Telemetry
from tests.decision.verdicts.test_telemetry_decisions import machine, refusal
from tests.exporters import Exporter, Values, dcgm_text, exporter, used
from tests.objects import node, pod
from tests.waiting import wait
from topology.gputopology.topology_record import TopologyRecord

INTERVAL = 0.25


@dataclass
class Rack:
    """A node with eight GPUs, and its exporter pod with its own address and values."""

    name: str
    address: str
    target: Exporter
    values: dict[str, Values]


@dataclass
class Site:
    """Several racks, and an extender with a collector."""

    service: Service
    feed: TelemetryFeed
    racks: dict[str, Rack] = field(default_factory=dict)

    def refusal(self, name: str, gpus: int = 1) -> str | None:
        return refusal(self.service.store.snapshot, name, pod(gpus))

    def problems(self, name: str) -> tuple[str, ...]:
        return self.service.store.snapshot.views[name].telemetry_problems

    def known(self, name: str) -> bool:
        device_loads = self.service.store.snapshot.views[name].state.device_telemetry.device_loads
        return bool(device_loads) and all(load is not None for load in device_loads)

    def tick(self) -> None:
        self.service.store.apply((ClockTicked(time.time(), time.monotonic()),))


def exporter_pod(name: str, node_name: str, address: str) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "gpu-operator", "uid": f"uid-{name}", "labels": {"app": "nvidia-dcgm-exporter"}},
        "spec": {"nodeName": node_name, "containers": [{"name": "exporter"}]},
        "status": {"phase": "Running", "podIP": address},
    }


@pytest.fixture
def site() -> Iterator[Site]:
    names = ["good", "bad"]
    with ExitStack() as stack:
        racks: dict[str, Rack] = {}
        port = 0
        for number, name in enumerate(names):
            address = f"127.0.0.{number + 1}"
            values: dict[str, Values] = {f"GPU-{name}-{index}": {} for index in range(8)}
            target = stack.enter_context(exporter(lambda values=values: dcgm_text(values), address, port))  # type: ignore[misc]
            port = target.port
            racks[name] = Rack(name, address, target, values)
        settings = Telemetry(
            source="dcgm-exporter",
            interval_seconds=INTERVAL,
            timeout_seconds=0.6,
            max_age_seconds=2.0,
            half_life_seconds=1.0,
            max_body_bytes=200_000,
            quiet_seconds=1.0,
            dcgm=Dcgm(port=port),
        )
        service = build_service(Settings(telemetry=settings))
        store = service.store
        from extender.decision.state.changes import Listed

        pods = tuple(seen("Pod", exporter_pod(f"exporter-{name}", name, racks[name].address)) for name in names)
        store.apply((Listed("nodes", tuple(seen("Node", node(name, 8)) for name in names)), Listed("pods", pods)))
        store.apply((Listed("topologies", tuple(TopologySeen(n, TopologyRecord(n, machine("hgx-h100", n))) for n in names)),))
        feed = service.telemetry
        assert feed is not None
        feed.start()
        stack.callback(feed.stop)
        site = Site(service, feed, racks)
        wait("both known", lambda: all(site.known(name) for name in names))
        yield site


BAD: dict[str, str] = {
    "500": "answered 500",
    "hang": "no whole answer within 0.6 s",
    "slow": "no whole answer within 0.6 s",
    "cut": "the answer broke off",
    "empty": "no GPU in it: it has no line of the form",
    "html": "no GPU in it: it has no line of the form",
}


@pytest.mark.parametrize("mode", BAD)
def test_telemetry_of_a_failing_target_becomes_unknown_with_a_reason_and_other_targets_are_unaffected(site: Site, mode: str) -> None:
    site.racks["bad"].target.mode = mode
    wait("the problem is known", lambda: any(BAD[mode] in problem for problem in site.problems("bad")))

    def unknown() -> bool:
        site.tick()
        return not site.known("bad")

    wait("bad unknown", unknown)
    site.tick()
    assert site.known("good"), "a slow or hanging target does not delay other targets"
    assert site.problems("good") == ()
    assert site.refusal("bad", 8) is None, "unknown refuses nothing"
    site.racks["bad"].target.mode = "ok"
    wait("bad known again", lambda: site.known("bad") and site.problems("bad") == ())


def test_gzip_exposition_is_read(site: Site) -> None:
    site.racks["bad"].target.mode = "gzip"
    site.racks["bad"].values["GPU-bad-3"] = {"DCGM_FI_DEV_XID_ERRORS": 79}
    wait("the XID seen", lambda: site.refusal("bad") == "GPU reports a fatal XID error")


def test_exposition_that_ends_within_a_line_is_reported_as_a_problem(site: Site) -> None:
    site.racks["bad"].target.mode = "midline"
    wait("the problem is known", lambda: any("ends in the middle of a line" in problem for problem in site.problems("bad")))


def test_exposition_that_is_too_long_is_reported_as_a_problem(site: Site) -> None:
    site.racks["bad"].values.update({f"GPU-more-{n}": {} for n in range(400)})
    wait("the problem is known", lambda: any("longer than 200000 bytes" in problem for problem in site.problems("bad")))


def test_unknown_uuids_are_reported_as_a_problem_and_refuse_no_pod(site: Site) -> None:
    site.racks["bad"].values.clear()
    site.racks["bad"].values.update({f"GPU-elsewhere-{n}": {"DCGM_FI_DEV_XID_ERRORS": 79} for n in range(8)})
    wait("the problem is known", lambda: any("GPU-elsewhere-0" in problem for problem in site.problems("bad")))
    assert site.refusal("bad", 8) is None


def test_deleted_exporter_pod_is_not_scraped_again_and_its_replacement_is(site: Site) -> None:
    store = site.service.store
    store.apply((PodGone("uid-exporter-bad"),))

    def unknown() -> bool:
        site.tick()
        return not site.known("bad")

    wait("bad unknown", unknown)
    asked, asked_good = site.racks["bad"].target.asked, site.racks["good"].target.asked
    wait("several scrapes of the other target", lambda: site.racks["good"].target.asked >= asked_good + 4)
    assert site.racks["bad"].target.asked <= asked + 1, "a deleted pod is not scraped"
    store.apply((seen("Pod", exporter_pod("exporter-new", "bad", site.racks["bad"].address)),))
    wait("bad known again", lambda: site.known("bad"))


def test_used_and_freed_memory_is_known_after_one_scrape(site: Site) -> None:
    values = site.racks["bad"].values
    values["GPU-bad-2"] = used(60_000)
    taken = wait("avoided", lambda: site.refusal("bad") == "GPU memory is in use by processes unknown to Kubernetes")
    scrapes = site.racks["bad"].target.asked
    values["GPU-bad-2"] = {}
    freed = wait("used again", lambda: site.refusal("bad") is None)
    assert site.racks["bad"].target.asked <= scrapes + 2
    assert max(taken, freed) < 10


def test_killed_collector_is_started_again(site: Site) -> None:
    child = site.feed._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    site.racks["bad"].values["GPU-bad-1"] = {"DCGM_FI_DEV_XID_ERRORS": 48}
    wait("the new collector has read the XID", lambda: site.refusal("bad") == "GPU reports a fatal XID error", 20)


def test_exporter_timestamps_in_the_past_and_in_the_future_do_not_stop_later_readings(site: Site) -> None:
    bad = site.racks["bad"]
    plain = bad.target.text
    for offset in (-5000.0, 5000.0, -100.0):
        at = int((time.time() + offset) * 1000)
        bad.target.text = lambda at=at: plain().replace("} 40\n", f"}} 40 {at}\n")  # type: ignore[misc]
        asked = bad.target.asked
        wait("scrapes with these timestamps", lambda asked=asked: bad.target.asked >= asked + 3)  # type: ignore[misc]
    bad.target.text = plain
    bad.values["GPU-bad-1"] = {"DCGM_FI_DEV_XID_ERRORS": 79}
    wait("the XID is read after the wrong timestamps", lambda: site.refusal("bad") == "GPU reports a fatal XID error")


def test_status_lists_targets_and_their_failures(site: Site) -> None:
    site.racks["bad"].target.mode = "500"
    wait("failing", lambda: any((result["failed"] or "").startswith("answered 500") for result in site.feed.status()["looks"]))
    status = site.feed.status()
    assert status["targets"] == 2
    assert {result["target"] for result in status["looks"]} == {"gpu-operator/exporter-good", "gpu-operator/exporter-bad"}
