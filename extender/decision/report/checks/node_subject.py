"""The node under check, and the survey of the cluster that it is compared with. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from extender.decision.evaluate.policy import Policy
from extender.decision.node.gpu_stack import NonGpuPod
from extender.decision.node.node_state import NodeView
from extender.decision.report.checks.reported_versions import reported_cuda, reported_driver
from extender.decision.request.kubernetes_objects import Node
from extender.decision.state.snapshot import Snapshot
from extender.telemetry.conditions import NodeTelemetry, Tuning
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import Machine

USABLE_MEMORY_SHARE = Policy().usable_memory_share
"""The default of `filtering.usable_memory_share`."""


class Status(StrEnum):
    """The result of a check, best first."""

    PASS = "pass"  # noqa: S105 - not a password
    UNKNOWN = "unknown"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check of one node."""

    name: str
    status: Status
    evidence: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """Facts about all nodes that checks compare one node with, gathered once per snapshot."""

    by_node: Mapping[str, tuple[NonGpuPod, ...]]
    components: frozenset[str]
    """Components of the GPU stack that run on any node."""
    drivers: Mapping[str | None, Counter[str]]
    """Product -> driver version as reported -> number of nodes."""


def survey(snapshot: Snapshot) -> Survey:
    """Return the survey of a snapshot."""
    by_node: dict[str, list[NonGpuPod]] = {}
    for pod in snapshot.non_gpu_pods.values():
        by_node.setdefault(pod.node, []).append(pod)
    drivers: dict[str | None, Counter[str]] = {}
    for name, view in sorted(snapshot.views.items()):
        node = snapshot.nodes.get(name)
        driver = reported_driver(labels_of(node), view.machine) if node is not None else None
        if driver is not None:
            drivers.setdefault(view.state.product, Counter())[driver] += 1
    components = frozenset(pod.component for pod in snapshot.non_gpu_pods.values() if pod.component)
    return Survey({name: tuple(pods) for name, pods in by_node.items()}, components, drivers)


@dataclass(frozen=True, slots=True)
class Subject:
    """The node under check with everything known about it."""

    name: str
    node: Node
    view: NodeView
    snapshot: Snapshot
    resource: str
    tuning: Tuning
    survey: Survey
    usable_memory_share: float = USABLE_MEMORY_SHARE
    """Of a GPU's memory that must be free for a pod that states no need: `filtering.usable_memory_share`."""

    @property
    def labels(self) -> dict[str, str]:
        return labels_of(self.node)

    @property
    def record(self) -> TopologyRecord | str | None:
        return self.snapshot.topologies.get(self.name)

    @property
    def machine(self) -> Machine | None:
        return self.record.machine if isinstance(self.record, TopologyRecord) else None

    @property
    def non_gpu_pods(self) -> tuple[NonGpuPod, ...]:
        return self.survey.by_node.get(self.name, ())

    @property
    def driver(self) -> str | None:
        """The driver's version as reported."""
        return reported_driver(self.labels, self.view.machine)

    @property
    def cuda(self) -> str | None:
        """The newest CUDA version that the driver supports, as reported."""
        return reported_cuda(self.labels, self.view.machine)

    @property
    def telemetry(self) -> NodeTelemetry | None:
        return self.snapshot.telemetry.get(self.name)

    def component(self, name: str) -> NonGpuPod | None:
        """Return the component's pod on the node, of several the first by name of those that are ready, if any is; None without a pod."""
        pods = [pod for pod in self.non_gpu_pods if pod.component == name]
        return min(pods, key=lambda pod: (not pod.ready, pod.full_name), default=None)


def labels_of(node: Node) -> dict[str, str]:
    """A node's labels."""
    return node.metadata.labels or {}


def few(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and the number of the others: `a, b, c and 2 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def plural(count: int, thing: str) -> str:
    """Return the count with its noun: `1 GPU`, `8 GPUs`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
