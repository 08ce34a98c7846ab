"""Prometheus metrics of the extender, in a registry that has nothing else. kube-scheduler exports no metrics about its extenders."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from extender.decision.report.live.cluster_rows import NodeRow
from extender.decision.report.live.device_states import GpuState
from extender.decision.report.prediction_outcomes import Outcome
from extender.decision.slots.slot_answer import SlotRow
from topology.gputopology.topology_record import STEERING_REASONS, SteeringStatus

_GBPS = (5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 180.0, 240.0, 360.0, 500.0, 720.0, 900.0)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Metrics:
    """All metrics at `/metrics`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.verb_seconds = Histogram(
            "fabricwise_verb_seconds",
            "Seconds from the complete request body of a scheduler verb to its response body",
            ["verb"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.verb_errors = Counter(
            "fabricwise_verb_errors", "Scheduler verbs answered with an Error", ["verb", "cause"], registry=self.registry
        )
        self.nodes = Counter("fabricwise_filtered_nodes", "Nodes evaluated by filter, by outcome", ["outcome"], registry=self.registry)
        self.watch_events = Counter("fabricwise_watch_events", "Events from the API server", ["kind", "type"], registry=self.registry)
        self.watch_failures = Counter(
            "fabricwise_watch_failures", "Lists and watches that ended with an error", ["kind", "cause"], registry=self.registry
        )
        self.synced = Gauge("fabricwise_synced", "1 once nodes, pods and topologies are listed", registry=self.registry)
        self.revision = Gauge("fabricwise_snapshot_revision", "Changes applied to the snapshot since the start", registry=self.registry)
        self.state_age = Gauge("fabricwise_state_age_seconds", "Seconds without contact to the API server", registry=self.registry)
        self.assumed_pods = Gauge(
            "fabricwise_assumed_pods", "Pods that are decided for a node and not yet visible there", registry=self.registry
        )
        self.leading = Gauge(
            "fabricwise_leading", "1 if this replica holds the lease: it posts events and requeues pods", registry=self.registry
        )
        self.known_nodes = Gauge("fabricwise_nodes", "Nodes by the state of their topology", ["topology"], registry=self.registry)

        self.predicted_gbps = Histogram(
            "fabricwise_predicted_gbps",
            "Predicted bus bandwidth of pods whose devices are known now, GB/s",
            buckets=_GBPS,
            registry=self.registry,
        )
        self.actual_gbps = Histogram(
            "fabricwise_actual_gbps",
            "Bus bandwidth of the devices that those pods were allocated, GB/s",
            buckets=_GBPS,
            registry=self.registry,
        )
        self.predictions = Counter(
            "fabricwise_predictions",
            "Predictions with a known outcome, by whether the allocated set was among the predicted sets",
            ["in_support"],
            registry=self.registry,
        )
        self.disagreements = Gauge(
            "fabricwise_allocation_disagreements",
            "Pods for which the pod's status and the agent name different devices",
            registry=self.registry,
        )
        self.scrapes = Counter("fabricwise_scrapes", "Scrapes of telemetry targets", ["kind", "outcome"], registry=self.registry)
        self.scrape_seconds = Histogram(
            "fabricwise_scrape_seconds",
            "Seconds that a telemetry target took to answer",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.collector_starts = Counter("fabricwise_collector_restarts", "Telemetry collectors that ended", registry=self.registry)
        self.telemetry_nodes = Gauge(
            "fabricwise_telemetry_nodes", "Nodes by the state of their telemetry", ["telemetry"], registry=self.registry
        )
        self.fenced = Gauge("fabricwise_fenced_gpus", "GPUs fenced because of a fatal error", registry=self.registry)
        self.requeued = Counter(
            "fabricwise_requeued_pods",
            "Pending pods requeued because a change may have resolved their rejection",
            ["outcome"],
            registry=self.registry,
        )
        self.set_aside = Counter(
            "fabricwise_objects_set_aside",
            "Objects, nodes and steps that were set aside because of an error",
            ["kind", "stage"],
            registry=self.registry,
        )
        self.loop_restarts = Counter(
            "fabricwise_loop_restarts", "Loops that ended with an unexpected error and were started again", ["loop"], registry=self.registry
        )
        self.loops_down = Gauge("fabricwise_loops_down", "Loops that fail repeatedly", registry=self.registry)
        self.recorded = Counter("fabricwise_decisions_recorded", "Decisions written to the file of decisions.file", registry=self.registry)
        self.unrecorded = Counter(
            "fabricwise_decisions_not_recorded",
            "Decisions that were not written to that file: too many waited, or it could not be written",
            ["cause"],
            registry=self.registry,
        )
        self.steering = SteeringCollector()
        self.registry.register(self.steering)
        self.slots = SlotsCollector()
        self.registry.register(self.slots)
        self.stale = Gauge("fabricwise_stale_topologies", "Nodes whose GpuTopology status is stale", registry=self.registry)
        self.pending = Gauge("fabricwise_pending_pods", "Pods that request GPUs and are not bound", registry=self.registry)
        self.stream_clients = Gauge("fabricwise_stream_clients", "Clients of the stream of the live view", registry=self.registry)
        self.rows = RowCollector()
        self.registry.register(self.rows)

    def observe_outcome(self, outcome: Outcome) -> None:
        """Count the outcome of a prediction; observe both bandwidths if they are known."""
        self.predictions.labels({True: "yes", False: "no", None: "unknown"}[outcome.in_support]).inc()
        if outcome.expected_gbps is not None and outcome.known.busbw_gbps is not None:
            self.predicted_gbps.observe(outcome.expected_gbps)
            self.actual_gbps.observe(outcome.known.busbw_gbps)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self.registry)


GPU_STATES = tuple(state.value for state in GpuState)


class RowCollector(Collector):
    """The GPUs by state: per product, and per node where the cluster has few enough nodes.

    Labels are bounded: `product` by the products of the cluster, `state` by `GPU_STATES`, `node` by `most_nodes`.
    """

    def __init__(self) -> None:
        self._rows: tuple[NodeRow, ...] = ()
        self._most_nodes = 0

    def set(self, rows: Iterable[NodeRow], most_nodes: int) -> None:
        """The present state. There are no values per node where there are more than `most_nodes` nodes with GPUs."""
        self._rows, self._most_nodes = tuple(rows), most_nodes

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        rows = self._rows
        gpus = GaugeMetricFamily("fabricwise_gpus", "GPUs by product and state", labels=["product", "state"])
        sums: Counts[tuple[str, str]] = Counts()
        for row in rows:
            for state in GPU_STATES:
                sums[row.product or "unknown", state] += getattr(row, state)
        for (product, state), count in sums.items():
            gpus.add_metric([product, state], count)
        unschedulable = GaugeMetricFamily("fabricwise_unschedulable_nodes", "Nodes with GPUs that are cordoned or not ready")
        unschedulable.add_metric([], sum(not row.schedulable for row in rows))
        omitted = GaugeMetricFamily(
            "fabricwise_node_metrics_omitted",
            "1 while the cluster has more nodes than server.node_metrics: no values per node",
        )
        omitted.add_metric([], len(rows) > self._most_nodes)
        yield from (gpus, unschedulable, omitted, *self._by_node(rows if len(rows) <= self._most_nodes else ()))

    @staticmethod
    def _by_node(rows: tuple[NodeRow, ...]) -> Iterator[Metric]:
        gpus = GaugeMetricFamily("fabricwise_node_gpus", "GPUs of a node by state", labels=["node", "state"])
        pressure = GaugeMetricFamily("fabricwise_node_pressure", "Mean pressure on a node's GPUs with telemetry, 0 to 1", labels=["node"])
        problems = GaugeMetricFamily("fabricwise_node_problems", "Faults and contradictions of a node", labels=["node"])
        for row in rows:
            for state in GPU_STATES:
                gpus.add_metric([row.name, state], getattr(row, state))
            if row.pressure is not None:
                pressure.add_metric([row.name], row.pressure)
            problems.add_metric([row.name], row.problems)
        yield from (gpus, pressure, problems)


class SlotsCollector(Collector):
    """Slots of the last count, by GPU product; nothing before the first count, and after one that failed.

    Labels are bounded: `product` by the rows that are set, `size` by the sizes of the count, `cause` by the fields of `Lost`.
    """

    def __init__(self) -> None:
        self._rows: tuple[SlotRow, ...] = ()

    def set(self, rows: Iterable[SlotRow]) -> None:
        """The rows of the last count, one per product."""
        self._rows = tuple(rows)

    def by_size(self) -> dict[int, int] | None:
        """Return GPUs of a pod -> pods of that size that fit, by the last count; None where nothing is counted."""
        sums: Counts[int] = Counts()
        for row in self._rows:
            for slots in row.sizes:
                sums[slots.size] += slots.now
        return dict(sums) or None

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        fit = GaugeMetricFamily("fabricwise_slots", "Pods of this many GPUs that fit now", labels=["product", "size"])
        lost = GaugeMetricFamily(
            "fabricwise_slots_lost", "Pods that the idle GPUs do not make, by what they are lost to", labels=["product", "size", "cause"]
        )
        for row in self._rows:
            for slots in row.sizes:
                fit.add_metric([row.name, str(slots.size)], slots.now)
                for cause in slots.lost.__struct_fields__:
                    lost.add_metric([row.name, str(slots.size), cause], getattr(slots.lost, cause))
        yield from (fit, lost)


class SteeringCollector(Collector):
    """What the steerers of all nodes count, by node. They count from their own start, so a value can fall back to 0.

    Labels are bounded: `node` by the nodes that have a steerer, `reason` by those that this version knows, and `other`.
    """

    def __init__(self) -> None:
        self._nodes: tuple[tuple[str, SteeringStatus], ...] = ()

    def set(self, nodes: Iterable[tuple[str, SteeringStatus]]) -> None:
        """The present state: (node, what its steerer reports)."""
        self._nodes = tuple(nodes)

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        answers = CounterMetricFamily(
            "fabricwise_node_steering_answers",
            "Preferred allocations answered on a node, by whether its steerer chose or forwarded the device plugin's answer, and why",
            labels=["node", "result", "reason"],
        )
        differing = CounterMetricFamily(
            "fabricwise_node_steering_differing", "Allocations of other devices than the node's steerer answered", labels=["node"]
        )
        for node, steering in self._nodes:
            answers.add_metric([node, "steered", ""], steering.steered)
            by_reason: dict[str, int] = {}
            for reason, count in steering.forwarded:
                known = reason if reason in STEERING_REASONS else "other"
                by_reason[known] = by_reason.get(known, 0) + count
            for reason, count in by_reason.items():
                answers.add_metric([node, "forwarded", reason], count)
            differing.add_metric([node], steering.differing)
        yield from (answers, differing)
