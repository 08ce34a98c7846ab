"""The types of the answers about nodes, their telemetry and their assumed pods."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from extender.telemetry.signals import FIELDS


class AnswerType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the types of answers. A field of value null is unknown; a field that is not required is absent where it has no meaning."""


class SetAside(AnswerType, frozen=True):
    """An object that is left out because of an error, while everything else is used."""

    kind: str
    name: str
    stage: str
    node: str | None
    why: str


class Slice(AnswerType, frozen=True):
    """Shares of GPUs that a node offers under a resource name of their own."""

    resource: str
    sharing: str
    allocatable: int


class Fenced(AnswerType, frozen=True):
    """A GPU that no pod may get."""

    gpu: int
    why: str


class DraSummary(AnswerType, frozen=True):
    """What Dynamic Resource Allocation offers on a node."""

    devices: int
    unknown: str | None
    notes: list[str]


class NodeSummary(AnswerType, frozen=True):
    """A node in one row."""

    node: str
    topology: str
    """In the answer about a node that could not be evaluated, only `node`, `topology`, `problem` and `set_aside` are present."""
    problem: str | None
    set_aside: list[str]
    product: str | UnsetType | None = UNSET
    gpu_memory_bytes: int | UnsetType | None = UNSET
    allocatable: int | UnsetType = UNSET
    requested: int | UnsetType = UNSET
    free: int | UnsetType = UNSET
    stale_since_seconds: float | UnsetType | None = UNSET
    disagreements: list[str] | UnsetType = UNSET
    sharing: str | UnsetType | None = UNSET
    physical_gpus: int | UnsetType | None = UNSET
    slices: list[Slice] | UnsetType = UNSET
    fenced: list[Fenced] | UnsetType = UNSET
    telemetry_problems: list[str] | UnsetType = UNSET
    dra: DraSummary | UnsetType = UNSET


class NodesAnswer(AnswerType, frozen=True):
    """All nodes, and everything that is set aside."""

    nodes: list[NodeSummary]
    set_aside: list[SetAside]


class PodOnNode(AnswerType, frozen=True):
    """A pod on a node with the GPUs that it requests."""

    namespace: str
    name: str
    gpus: int


class PredictedSet(AnswerType, frozen=True):
    """A set of GPUs that a pod may get."""

    gpus: list[int]
    probability: float
    bandwidth_gbps: float | None
    most_bandwidth_gbps: float | UnsetType = UNSET


class AssumedPod(AnswerType, frozen=True):
    """A pod that was decided for a node and is not visible there yet."""

    pod: str
    uid: str
    node: str
    gpus: int
    expected_bandwidth_gbps: float | None
    predicted: list[PredictedSet]
    further_sets: int
    further_probability: float
    age_seconds: float
    ends_in_seconds: float
    decision: str | None


class AssumedPodsAnswer(AnswerType, frozen=True):
    """The assumed pods, oldest first."""

    assumed_pods: list[AssumedPod]


class FreeSet(AnswerType, frozen=True):
    """GPUs that may be the free ones of a node."""

    gpus: list[int]
    probability: float


class AllocatedGpu(AnswerType, frozen=True):
    """A GPU and the pod that its node's agent sees it allocated to; null: the agent does not know the pod."""

    gpu: int
    namespace: str | None
    name: str | None


class UnhealthyGpu(AnswerType, frozen=True):
    """A GPU that its node's agent reports as unhealthy."""

    gpu: int
    reason: str


class TelemetryFault(AnswerType, frozen=True):
    """An error for which a device is fenced."""

    why: str
    seconds_since_first_seen: float | None
    seconds_since_last_seen: float | None


DeviceTelemetry = msgspec.defstruct(
    "DeviceTelemetry",
    [
        ("uuid", str),
        ("mig_instance", int | None),
        ("mig_profile", str | None),
        ("index", int | None),
        ("product", str | None),
        ("pci_bus_id", str | None),
        *((name, float | bool | None) for name in FIELDS),
        ("fb_total_bytes", float | None),
        ("recent_xids", list[int]),
        ("pods", list[Any]),
        ("healthy", bool | None),
        ("unknown", list[str]),
        ("age_seconds", float | None),
        ("stale", bool),
        ("free_bytes_held", float | None),
        ("strain", float | None),
        ("traffic", float | None),
        ("fenced", TelemetryFault | None),
        ("suspicions", list[str]),
    ],
    bases=(AnswerType,),
    namespace={"__doc__": "The newest reading of a device, its age, and what follows from it."},
    frozen=True,
    forbid_unknown_fields=True,
)


class EngineReading(AnswerType, frozen=True):
    """The newest reading of a serving engine."""

    engine: str
    model: str | None
    kv_cache_usage: float | None
    requests_waiting: float | None
    requests_running: float | None
    unknown: list[str]


class PodEngines(AnswerType, frozen=True):
    """The serving engines of a pod."""

    pod: str
    age_seconds: float | None
    stale: bool
    pressure: float | None
    engines: list[EngineReading]


class NodeTelemetry(AnswerType, frozen=True):
    """The telemetry of a node."""

    devices: list[DeviceTelemetry]  # type: ignore[valid-type]  # made by defstruct, from the table of signals
    engines: list[PodEngines]
    problems: list[str]


class NodePage(NodeSummary, frozen=True, kw_only=True):
    """All that is known of one node. Fields of the hardware are absent where it is not known."""

    pods: list[PodOnNode]
    assumed_pods: list[AssumedPod]
    telemetry: NodeTelemetry
    fabric: str | UnsetType = UNSET
    assumed: list[str] | UnsetType = UNSET
    contradictions: list[str] | UnsetType = UNSET
    believed_free: list[FreeSet] | UnsetType = UNSET
    held: dict[str, list[int]] | UnsetType = UNSET
    allocated: list[AllocatedGpu] | UnsetType = UNSET
    allocations_unknown: str | UnsetType | None = UNSET
    unhealthy: list[UnhealthyGpu] | UnsetType = UNSET
    observed_at_seconds: float | UnsetType | None = UNSET


class ScrapeResult(AnswerType, frozen=True):
    """The result of the last scrape of a target."""

    target: str
    kind: str
    node: str | None
    age_seconds: float
    took_seconds: float
    failed: str | None
    problems: list[str]


class TelemetryAnswer(AnswerType, frozen=True):
    """The source of telemetry and its targets."""

    source: str
    targets: int
    looks: list[ScrapeResult]
