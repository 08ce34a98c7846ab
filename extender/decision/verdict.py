"""A verdict: what one node would give a pod, or why not. The evidence depends on node state and demand alone, so
identical nodes share one verdict object; scores over the candidates are made from it in `scores`."""

from __future__ import annotations

from dataclasses import dataclass, field

from extender.decision.pressure import Pressure
from extender.decision.reasons import Rejection

MOST_PROSPECTS = 16
"""Predicted sets kept per verdict, likeliest first."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """One set the pod may get. `gpus` are nvidia-smi indices."""

    gpus: tuple[int, ...]
    probability: float
    busbw_gbps: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """The numbers behind a feasible verdict. None = unknown, or not meaningful (a single GPU has no bandwidth)."""

    best_gbps: float | None = None
    expected_gbps: float | None = None
    worst_gbps: float | None = None
    effective_gbps: float | None = None
    """Expected bus bandwidth over the message sizes the pod cares about (`topology.bandwidth.MESSAGE_MIXES`)."""
    prospects: tuple[Prospect, ...] = ()
    loss: float | None = None
    """Capability (see `PlacementTable.capability`) the node is expected to lose, 0..1."""
    least_loss: float | None = None
    """The smallest loss among the sets it may get."""
    gpu_memory_bytes: int | None = None
    notes: tuple[str, ...] = ()
    marginals: tuple[float, ...] = ()
    """Per position the chance that the pod gets it."""
    pressure: Pressure | None = None
    """What it would find there; None where telemetry was never seen."""


@dataclass(frozen=True, eq=False, slots=True)
class Verdict:
    """Either a rejection or evidence. What the verbs read thousands of times is spelt out once."""

    rejection: Rejection | None
    evidence: Evidence
    feasible: bool = field(init=False)
    reason: str | None = field(init=False)
    """The rejection's stable text."""
    curable: bool = field(init=False)

    def __post_init__(self) -> None:
        """Derive the plain fields from the rejection."""
        object.__setattr__(self, "feasible", self.rejection is None)
        object.__setattr__(self, "reason", self.rejection.reason.value if self.rejection else None)
        object.__setattr__(self, "curable", self.rejection is not None and self.rejection.curable)
