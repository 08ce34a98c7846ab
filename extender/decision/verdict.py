"""A verdict: what one node would give a pod, or why not. The evidence depends on node state and demand alone, so
identical nodes share one verdict object; scores over the candidates are made from it in `scores`."""

from __future__ import annotations

import msgspec

from extender.decision.pressure import Pressure
from extender.decision.reasons import Rejection

MOST_PROSPECTS = 16
"""Predicted sets kept per verdict, likeliest first."""


class Prospect(msgspec.Struct, frozen=True, gc=False):
    """One set the pod may get. `gpus` are nvidia-smi indices."""

    gpus: tuple[int, ...]
    probability: float
    busbw_gbps: float | None


class Evidence(msgspec.Struct, frozen=True, gc=False):
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
    worst_rank: int | None = None
    """Of the worst link in any set it may get: a place in `annotations.LINKS`."""
    marginals: tuple[float, ...] = ()
    """Per position the chance that the pod gets it."""
    pressure: Pressure | None = None
    """What it would find there; None where telemetry was never seen."""


class Verdict(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Either a rejection or evidence. What the verbs read thousands of times is spelt out once: see `verdict_of`."""

    rejection: Rejection | None
    evidence: Evidence
    feasible: bool
    reason: str | None
    """The rejection's stable text."""
    curable: bool


def verdict_of(rejection: Rejection | None, evidence: Evidence) -> Verdict:
    """A verdict with the plain fields derived from the rejection."""
    if rejection is None:
        return Verdict(None, evidence, True, None, False)
    return Verdict(rejection, evidence, False, rejection.reason.value, rejection.curable)
