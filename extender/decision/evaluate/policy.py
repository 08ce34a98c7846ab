"""What the operator has decided about decisions, and what is learnt where the operator has not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from topology.placement import SIZES


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that verdicts depend on."""

    size_mix: Mapping[int, float] | None = None
    """GPUs per container -> weight; None: learnt."""
    messages: str = "mixed"
    """A name of `topology.bandwidth.all_reduce.MESSAGE_MIXES`, for pods that do not say."""
    refuse_hazards: bool = False
    """Whether a node on which the device plugin may crash is refused."""
    tolerated_chance: float = 0.0
    """Chance, 0..1, of getting a fenced or occupied device up to which a node is still taken."""
    usable_memory_share: float = 0.85
    """Of a card's memory, what must be free for a pod that states no lower need."""
    neutral_pressure: float = 0.5
    """What a device presses of which nothing is known, 0..1."""
    enforce_inferred: bool = False
    """Whether memory that is only reckoned from a pod's model refuses nodes."""
    telemetry_required_for: frozenset[str] = frozenset()
    """Workload classes whose pods go only where telemetry knows the devices; `*` = all pods."""


DEFAULT_POLICY = Policy()

_PRIOR_PODS = 8
"""Weight of the even mix that learning starts from: so many pods."""
_STEPS = 8
"""Shares are learnt in eighths: verdicts need not be judged anew for every pod that comes or goes."""


def learnt_mix(sizes: Mapping[int, int]) -> dict[int, float]:
    """GPUs per container -> how many containers ask for so many, to shares of 1, 2, 4 and 8 GPUs.

    A size between two of them counts as the larger, one above eight as eight. Without pods all are equal.
    """
    counts = dict.fromkeys(SIZES, _PRIOR_PODS / len(SIZES))
    for size, pods in sizes.items():
        counts[next((one for one in SIZES if one >= size), SIZES[-1])] += pods
    total = sum(counts.values())
    return {size: round(_STEPS * count / total) / _STEPS for size, count in counts.items()}
