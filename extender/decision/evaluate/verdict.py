"""A verdict: what one node would give a pod, or why not. The evidence depends on node state and demand alone, so
identical nodes share one verdict object; scores over the candidates are made from it in `scores`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import msgspec

from extender.decision.node.pressure import Pressure
from extender.decision.request.reasons import Rejection

MOST_PROSPECTS = 16
"""Predicted sets listed per verdict, likeliest first. `Evidence.support` has all of them."""


class Prospect(msgspec.Struct, frozen=True, gc=False):
    """One set the pod may get. `gpus` are nvidia-smi indices."""

    gpus: tuple[int, ...]
    probability: float
    busbw_gbps: float | None
    """Of the slowest container; the least where the set may be divided between the containers in several ways."""
    most_busbw_gbps: float | None = None
    """The most that a division of the set between the containers gives, where that is more."""


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """The numbers behind a feasible verdict. None = unknown, or not meaningful (a single GPU has no bandwidth)."""

    best_gbps: float | None = None
    expected_gbps: float | None = None
    worst_gbps: float | None = None
    effective_gbps: float | None = None
    """Expected bus bandwidth over the message sizes the pod cares about (`topology.bandwidth.all_reduce.MESSAGE_MIXES`)."""
    prospects: tuple[Prospect, ...] = ()
    """The likeliest sets, each once."""
    containers: tuple[tuple[int, ...], ...] | None = None
    """nvidia-smi indices per container that stays, in the kubelet's order; None unless that is certain, as on a steered node."""
    further_sets: int = 0
    """How many sets there are beside those in `prospects`."""
    further_probability: float = 0.0
    """The chance that the pod gets one of those."""
    support: bytes | None = None
    """All sets the pod may get, as `support_of` packs them; None where that is not known."""
    support_complete: bool = True
    """Whether the prediction is exact: a set that is not in `support` contradicts it."""
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
    resolvable: bool


def support_of(masks: Iterable[int]) -> bytes:
    """Sets of positions, packed: two bytes each, for machines have up to 16 GPUs."""
    return array("H", sorted(masks)).tobytes()


def masks_in(support: bytes) -> Sequence[int]:
    """The masks in a support."""
    return memoryview(support).cast("H")


def verdict_of(rejection: Rejection | None, evidence: Evidence) -> Verdict:
    """A verdict with the plain fields derived from the rejection."""
    if rejection is None:
        return Verdict(None, evidence, True, None, False)
    return Verdict(rejection, evidence, False, rejection.reason.value, rejection.resolvable)
