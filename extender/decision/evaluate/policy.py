"""The policy that verdicts depend on, and the mix of sizes that is learnt where the policy has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from topology.devices.size_mix import SIZES


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that verdicts depend on."""

    size_mix: Mapping[int, float] | None = None
    """GPUs per container -> weight; None: learnt."""
    messages: str = "mixed"
    """A name of `topology.bandwidth.all_reduce.MESSAGE_MIXES`, for pods without the annotation."""
    refuse_hazards: bool = False
    """Whether a node on which the device plugin may crash is refused."""
    tolerated_chance: float = 0.0
    """Highest probability, 0..1, of getting a fenced or occupied device with which a node is still feasible."""
    usable_memory_share: float = 0.85
    """Share, 0..1, of a GPU's memory that must be free for a pod that states no lower need."""
    neutral_pressure: float = 0.5
    """Pressure, 0..1, of a device without telemetry."""
    enforce_inferred: bool = False
    """Whether a memory need that is inferred from the pod's model can reject nodes."""
    telemetry_required_for: frozenset[str] = frozenset()
    """Workload classes whose pods need nodes with telemetry of every device they may get; `*` = all pods."""


DEFAULT_POLICY = Policy()

_PRIOR_PODS = 8
"""Weight, in pods, of the even mix that learning starts from."""
_STEPS = 8
"""Shares are rounded to eighths, so that one more or one less pod seldom changes the mix and with it all cached verdicts."""
_MOST_DEVIATION = 1 / _STEPS
"""How far a share may be from its share in the mix in use: twice as far as by rounding, so that the mix does not alternate between two."""


def learnt_mix(sizes: Mapping[int, int], in_use: Mapping[int, float] | None = None) -> Mapping[int, float]:
    """Return the shares of 1, 2, 4 and 8 GPUs per container. `sizes`: GPUs per container -> number of containers.

    A size between two of these counts as the larger, a size above eight as eight. Without pods all shares are equal. `in_use`: the mix
    that cached verdicts were computed with; it is returned while every share is near its share there.
    """
    counts = dict.fromkeys(SIZES, _PRIOR_PODS / len(SIZES))
    for size, pods in sizes.items():
        counts[next((known_size for known_size in SIZES if known_size >= size), SIZES[-1])] += pods
    total = sum(counts.values())
    if in_use is not None and all(abs(count / total - in_use.get(size, 0.0)) < _MOST_DEVIATION for size, count in counts.items()):
        return in_use
    return {size: round(_STEPS * count / total) / _STEPS for size, count in counts.items()}
