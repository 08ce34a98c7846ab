"""Keeps a collector running, tells it what to ask, and folds what it says. Nobody who decides ever waits for it."""

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

from extender.collectors.ipc import Assignment, ScrapeResult, frame, read_frame
from extender.collectors.prometheus import SOURCE
from extender.decision.node.scrape_targets import ENGINE
from extender.decision.state.changes import Change, ClockTicked, TelemetrySeen
from extender.decision.state.snapshot import Snapshot
from extender.metrics import Metrics
from extender.scheduling.cluster_store import ClusterStore
from extender.scheduling.supervision import Supervisor
from extender.settings import Telemetry
from extender.telemetry.readings import DeviceReading, EngineReading
from topology.gputopology import TopologyRecord

log = logging.getLogger("fabricwise.telemetry")

SLICE_NODES = 4
"""So many nodes are folded at a time: a verb that comes meanwhile waits for no more."""

FOLD_SECONDS = 0.01
MOST_LOOKS = 256
GIVE_WAY_SECONDS = 0.05
_GLANCE_SECONDS = 0.0005

_ASSIGN_SECONDS = 1.0
_TICK_SECONDS = 2.0
_MOST_BACKOFF_SECONDS = 30.0
_LOOK = msgspec.msgpack.Decoder(ScrapeResult)
_MOST_TARGETS_SHOWN = 10_000


