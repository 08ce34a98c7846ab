"""Loops go on after an unexpected exception: each is made to fail once, and must do its work all the same."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import kubernetes
import msgspec
import pytest

from extender.collectors import feed as feed_module
from extender.collectors import process
from extender.collectors.feed import TelemetryFeed
from extender.collectors.ipc import HEAD_BYTES, Assignment, ScrapeResult
from extender.collectors.process import Collector
from extender.decision.node.scrape_targets import DCGM, Target
from extender.decision.state.changes import Change, ClockTicked
from extender.decision.state.snapshot import Snapshot
from extender.kube.lease import LeaderLease
from extender.kube.objects.resources import RESOURCES, Resource
from extender.kube.watching.watch import ClusterWatch
from extender.metrics import Metrics
from extender.scheduling import requeue
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.supervision import Supervisor
from extender.server.service import build_service
from extender.settings import Kube, Server, Settings, Telemetry
from extender.sources import class_file
from extender.sources.class_file import ClassFile
from extender.sources.simulated import simulated
from tests.conftest import serve
from tests.faults import BrokenError, Faulty, break_step
from tests.kube.leases import SETTINGS, Leases
from tests.objects import GPU
from tests.scheduling.cluster_writers import SettableLeadership
from tests.scheduling.test_requeue import TWO, refused, ward_of
from tests.waiting import wait


def quick(metrics: Metrics | None = None, down_seconds: float = 30.0) -> Supervisor:
    """A supervisor with short pauses."""
    return Supervisor(metrics or Metrics(), first_pause_seconds=0.01, most_pause_seconds=0.05, down_seconds=down_seconds)


def restarts(metrics: Metrics, loop: str) -> float:
    return float(metrics.loop_restarts.labels(loop)._value.get())


def test_loop_that_raises_or_returns_is_counted_logged_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    metrics, stop, runs = Metrics(), threading.Event(), list[str]()

    def run() -> None:
        runs.append("run")
        if len(runs) == 1:
            raise BrokenError("made to fail")
        if len(runs) == 3:
            stop.set()

    with caplog.at_level(logging.ERROR):
        quick(metrics).keep("loop", run, stop)
    assert (runs, restarts(metrics, "loop")) == (["run"] * 3, 2.0)
    assert [record.message for record in caplog.records] == [
        "loop: unexpected; starting it again",
        "loop: ended although it was not stopped; starting it again",
    ]


def test_pause_grows_with_each_failure_up_to_its_bound() -> None:
    pauses: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            if len(pauses) == 5:
                self.set()
            return self.is_set()

    Supervisor(Metrics(), 0.5, 3.0).keep("loop", Faulty(lambda: None, 99), Stop())
    assert pauses == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_readyz_names_a_loop_while_it_is_down() -> None:
    cluster, metrics = simulated(GPU), Metrics()
    service = build_service(Settings(server=Server(log_level="error")), metrics=metrics, supervisor=quick(metrics, down_seconds=0.2))
    service.store.apply(cluster.listing())
    serving = serve(service, cluster)
    ready, stop = next(serving).client, threading.Event()
    works, entered = threading.Event(), threading.Event()

    def run() -> None:
        if not works.is_set():
            raise BrokenError("made to fail")
        entered.set()
        stop.wait(10)

    assert ready.get("/readyz").status_code == 200
    thread = service.supervisor.start("tick", run, stop)
    wait("not ready", lambda: ready.get("/readyz").status_code == 503)
    assert ready.get("/readyz").text == "fails again and again: tick"
    assert "fabricwise_loops_down 1.0" in ready.get("/metrics").text
    works.set()
    assert entered.wait(5)
    wait("ready again", lambda: ready.get("/readyz").status_code == 200)
    stop.set()
    thread.join(5)
    assert service.supervisor.down() == ()
    assert next(serving, None) is None


def test_watch_tick_goes_on_after_an_unexpected_exception() -> None:
    store, metrics = ClusterStore(GPU), Metrics()
    store.apply = Faulty(store.apply)  # type: ignore[method-assign]
    watch = ClusterWatch(kubernetes.client.ApiClient(), store, Kube(), metrics, quick(metrics))
    stop = watch._stop
    thread = watch._supervisor.start("tick", watch._tick, stop)
    wait("ticked", lambda: store.snapshot.now_seconds is not None)
    stop.set()
    thread.join(5)
    assert restarts(metrics, "tick") == 1.0


def test_watch_lists_again_after_an_unexpected_exception_and_counts_as_lost_meanwhile() -> None:
    store, metrics = ClusterStore(GPU), Metrics()
    watch = ClusterWatch(kubernetes.client.ApiClient(), store, Kube(), metrics, quick(metrics))
    listed, lost = threading.Event(), list[bool]()

    def list_(_resource: object) -> str:
        lost.append("nodes" in store.snapshot.watch_lost_at)
        listed.set()
        watch.stop()
        return "1"

    def stream(resource: Resource, version: str) -> Iterator[str]:
        return iter(())

    watch._list = Faulty(list_)  # type: ignore[method-assign]
    watch._stream = stream  # type: ignore[method-assign]
    thread = watch._supervisor.start("watch-nodes", lambda: watch._follow(RESOURCES[0]), watch._stop)
    assert listed.wait(5)
    thread.join(5)
    assert (lost, restarts(metrics, "watch-nodes")) == ([True], 1.0)


def test_telemetry_tick_goes_on_after_an_unexpected_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_TICK_SECONDS", 0.02)
    store, metrics = ClusterStore(GPU), Metrics()
    store.apply([ClockTicked(1.0, 1.0)])
    store.apply = Faulty(store.apply)  # type: ignore[method-assign]
    feed = TelemetryFeed(store, Telemetry(), metrics, quick(metrics))
    thread = feed._supervisor.start("telemetry-tick", feed._tick, feed._stop)
    wait("ticked", lambda: (store.snapshot.monotonic_seconds or 0.0) > 1.0)
    feed._stop.set()
    thread.join(5)
    assert restarts(metrics, "telemetry-tick") == 1.0


def test_class_file_is_followed_after_an_unexpected_exception_and_the_change_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_file, "LOOK_SECONDS", 0.02)
    path, store, metrics = tmp_path / "classes.yaml", ClusterStore(GPU), Metrics()
    path.write_text("classes: [{name: a}]")
    file = ClassFile(path, store, quick(metrics))
    monkeypatch.setattr(class_file, "load_classes", Faulty(class_file.load_classes))
    path.write_text("classes: [{name: b}]")
    file.start()
    wait("b read", lambda: set(store.snapshot.classes) == {"b"})
    file.stop()
    assert restarts(metrics, "workload-classes") == 1.0


def test_lease_is_taken_after_an_unexpected_exception() -> None:
    leases, metrics = Leases(), Metrics()
    leases.get = Faulty(leases.get)  # type: ignore[method-assign]
    lease = LeaderLease(leases, SETTINGS, "one", quick(metrics))  # type: ignore[arg-type]
    lease.start()
    wait("leads", lease.is_leading)
    lease.stop()
    assert restarts(metrics, "lease") == 1.0


def test_requeue_thread_goes_on_after_an_unexpected_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    ward = ward_of(SettableLeadership(leads=True), supervisor=quick(metrics), metrics=metrics)
    monkeypatch.setattr(ward.requeuer, "_requeue_next", Faulty(ward.requeuer._requeue_next))
    ward.requeuer.rejected("team", "two", "uid-two", TWO, ["a"])
    wait("restarted", lambda: restarts(metrics, "requeue") == 1.0)
    ward.set_unhealthy("a", 0)
    wait("requeued", lambda: ward.requeued == ["uid-two"])


def test_waiting_pod_that_cannot_be_read_keeps_no_other_pod_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    ward = ward_of(SettableLeadership(leads=True))
    break_step(monkeypatch, requeue, "demand_in", "uid-bad", lambda _state, pod, _resource: pod.key)
    ward.apply(refused("bad", "uid-bad"), refused("good", "uid-good"))
    ward.set_unhealthy("a", 4)
    wait("requeued", lambda: ward.requeued == ["uid-good"])
    assert ward.service.metrics.set_aside.labels("pods", "requeue")._value.get() >= 1
    assert restarts(ward.service.metrics, "requeue") == 0.0


def test_collector_target_that_raises_is_reported_and_scraped_again(monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[ScrapeResult] = []
    bad, good = (Target(DCGM, f"uid-{name}", name, "n", f"http://127.0.0.1:9/{name}") for name in ("bad", "good"))
    calls = {"bad": 0, "good": 0}

    async def scrape_target(_client: httpx.AsyncClient, target: Target, *_: object) -> ScrapeResult:
        calls[target.pod] += 1
        if target.pod == "bad" and calls["bad"] <= 2:
            raise BrokenError("made to fail")
        return ScrapeResult(target.pod, target.kind, target.key, target.node, time.monotonic(), 0.0)

    monkeypatch.setattr(process, "scrape_target", scrape_target)
    monkeypatch.setattr(Collector, "first_pause_seconds", 0.01)

    async def run() -> None:
        collector = Collector(lambda data: results.append(msgspec.msgpack.decode(data[HEAD_BYTES:], type=ScrapeResult)))
        await collector.assign(Assignment(0.05, 1.0, 4, 1 << 20, 60.0, (bad, good)))
        for _ in range(400):
            await asyncio.sleep(0.01)
            if any(result.target == "bad" and not result.failed for result in results):
                break
        await collector.close()

    asyncio.run(run())
    of_bad = [result.failed for result in results if result.target == "bad"]
    assert of_bad[:3] == ["internal: BrokenError: made to fail"] * 2 + [""]
    assert any(result.target == "good" and not result.failed for result in results)


def test_scrape_result_that_cannot_be_folded_harms_no_other_target(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ClusterStore(GPU)
    feed = TelemetryFeed(store, Telemetry(), Metrics(), quick())

    class Index:
        def changes(self, look: ScrapeResult, _snapshot: Snapshot) -> list[Change]:
            if look.target == "bad":
                raise BrokenError("made to fail")
            return [ClockTicked(None, 5.0)]

    monkeypatch.setattr(feed, "_index", Index())
    for name in ("bad", "good"):
        feed._arrived.put(ScrapeResult(name, DCGM, name, "n", 0.0, 0.0))
    done = threading.Event()
    thread = feed._supervisor.start("telemetry-fold", lambda: feed._fold(done), done)
    wait("folded", lambda: store.snapshot.monotonic_seconds == 5.0)
    done.set()
    thread.join(5)
