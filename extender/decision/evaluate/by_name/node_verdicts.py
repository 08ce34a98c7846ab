"""The verdicts of one evaluation, by column: what every verb reads of thousands of nodes is in arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from extender.decision.evaluate.verdict import Verdict
from extender.decision.request.reasons import Reason

FEASIBLE = 0
"""The code of a feasible verdict."""

_REASONS = [(reason.value, resolvable) for reason in Reason for resolvable in (False, True)]
_CODES = {reason: code for code, reason in enumerate(_REASONS, 1)}

Parts = tuple[float, ...]
"""The numbers that a verdict's value is computed from; see `scorers.Ranker.parts`."""


def code_of(verdict: Verdict) -> int:
    """Return the code of a verdict: `FEASIBLE`, or the number of its reason."""
    return FEASIBLE if verdict.reason is None else _CODES[verdict.reason, verdict.resolvable]


def reason_of(code: int) -> tuple[str, bool]:
    """Return (the text of the reason, whether evicting pods could resolve it) of the code of a rejection."""
    return _REASONS[code - 1]


@dataclass(frozen=True, slots=True)
class Valued:
    """What the nodes of one evaluation are worth relative to the best of them."""

    best_gbps: float | None
    """The highest effective bandwidth of a feasible node."""
    values: NDArray[np.float64]
    """Per node; below 0 where it is infeasible. See `scorers.Ranker.values`."""


class NodeVerdicts(Sequence[Verdict]):
    """One verdict per node of an evaluation, in order. Equal nodes share one verdict object. Immutable by convention."""

    __slots__ = ("codes", "objects", "valued")

    def __init__(self, objects: NDArray[np.object_], codes: NDArray[np.int16], valued: Valued | None = None) -> None:
        self.objects = objects
        self.codes = codes
        """`FEASIBLE`, or the number of the reason; see `reason_of`."""
        self.valued = valued
        """The values of the verdicts; None: they are computed where needed."""

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> NodeVerdicts:
        """Return the verdicts in this form."""
        listed = list(verdicts)
        objects = np.empty(len(listed), np.object_)
        objects[:] = listed
        return cls(objects, np.fromiter(map(code_of, listed), np.int16, len(listed)))

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """Whether each node is feasible."""
        feasible: NDArray[np.bool_] = self.codes == FEASIBLE
        return feasible

    def without_values(self) -> NodeVerdicts:
        """Return the same verdicts, in less memory."""
        return NodeVerdicts(self.objects, self.codes)

    def replaced(self, position: int, verdict: Verdict) -> NodeVerdicts:
        """Return the verdicts with another one at `position`."""
        objects, codes = self.objects.copy(), self.codes.copy()
        objects[position], codes[position] = verdict, code_of(verdict)
        return NodeVerdicts(objects, codes)

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.objects.tolist())

    @overload
    def __getitem__(self, index: int) -> Verdict: ...
    @overload
    def __getitem__(self, index: slice) -> list[Verdict]: ...
    def __getitem__(self, index: int | slice) -> Verdict | list[Verdict]:
        if isinstance(index, slice):
            return list(self.objects[index])
        verdict: Verdict = self.objects[index]
        return verdict
