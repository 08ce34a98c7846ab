"""Runs the collector process, sends it assignments, and applies its results to the store in small slices, so that no verb waits long."""

from __future__ import annotations

import logging
import queue
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from extender.collectors.ipc import PROMETHEUS, Assignment, ScrapeResult, frame, read_frame
from extender.decision.node.scrape_targets import ENGINE
from extender.decision.state.changes import Change, ClockTicked, TelemetrySeen
from extender.decision.state.snapshot import Snapshot
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.supervision import Supervisor
from extender.settings import Telemetry
from extender.telemetry.readings import DeviceReading, EngineReading
from topology.gputopology.topology_record import TopologyRecord

log = logging.getLogger("fabricwise.telemetry")

SLICE_NODES = 4
"""Nodes whose telemetry is applied at a time: a verb waits for at most one slice."""

FOLD_SECONDS = 0.01
"""Time in which results are collected after the first one, before they are applied."""
_IDLE_SECONDS = 0.5
"""Longest wait for a result before it is checked whether the collector has ended."""
MOST_LOOKS = 256
"""Results that are applied in one round."""
GIVE_WAY_SECONDS = 0.05
"""Longest wait for verbs in progress before a slice is applied."""

_ASSIGN_SECONDS = 1.0
_TICK_SECONDS = 2.0
_MOST_BACKOFF_SECONDS = 30.0
_RESULT = msgspec.msgpack.Decoder(ScrapeResult)
_MOST_TARGETS_SHOWN = 10_000


