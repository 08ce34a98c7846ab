"""The types of the answer to `POST /v1/explain`."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from extender.web.answer_types.node_types import AnswerType, PredictedSet
from extender.workload.model import ModelShape


class RequestedDevices(AnswerType, frozen=True):
    """Devices that a pod requests by a claim."""

    request: str
    device_class: str = msgspec.field(name="class")
    count: int | Literal["all"]


class Claims(AnswerType, frozen=True):
    """What a pod requests by ResourceClaims."""

    requests: list[RequestedDevices]
    unknown: str | None


class DemandAnswer(AnswerType, frozen=True):
    """What a pod demands; only `problem` where that is invalid. A wish that the pod does not state is absent."""

    problem: str | UnsetType = UNSET
    gpus: int | UnsetType = UNSET
    gpus_per_container: list[int] | UnsetType = UNSET
    gpus_per_init_container: list[int] | UnsetType = UNSET
    slices: dict[str, int] | UnsetType = UNSET
    claims: Claims | UnsetType = UNSET
    min_gpu_memory_bytes: int | UnsetType | None = UNSET
    messages: str | UnsetType | None = UNSET
    min_busbw_gbps: float | UnsetType | None = UNSET
    workload_class: str | UnsetType = UNSET
    gpu_memory_classes_gb: list[int] | UnsetType = UNSET
    min_free_memory_bytes: int | UnsetType = UNSET
    min_link: str | UnsetType = UNSET
    preferred_link: str | UnsetType = UNSET
    preferred_busbw_gbps: float | UnsetType = UNSET
    min_compute_capability: str | UnsetType = UNSET
    min_driver: str | UnsetType = UNSET
    min_cuda: str | UnsetType = UNSET
    sharing: list[str] | UnsetType = UNSET
    model: ModelShape | UnsetType = UNSET


class RejectionAnswer(AnswerType, frozen=True):
    """Why a node is refused, and by which program."""

    reason: str
    detail: str
    resolvable: bool
    by: Literal["fabricwise", "kube-scheduler"]
    filter: str | UnsetType = UNSET
    """The filter of kube-scheduler."""


class ScoreAnswer(AnswerType, frozen=True):
    """What one scorer says of a node."""

    value: float
    weight: float
    detail: str


class PressureAnswer(AnswerType, frozen=True):
    """The load on the GPUs that a pod would get."""

    own: float
    neighbours: float
    unknown_share: float


class ExplainedNode(AnswerType, frozen=True):
    """The verdict on one node."""

    node: str
    feasible: bool
    score: int | None
    value: float | None
    rejection: RejectionAnswer | None
    refusals: list[RejectionAnswer]
    scores: dict[str, ScoreAnswer]
    best_bandwidth_gbps: float | None
    expected_bandwidth_gbps: float | None
    worst_bandwidth_gbps: float | None
    effective_bandwidth_gbps: float | None
    predicted: list[PredictedSet]
    further_sets: int
    further_probability: float
    notes: list[str]
    pressure: PressureAnswer | None


class InferredFact(AnswerType, frozen=True):
    """A fact inferred from a container's command line."""

    container: str
    engine: str | None
    fact: str
    value: str | int | float | bool | None
    source: str = msgspec.field(name="from")


class InferredAnswer(AnswerType, frozen=True):
    """What is inferred from a pod's command lines."""

    facts: list[InferredFact]
    gpu_memory_bytes: int | None
    warnings: list[str]


class Explanation(AnswerType, frozen=True):
    """What would be decided about a pod, node by node, the best node first."""

    pod: str
    demand: DemandAnswer
    chosen: str | None
    nodes: list[ExplainedNode]
    inferred: InferredAnswer
    not_checked: list[str]
    of: str
    cluster: str | UnsetType | None = UNSET
    state_age_seconds: float | UnsetType = UNSET


class Explanations(AnswerType, frozen=True):
    """The explanations of several pod templates."""

    explanations: list[Explanation]
    cluster: str | None
    state_age_seconds: float | UnsetType = UNSET
