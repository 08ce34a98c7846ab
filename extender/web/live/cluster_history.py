"""Samples of the cluster's GPUs over the last hours, as a bounded ring."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import msgspec

from extender.decision.report.live.cluster_rows import NodeRow, Totals

EVERY_SECONDS = 30.0
KEPT_SECONDS = 6 * 3600.0
SIZES = (1, 2, 4, 8)
"""Pod sizes that `Sample.fits` counts."""


class Sample(msgspec.Struct, frozen=True, gc=False):
    """The cluster at one time."""

    at_seconds: float
    """Unix time."""
    nodes: int
    gpus: int
    free: int
    taken: int
    assumed: int
    excluded: int
    unknown: int
    pending: int
    """Pods that request GPUs and are not bound."""
    fits: dict[str, int]
    """GPUs of a pod -> pods of that size that would fit by the free GPUs of each schedulable node alone.

    Replicas of shared GPUs and MIG devices hold pods of one GPU.
    """
    slots: dict[str, int] | None
    """The same as /v1/slots counts them; None where that is not measured."""


class History(msgspec.Struct, frozen=True):
    """All samples, oldest first."""

    every_seconds: float
    kept_seconds: float
    samples: tuple[Sample, ...]


class ClusterHistory:
    """The ring. Samples are added by one thread; they can be read from several."""

    def __init__(self, every_seconds: float = EVERY_SECONDS, kept_seconds: float = KEPT_SECONDS) -> None:
        self._every_seconds, self._kept_seconds = every_seconds, kept_seconds
        self._samples: deque[Sample] = deque(maxlen=max(1, int(kept_seconds / every_seconds)))
        self._due_seconds = float("-inf")

    def is_due(self, monotonic_seconds: float) -> bool:
        """Whether the time of the next sample has come."""
        return monotonic_seconds >= self._due_seconds

    def add(self, sample: Sample, monotonic_seconds: float) -> None:
        """Add a sample that was taken at `monotonic_seconds`."""
        self._due_seconds = monotonic_seconds + self._every_seconds
        self._samples.append(sample)

    def answer(self) -> History:
        """Return what is kept."""
        return History(self._every_seconds, self._kept_seconds, tuple(self._samples))


def sample_of(rows: Iterable[NodeRow], totals: Totals, pending: int, at_seconds: float, slots: Mapping[int, int] | None = None) -> Sample:
    """Return the sample of a cluster with these rows. `slots`: GPUs of a pod -> pods of that size that fit; None: not measured."""
    fits = dict.fromkeys(SIZES, 0)
    for row in rows:
        if row.schedulable and row.free:
            for size in SIZES if row.sharing is None else SIZES[:1]:  # replicas and MIG devices do not work together
                fits[size] += row.free // size
    return Sample(
        at_seconds=at_seconds,
        **msgspec.structs.asdict(totals),
        pending=pending,
        fits={str(size): count for size, count in fits.items()},
        slots=None if slots is None else {str(size): count for size, count in slots.items()},
    )