class TelemetryFeed:
    """Collects the telemetry of one cluster, from `start` to `stop`."""

    def __init__(self, store: ClusterStore, settings: Telemetry, metrics: Metrics, supervisor: Supervisor | None = None) -> None:
        self._supervisor = supervisor or Supervisor(metrics)
        self._store, self._settings, self._metrics = store, settings, metrics
        self._stop = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._index = _Index()
        self._arrived: queue.Queue[ScrapeResult] = queue.Queue()
        self._last: OrderedDict[str, ScrapeResult] = OrderedDict()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the threads and return."""
        self._supervisor.start("telemetry", self._keep_collecting, self._stop)
        self._supervisor.start("telemetry-tick", self._tick, self._stop)

    def stop(self) -> None:
        """End the collector."""
        self._stop.set()
        if self._child is not None:
            self._child.terminate()

    def command(self) -> list[str]:
        """Return the command line of the collector process."""
        return [sys.executable, "-P", "-m", "extender.collectors.process"]

    def status(self) -> dict[str, Any]:
        """Return the newest result of each target, for GET on the debug API; `looks` are the results."""
        now = time.monotonic()
        with self._lock:
            last = list(self._last.values())
        rows = [
            {
                "target": result.target,
                "kind": result.kind,
                "node": result.node or None,
                "age_seconds": round(now - result.monotonic_seconds, 3),
                "took_seconds": round(result.took_seconds, 4),
                "failed": result.failed or None,
                "problems": list(result.problems),
            }
            for result in last
        ]
        return {"source": self._settings.source, "targets": len(self._store.snapshot.targets), "looks": rows}

    def _tick(self) -> None:
        """Apply the current time regularly, so that old telemetry becomes stale also without a watch that does so."""
        while not self._stop.wait(_TICK_SECONDS):
            self._store.apply((ClockTicked(None, time.monotonic()),))

    def _keep_collecting(self) -> None:
        failures = 0
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._collect()
            except Exception:  # a bug must not end telemetry
                log.exception("telemetry: internal error; starting the collector again")
            failures = 0 if time.monotonic() - started > 60 else failures + 1
            self._metrics.collector_starts.inc()
            self._stop.wait(min(_MOST_BACKOFF_SECONDS, 0.5 * 2.0**failures))

    def _collect(self) -> None:
        """Run one collector process until it ends or `stop` is called."""
        child = self._child = subprocess.Popen(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - this program
        done = threading.Event()
        assigner = self._supervisor.start("telemetry-targets", lambda: self._send_assignments(child, done), done)
        assert child.stdout is not None
        folder = self._supervisor.start("telemetry-fold", lambda: self._fold(done), done)
        try:
            while not self._stop.is_set() and (result := read_frame(child.stdout, _RESULT)) is not None:
                self._record(result)
                self._arrived.put(result)
        finally:
            done.set()
            child.terminate()
            assigner.join(timeout=5)
            folder.join(timeout=5)
            child.communicate(timeout=10)

    def _send_assignments(self, child: subprocess.Popen[bytes], done: threading.Event) -> None:
        assert child.stdin is not None
        sent: Assignment | None = None
        while not done.is_set():
            assignment = self._assignment()
            if assignment != sent and self._store.snapshot.synced:
                try:
                    child.stdin.write(frame(assignment))
                    child.stdin.flush()
                except OSError:  # the collector has ended; `_collect` notices it too, and ends this loop
                    done.wait(_ASSIGN_SECONDS)
                    continue
                sent = assignment
            done.wait(_ASSIGN_SECONDS)

    def _assignment(self) -> Assignment:
        settings, targets = self._settings, self._store.snapshot.targets
        from_prometheus = settings.source == "prometheus"
        return Assignment(
            interval_seconds=settings.interval_seconds,
            timeout_seconds=settings.timeout_seconds,
            concurrency=settings.concurrency,
            max_body_bytes=settings.max_body_bytes,
            max_age_seconds=settings.max_age_seconds,
            targets=() if from_prometheus else tuple(targets[key] for key in sorted(targets)),
            prometheus_url=settings.prometheus.url if from_prometheus else "",
            bearer_token_file=settings.prometheus.bearer_token_file if from_prometheus else "",
            selector=settings.prometheus.selector if from_prometheus else "",
        )

    def _fold(self, done: threading.Event) -> None:
        """Apply results in slices of `SLICE_NODES` with a pause after each, so that a verb waits for at most one slice."""
        while not done.is_set():
            changes = [change for result in self._arrivals(done) for change in self._changes(result)]
            for first in range(0, len(changes), SLICE_NODES):
                self._store.give_way(GIVE_WAY_SECONDS)
                self._store.apply(changes[first : first + SLICE_NODES])
                done.wait(0.001)

    def _arrivals(self, done: threading.Event) -> list[ScrapeResult]:
        """Wait for a result, and return it with those that arrive within `FOLD_SECONDS`; [] where none comes within `_IDLE_SECONDS`.

        Waiting without polling: a loop of ten milliseconds alone takes one percent of a core.
        """
        try:
            results = [self._arrived.get(timeout=_IDLE_SECONDS)]
        except queue.Empty:
            return []
        done.wait(FOLD_SECONDS)
        while len(results) < MOST_LOOKS and not self._arrived.empty():
            results.append(self._arrived.get())
        return results

    def _changes(self, result: ScrapeResult) -> list[Change]:
        """Return a result as changes; none if that fails, so that the other results still count."""
        try:
            return list(self._index.changes(result, self._store.snapshot))
        except Exception:
            self._metrics.set_aside.labels("telemetry", "decode").inc()
            log.exception("telemetry: the answer of %s %s was set aside", result.kind, result.target)
            return []

    def _record(self, result: ScrapeResult) -> None:
        """Remember a result for `status`, and count it."""
        name = f"{result.kind} {result.target}"
        with self._lock:
            self._last[name] = msgspec.structs.replace(result, devices=(), engines=())
            self._last.move_to_end(name)
            while len(self._last) > _MOST_TARGETS_SHOWN:
                self._last.popitem(last=False)
        self._metrics.scrapes.labels(result.kind, "failed" if result.failed else "ok").inc()
        self._metrics.scrape_seconds.labels(result.kind).observe(result.took_seconds)


@dataclass(slots=True)
class _Index:
    """Assigns readings to nodes and pods: GPU UUID -> node, pod name -> (key, node). Rebuilt only if topologies or pods have changed."""

    topologies: Mapping[str, TopologyRecord | str] | None = None
    pods: Mapping[str, Any] | None = None
    uuids: Mapping[str, str] | None = None
    names: Mapping[str, tuple[str, str]] | None = None

    def changes(self, result: ScrapeResult, snapshot: Snapshot) -> Iterable[Change]:
        """Yield a result as changes, one per node."""
        if result.kind == PROMETHEUS:
            yield from self._by_node(result, snapshot)
            return
        source = f"{result.kind} {result.target}"
        problems = tuple(f"{source}: {text}" for text in ((result.failed,) if result.failed else ()) + result.problems)
        engines = ((result.key, result.engines),) if result.kind == ENGINE and result.engines else ()
        yield TelemetrySeen(result.node, result.monotonic_seconds, result.devices, engines, problems, source)

    def _by_node(self, result: ScrapeResult, snapshot: Snapshot) -> Iterable[Change]:
        """Yield the readings of a Prometheus server, one change per node; readings of unknown devices and pods are dropped."""
        self._refresh(snapshot)
        assert self.uuids is not None
        assert self.names is not None
        hosts = {urlsplit(target.url).hostname or "": target.node for target in snapshot.targets.values()}
        devices: dict[str, list[DeviceReading]] = {}
        for reading in result.devices:
            node = self.uuids.get(reading.uuid) or self._by_target(reading, hosts, snapshot)
            if node:
                devices.setdefault(node, []).append(reading)
        engines: dict[str, dict[str, list[EngineReading]]] = {}
        for engine in result.engines:
            pod = self.names.get(engine.pod or "")
            if pod:
                key, node = pod
                engines.setdefault(node, {}).setdefault(key, []).append(engine)
        for node in sorted({*devices, *engines}):
            by_pod = tuple((key, tuple(readings)) for key, readings in engines.get(node, {}).items())
            yield TelemetrySeen(node, result.monotonic_seconds, tuple(devices.get(node, ())), by_pod, (), PROMETHEUS)

    @staticmethod
    def _by_target(reading: DeviceReading, hosts: Mapping[str, str], snapshot: Snapshot) -> str | None:
        """Return the node of a GPU that no GpuTopology has: by the exporter's address, else by the label `node` of the target."""
        address = urlsplit(f"//{reading.instance}").hostname if reading.instance else None
        return hosts.get(address or "") or (reading.node if reading.node in snapshot.nodes else None)

    def _refresh(self, snapshot: Snapshot) -> None:
        if self.topologies is not snapshot.topologies:
            self.topologies = snapshot.topologies
            records = [record for record in snapshot.topologies.values() if isinstance(record, TopologyRecord)]
            self.uuids = {gpu.uuid: record.node for record in records for gpu in record.machine.gpus if gpu.uuid}
        if self.pods is not snapshot.pods:
            self.pods = snapshot.pods
            self.names = {pod.full_name: (pod.key, pod.node) for pod in snapshot.pods.values()}
