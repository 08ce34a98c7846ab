"""Verdict: the result of evaluating one node for a pod, either a rejection or the evidence for a feasible node.

The evidence depends on node state and demand only, so nodes in equal states share one verdict object. `scorers` computes scores from it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import msgspec

from extender.decision.node.devices.pressure import Pressure
from extender.decision.request.reasons import Rejection
from topology.devices.size_mix import SizeMix

MOST_PROSPECTS = 16
"""Predicted sets listed per verdict, most probable first. `Evidence.support` has all of them."""


class Prospect(msgspec.Struct, frozen=True, gc=False):
    """One set of GPUs the pod may get. `gpus` are nvidia-smi indices."""

    gpus: tuple[int, ...]
    probability: float
    busbw_gbps: float | None
    """Bus bandwidth of the slowest container; the lowest value where the set can be divided between the containers in several ways."""
    most_busbw_gbps: float | None = None
    """The highest value of any division of the set between the containers; None where all divisions are equal."""


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """The numbers of a feasible verdict. None = unknown, or without meaning (a single GPU has no bandwidth)."""

    best_gbps: float | None = None
    expected_gbps: float | None = None
    worst_gbps: float | None = None
    effective_gbps: float | None = None
    """Expected bus bandwidth in GB/s over the pod's mix of message sizes (`topology.bandwidth.all_reduce.MESSAGE_MIXES`)."""
    prospects: tuple[Prospect, ...] = ()
    """The most probable sets, each once."""
    containers: tuple[tuple[int, ...], ...] | None = None
    """nvidia-smi indices per container that stays, in the kubelet's order; None unless that is certain, as on a steered node."""
    steered_for: str | None = None
    """The messages that the steerer's set is chosen for, as `bandwidth.mix_of` names them; None unless `containers` is known."""
    size_mix: SizeMix | None = None
    """The mix of later pods' sizes that the steerer's set is chosen for; None where no steerer chooses."""
    further_sets: int = 0
    """Number of sets that are not in `prospects`."""
    further_probability: float = 0.0
    """Probability, 0..1, that the pod gets one of those further sets."""
    support: bytes | None = None
    """All sets the pod may get, packed by `support_of`; None if unknown."""
    support_complete: bool = True
    """Whether the prediction is exact: then an allocation outside `support` contradicts it."""
    loss: float | None = None
    """Expected loss of the node's capability, 0..1, see `PlacementTable.capability`."""
    least_loss: float | None = None
    """The smallest loss among the sets the pod may get."""
    gpu_memory_bytes: int | None = None
    notes: tuple[str, ...] = ()
    worst_rank: int | None = None
    """Rank of the worst link in any set the pod may get: an index of `annotations.LINKS`."""
    marginals: tuple[float, ...] = ()
    """Per position, the probability that the pod gets it."""
    pressure: Pressure | None = None
    """Expected pressure on the devices the pod may get; None without telemetry."""


class Verdict(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Either a rejection or evidence. Fields that every verb reads per node are computed once, see `verdict_of`."""

    rejection: Rejection | None
    evidence: Evidence
    feasible: bool
    reason: str | None
    """The rejection's `Reason` as text; None if feasible."""
    resolvable: bool
    """Whether evicting pods could resolve the rejection."""


def support_of(masks: Iterable[int]) -> bytes:
    """Return the masks, sorted and packed into two bytes each: a machine has at most 16 GPUs."""
    return array("H", sorted(masks)).tobytes()


def masks_in(support: bytes) -> Sequence[int]:
    """Return the masks that `support_of` packed."""
    return memoryview(support).cast("H")


def verdict_of(rejection: Rejection | None, evidence: Evidence) -> Verdict:
    """Return a verdict whose other fields are derived from the rejection."""
    if rejection is None:
        return Verdict(None, evidence, True, None, False)
    return Verdict(rejection, evidence, False, rejection.reason.value, rejection.resolvable)
