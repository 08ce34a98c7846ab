"""Fault drills: the real collector process scraping real HTTP servers that behave badly, one node each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from extender.collectors.feed import TelemetryFeed
from extender.decision.state.reducer import ClockTicked, PodGone, TopologySeen
from extender.kube.decode import seen
from extender.server.service import Service, build_service
from extender.settings import Dcgm, Settings, Telemetry
from tests.exposition import Exporter, Values, dcgm_text, exporter, used
from tests.extender.test_telemetry_decisions import machine, refusal
from tests.objects import node, pod
from topology.gputopology import TopologyRecord

INTERVAL = 0.25


@dataclass
class Rack:
    """A node with eight GPUs, its exporter pod on an address of its own, and what the exporter says."""

    name: str
    address: str
    target: Exporter
    values: dict[str, Values]


@dataclass
class Site:
    """Some racks, and an extender with a collector."""

    service: Service
    feed: TelemetryFeed
    racks: dict[str, Rack] = field(default_factory=dict)

    def refusal(self, name: str, gpus: int = 1) -> str | None:
        return refusal(self.service.store.snapshot, name, pod(gpus))

    def problems(self, name: str) -> tuple[str, ...]:
        return self.service.store.snapshot.views[name].telemetry_problems

    def known(self, name: str) -> bool:
        device_loads = self.service.store.snapshot.views[name].state.device_telemetry.device_loads
        return bool(device_loads) and all(one is not None for one in device_loads)

    def tick(self) -> None:
        self.service.store.apply((ClockTicked(time.time(), time.monotonic()),))


def wait(what: str, check: Callable[[], object], seconds: float = 15.0) -> float:
    """How long it took."""
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < seconds, f"{what} did not come about in {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - started


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
        said = Telemetry(
            source="dcgm-exporter", interval_seconds=INTERVAL, timeout_seconds=0.6, max_age_seconds=2.0, half_life_seconds=1.0,
            max_body_bytes=200_000, quiet_seconds=1.0, dcgm=Dcgm(port=port),
        )  # fmt: skip
        service = build_service(Settings(telemetry=said))
        store = service.store
        from extender.decision.state.reducer import Listed

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
def test_a_bad_target_becomes_unknown_with_its_reason_and_harms_no_other(site: Site, mode: str) -> None:
    site.racks["bad"].target.mode = mode
    wait("the problem told", lambda: any(BAD[mode] in problem for problem in site.problems("bad")))

    def unknown() -> bool:
        site.tick()
        return not site.known("bad")

    wait("bad unknown", unknown)
    site.tick()
    assert site.known("good"), "a slow or hanging target keeps nobody else waiting"
    assert site.problems("good") == ()
    assert site.refusal("bad", 8) is None, "unknown refuses nothing"
    site.racks["bad"].target.mode = "ok"
    wait("bad known again", lambda: site.known("bad") and site.problems("bad") == ())


def test_gzip_is_read(site: Site) -> None:
    site.racks["bad"].target.mode = "gzip"
    site.racks["bad"].values["GPU-bad-3"] = {"DCGM_FI_DEV_XID_ERRORS": 79}
    wait("the XID seen", lambda: site.refusal("bad") == "GPU reports a fatal XID error")


def test_a_text_cut_in_a_line_is_read_up_to_there_and_told(site: Site) -> None:
    site.racks["bad"].target.mode = "midline"
    wait("told", lambda: any("ends in the middle of a line" in problem for problem in site.problems("bad")))


def test_a_text_too_long_is_not_read(site: Site) -> None:
    site.racks["bad"].values.update({f"GPU-more-{n}": {} for n in range(400)})
    wait("told", lambda: any("longer than 200000 bytes" in problem for problem in site.problems("bad")))


def test_wrong_uuids_are_told(site: Site) -> None:
    site.racks["bad"].values.clear()
    site.racks["bad"].values.update({f"GPU-elsewhere-{n}": {"DCGM_FI_DEV_XID_ERRORS": 79} for n in range(8)})
    wait("told", lambda: any("GPU-elsewhere-0" in problem for problem in site.problems("bad")))
    assert site.refusal("bad", 8) is None


def test_a_target_that_disappears_and_another_that_takes_its_place(site: Site) -> None:
    store = site.service.store
    store.apply((PodGone("uid-exporter-bad"),))

    def unknown() -> bool:
        site.tick()
        return not site.known("bad")

    wait("bad unknown", unknown)
    asked = site.racks["bad"].target.asked
    time.sleep(4 * INTERVAL)
    assert site.racks["bad"].target.asked <= asked + 1, "nobody asks a pod that is gone"
    store.apply((seen("Pod", exporter_pod("exporter-new", "bad", site.racks["bad"].address)),))
    wait("bad known again", lambda: site.known("bad"))


def test_memory_taken_and_freed_is_seen_within_one_look(site: Site) -> None:
    values = site.racks["bad"].values
    values["GPU-bad-2"] = used(60_000)
    taken = wait("avoided", lambda: site.refusal("bad") == "GPU memory is in use by processes unknown to Kubernetes")
    looks = site.racks["bad"].target.asked
    values["GPU-bad-2"] = {}
    freed = wait("used again", lambda: site.refusal("bad") is None)
    assert site.racks["bad"].target.asked <= looks + 2
    assert max(taken, freed) < 10


def test_a_dead_collector_is_started_again(site: Site) -> None:
    child = site.feed._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    site.racks["bad"].values["GPU-bad-1"] = {"DCGM_FI_DEV_XID_ERRORS": 48}
    wait("the XID seen by its successor", lambda: site.refusal("bad") == "GPU reports a fatal XID error", 20)


def test_exporters_times_that_go_back_or_lie_ahead_do_no_harm(site: Site) -> None:
    bad = site.racks["bad"]
    plain = bad.target.text
    for offset in (-5000.0, 5000.0, -100.0):
        at = int((time.time() + offset) * 1000)
        bad.target.text = lambda at=at: plain().replace("} 40\n", f"}} 40 {at}\n")  # type: ignore[misc]
        time.sleep(3 * INTERVAL)
    bad.target.text = plain
    bad.values["GPU-bad-1"] = {"DCGM_FI_DEV_XID_ERRORS": 79}
    wait("news is news again", lambda: site.refusal("bad") == "GPU reports a fatal XID error")


def test_the_status_lists_targets_and_who_fails(site: Site) -> None:
    site.racks["bad"].target.mode = "500"
    wait("failing", lambda: any((look["failed"] or "").startswith("answered 500") for look in site.feed.status()["looks"]))
    found = site.feed.status()
    assert found["targets"] == 2
    assert {look["target"] for look in found["looks"]} == {"gpu-operator/exporter-good", "gpu-operator/exporter-bad"}
