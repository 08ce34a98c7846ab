"""Prometheus metrics, in a registry of their own: kube-scheduler has none about its extenders."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Metrics:
    """Everything `/metrics` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.verb_seconds = Histogram(
            "fabricwise_verb_seconds", "Time to answer a scheduler verb, body in to body out", ["verb"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.verb_errors = Counter(
            "fabricwise_verb_errors", "Scheduler verbs answered with an Error", ["verb", "cause"], registry=self.registry
        )
        self.nodes = Counter("fabricwise_filtered_nodes", "Nodes judged by filter, by outcome", ["outcome"], registry=self.registry)
        self.watch_events = Counter("fabricwise_watch_events", "Events from the API server", ["kind", "type"], registry=self.registry)
        self.watch_failures = Counter(
            "fabricwise_watch_failures", "Lists and watches that ended in an error", ["kind", "cause"], registry=self.registry
        )
        self.synced = Gauge("fabricwise_synced", "1 once nodes, pods and topologies are listed", registry=self.registry)
        self.revision = Gauge("fabricwise_snapshot_revision", "Changes folded so far", registry=self.registry)
        self.known_nodes = Gauge("fabricwise_nodes", "Nodes by what is known of their topology", ["topology"], registry=self.registry)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)