class TelemetryFeed:
    """Telemetry of one cluster, from `start` to `stop`."""

    def __init__(self, store: ClusterStore, settings: Telemetry, metrics: Metrics, supervisor: Supervisor | None = None) -> None:
        self._supervisor = supervisor or Supervisor(metrics)
        self._store, self._settings, self._metrics = store, settings, metrics
        self._stop = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._index = _Index()
        self._arrived: queue.SimpleQueue[ScrapeResult] = queue.SimpleQueue()
        self._last: OrderedDict[str, ScrapeResult] = OrderedDict()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin; returns at once."""
        self._supervisor.start("telemetry", self._keep_collecting, self._stop)
        self._supervisor.start("telemetry-tick", self._tick, self._stop)

    def stop(self) -> None:
        """End the collector."""
        self._stop.set()
        if self._child is not None:
            self._child.terminate()

    def command(self) -> list[str]:
        """What runs as the collector."""
        return [sys.executable, "-P", "-m", "extender.collectors.process"]

    def status(self) -> dict[str, Any]:
        """For people: what is asked, and who does not answer."""
        now = time.monotonic()
        with self._lock:
            last = list(self._last.values())
        rows = [
            {
                "target": look.target,
                "kind": look.kind,
                "node": look.node or None,
                "age_seconds": round(now - look.monotonic_seconds, 3),
                "took_seconds": round(look.took_seconds, 4),
                "failed": look.failed or None,
                "problems": list(look.problems),
            }
            for look in last
        ]
        return {"source": self._settings.source, "targets": len(self._store.snapshot.targets), "looks": rows}

    def _tick(self) -> None:
        """What is heard no more must grow old also where nothing else tells the time."""
        while not self._stop.wait(_TICK_SECONDS):
            self._store.apply((ClockTicked(None, time.monotonic()),))

    def _keep_collecting(self) -> None:
        failures = 0
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._collect()
            except Exception:  # a bug must not silently end telemetry
                log.exception("telemetry: unexpected; starting the collector again")
            failures = 0 if time.monotonic() - started > 60 else failures + 1
            self._metrics.collector_starts.inc()
            self._stop.wait(min(_MOST_BACKOFF_SECONDS, 0.5 * 2.0**failures))

    def _collect(self) -> None:
        """One life of a collector."""
        child = self._child = subprocess.Popen(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - ourselves
        done = threading.Event()
        teller = self._supervisor.start("telemetry-targets", lambda: self._tell(child, done), done)
        assert child.stdout is not None
        folder = self._supervisor.start("telemetry-fold", lambda: self._fold(done), done)
        try:
            while not self._stop.is_set() and (look := read_frame(child.stdout, _LOOK)) is not None:
                self._note(look)
                self._arrived.put(look)
        finally:
            done.set()
            child.terminate()
            teller.join(timeout=5)
            folder.join(timeout=5)
            child.communicate(timeout=10)

    def _tell(self, child: subprocess.Popen[bytes], done: threading.Event) -> None:
        assert child.stdin is not None
        told: Assignment | None = None
        while not done.is_set():
            said = self._assignment()
            if said != told and self._store.snapshot.synced:
                try:
                    child.stdin.write(frame(said))
                    child.stdin.flush()
                except OSError:  # the collector has ended: `_collect` sees that too, and ends this loop
                    done.wait(_ASSIGN_SECONDS)
                    continue
                told = said
            done.wait(_ASSIGN_SECONDS)

    def _assignment(self) -> Assignment:
        own = self._settings
        common = (own.interval_seconds, own.timeout_seconds, own.concurrency, own.max_body_bytes, own.max_age_seconds)
        if own.source == "prometheus":
            return Assignment(*common, (), own.prometheus.url, own.prometheus.bearer_token_file, own.prometheus.selector)
        targets = self._store.snapshot.targets
        return Assignment(*common, tuple(targets[key] for key in sorted(targets)))

    def _fold(self, done: threading.Event) -> None:
        """What arrived together is folded together, in slices with a pause between: a verb that comes meanwhile waits for one."""
        while not done.is_set():
            done.wait(FOLD_SECONDS)
            looks: list[ScrapeResult] = []
            while len(looks) < MOST_LOOKS and not self._arrived.empty():
                looks.append(self._arrived.get())
            changes = [change for look in looks for change in self._changes(look)]
            for first in range(0, len(changes), SLICE_NODES):
                self._give_way()
                self._store.apply(changes[first : first + SLICE_NODES])
                done.wait(0.001)

    def _changes(self, look: ScrapeResult) -> list[Change]:
        """A look as changes; none where it cannot be read, which harms no other look."""
        try:
            return list(self._index.changes(look, self._store.snapshot))
        except Exception:
            self._metrics.set_aside.labels("telemetry", "decode").inc()
            log.exception("telemetry: the answer of %s %s was set aside", look.kind, look.target)
            return []

    def _give_way(self) -> None:
        """Verbs come first; but telemetry is not put off for ever."""
        patience = GIVE_WAY_SECONDS / _GLANCE_SECONDS
        while self._store.answering and patience > 0:
            time.sleep(_GLANCE_SECONDS)
            patience -= 1

    def _note(self, look: ScrapeResult) -> None:
        name = f"{look.kind} {look.target}"
        with self._lock:
            self._last[name] = msgspec.structs.replace(look, devices=(), engines=())
            self._last.move_to_end(name)
            while len(self._last) > _MOST_TARGETS_SHOWN:
                self._last.popitem(last=False)
        self._metrics.scrapes.labels(look.kind, "failed" if look.failed else "ok").inc()
        self._metrics.scrape_seconds.labels(look.kind).observe(look.took_seconds)


@dataclass(slots=True)
class _Index:
    """Who is meant: GPU UUID -> node, pod name -> pod; made anew only when topologies or pods have changed."""

    topologies: Mapping[str, TopologyRecord | str] | None = None
    pods: Mapping[str, Any] | None = None
    uuids: Mapping[str, str] | None = None
    names: Mapping[str, tuple[str, str]] | None = None

    def changes(self, look: ScrapeResult, snapshot: Snapshot) -> Iterable[Change]:
        """A look as changes, one per node."""
        if look.kind == SOURCE:
            yield from self._joined(look, snapshot)
            return
        source = f"{look.kind} {look.target}"
        words = tuple(f"{source}: {text}" for text in ((look.failed,) if look.failed else ()) + look.problems)
        engines = ((look.key, look.engines),) if look.kind == ENGINE and look.engines else ()
        yield TelemetrySeen(look.node, look.monotonic_seconds, look.devices, engines, words, source)

    def _joined(self, look: ScrapeResult, snapshot: Snapshot) -> Iterable[Change]:
        self._refresh(snapshot)
        assert self.uuids is not None
        assert self.names is not None
        hosts = {urlsplit(target.url).hostname or "": target.node for target in snapshot.targets.values()}
        devices: dict[str, list[DeviceReading]] = {}
        for reading in look.devices:
            node = self.uuids.get(reading.uuid) or self._by_target(reading, hosts, snapshot)
            if node:
                devices.setdefault(node, []).append(reading)
        engines: dict[str, dict[str, list[EngineReading]]] = {}
        for engine in look.engines:
            found = self.names.get(engine.pod or "")
            if found:
                key, node = found
                engines.setdefault(node, {}).setdefault(key, []).append(engine)
        for node in sorted({*devices, *engines}):
            by_pod = tuple((key, tuple(readings)) for key, readings in engines.get(node, {}).items())
            yield TelemetrySeen(node, look.monotonic_seconds, tuple(devices.get(node, ())), by_pod, (), SOURCE)

    @staticmethod
    def _by_target(reading: DeviceReading, hosts: Mapping[str, str], snapshot: Snapshot) -> str | None:
        """For a GPU that no GpuTopology names: the exporter's address, or what the target's labels call its node."""
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
