"""The sizes of the pods that are expected later, with weights; and how the decision about a pod records them for the steerer.

The extender learns the mix from the cluster's pods. It records the mix that it has decided with, and the steerer answers with the recorded
one, so that both choose the same set. Extender and steerer read the record by the one function `recorded_mix`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import msgspec

SIZES = (1, 2, 4, 8)
"""Set sizes that fragmentation is measured with."""

SizeMix = tuple[tuple[int, float], ...]
"""(GPUs per container, weight) of the pods that are expected later."""

EVEN_MIX: SizeMix = tuple((size, 0.25) for size in SIZES)
"""What a steerer assumes of later pods where no decision records a mix."""

MOST_DECISION_CHARACTERS = 65_536
"""Longest annotation that is read: a user may write it. A record of sixteen GPUs has some 2,000 characters."""


class _Record(msgspec.Struct):
    mix: dict[int, float] | None = msgspec.field(name="sizeMix", default=None)


def of_known_sizes(mix: Mapping[int, float]) -> SizeMix | None:
    """Return the mix as shares of `SIZES`, which sum to 1; None where no size has a weight.

    A size between two of these counts as the larger, a size above eight as eight: a steerer knows the capability for `SIZES` alone.
    """
    weights = dict.fromkeys(SIZES, 0.0)
    for size, weight in mix.items():
        weights[next((known for known in SIZES if known >= size), SIZES[-1])] += weight
    total = sum(weights.values())
    return tuple((size, weight / total) for size, weight in weights.items()) if total > 0 else None


def as_recorded(mix: SizeMix) -> dict[str, float]:
    """Return the mix as `recorded_mix` reads it, under the name `sizeMix`."""
    return {str(size): weight for size, weight in mix}


def recorded_mix(text: object) -> SizeMix | None:
    """Return the mix in the text of a decision, with all of `SIZES`; None where there is none, or one that no extender records."""
    if not isinstance(text, str) or len(text) > MOST_DECISION_CHARACTERS:
        return None
    try:
        found = msgspec.json.decode(text, type=_Record).mix
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    if not found or not found.keys() <= set(SIZES) or not all(isfinite(weight) and 0 <= weight <= 1 for weight in found.values()):
        return None
    return tuple((size, found.get(size, 0.0)) for size in SIZES) if any(found.values()) else None
