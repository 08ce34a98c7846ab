"""What a steerer did: for the agent, which publishes it, and for Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0)


@dataclass(slots=True)
class ResourceCounts:
    """Of one resource."""

    steered: Counter[str] = field(default_factory=Counter)
    """Answers of our own, by what they rest on."""
    forwarded: Counter[str] = field(default_factory=Counter)
    """Answers of NVIDIA's plugin, by the reason."""
    differing: int = 0
    """Allocations of other devices than were answered."""
    registrations: int = 0
    """With the kubelet."""
    devices: int | None = None
    """Healthy devices that the plugin lists; None while the kubelet does not listen."""
    seconds: Counter[float] = field(default_factory=Counter)
    """Answers by the least bucket they fit in; larger ones are under infinity."""
    seconds_sum: float = 0.0


class Counts:
    """Counters of all resources. Safe in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_resource: dict[str, ResourceCounts] = {}

    def steered(self, resource: str, basis: str, seconds: float) -> None:
        """An answer of our own."""
        with self._lock:
            counts = self._of(resource)
            counts.steered[basis] += 1
            _observe(counts, seconds)

    def forwarded(self, resource: str, reason: str, seconds: float) -> None:
        """An answer of the plugin."""
        with self._lock:
            counts = self._of(resource)
            counts.forwarded[reason] += 1
            _observe(counts, seconds)

    def differing(self, resource: str) -> None:
        """An allocation of other devices than were answered."""
        with self._lock:
            self._of(resource).differing += 1

    def registered(self, resource: str) -> None:
        """A registration with the kubelet."""
        with self._lock:
            self._of(resource).registrations += 1

    def listed(self, resource: str, devices: int | None) -> None:
        """How many healthy devices the kubelet was told of; None: it does not listen any more."""
        with self._lock:
            self._of(resource).devices = devices

    def _of(self, resource: str) -> ResourceCounts:
        """Under the lock."""
        return self._by_resource.setdefault(resource, ResourceCounts())

    def report(self, version: str, now_seconds: float) -> bytes:
        """The document for the agent: see `topology.agent.steerer`."""
        with self._lock:
            resources = [name for name, counts in sorted(self._by_resource.items()) if counts.devices is not None]
            forwarded: Counter[str] = Counter()
            for counts in self._by_resource.values():
                forwarded += counts.forwarded
            found = {
                "version": version,
                "writtenAtSeconds": now_seconds,
                "resources": resources,
                "steered": sum(counts.steered.total() for counts in self._by_resource.values()),
                "forwarded": dict(sorted(forwarded.items())),
                "differing": sum(counts.differing for counts in self._by_resource.values()),
            }
        return msgspec.json.encode(found)

    def metrics(self) -> Iterator[Metric]:
        """All metrics, as they are now."""
        answers = CounterMetricFamily(
            "fabricwise_steering_answers", "Preferred allocations answered", labels=["resource", "result", "reason"]
        )
        differing = CounterMetricFamily("fabricwise_steering_differing", "Allocations of other devices than answered", labels=["resource"])
        registrations = CounterMetricFamily("fabricwise_steering_registrations", "Registrations with the kubelet", labels=["resource"])
        devices = GaugeMetricFamily("fabricwise_steering_devices", "Healthy devices the kubelet was told of", labels=["resource"])
        seconds = HistogramMetricFamily("fabricwise_steering_answer_seconds", "Time until the answer", labels=["resource"])
        with self._lock:
            for name, counts in self._by_resource.items():
                for result, by_reason in (("steered", counts.steered), ("forwarded", counts.forwarded)):
                    for reason, count in by_reason.items():
                        answers.add_metric([name, result, reason], count)
                differing.add_metric([name], counts.differing)
                registrations.add_metric([name], counts.registrations)
                devices.add_metric([name], counts.devices or 0)
                bounds = [*_BUCKETS_SECONDS, float("inf")]
                below = [sum(counts.seconds[bound] for bound in bounds[: place + 1]) for place in range(len(bounds))]
                buckets = [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in zip(bounds, below, strict=True)]
                seconds.add_metric([name], buckets, counts.seconds_sum)
        yield from (answers, differing, registrations, devices, seconds)


def _observe(counts: ResourceCounts, seconds: float) -> None:
    counts.seconds[next((bound for bound in _BUCKETS_SECONDS if seconds <= bound), float("inf"))] += 1
    counts.seconds_sum += seconds


class CountsCollector(Collector):
    """The counts as Prometheus metrics, read when scraped."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        return self._counts.metrics()
