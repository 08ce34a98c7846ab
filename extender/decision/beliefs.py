"""What is believed free of a node: masks of positions with probabilities, after pods whose devices nobody names have had theirs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from extender.decision.holdings import Holdings
from topology.placement import PlacementTable
from topology.prediction import Kubelet, Steps

MOST_BELIEFS = 64
"""Free sets kept per node; beyond, the unlikeliest are dropped."""


def beliefs_of(held: Holdings, table: PlacementTable, kubelet: Kubelet) -> tuple[tuple[int, float], ...]:
    """Free masks: what nobody is known to hold, less the predicted devices of pods whose devices nobody names."""
    return taken({held.free: 1.0}, table, [pod.demand.steps for pod in held.predicted], kubelet)


def taken(beliefs: dict[int, float], table: PlacementTable, pods: Sequence[Steps], kubelet: Kubelet) -> tuple[tuple[int, float], ...]:
    """What is believed free after each of the pods has been given its devices, in order."""
    for steps in pods:
        beliefs = _take(beliefs, table, steps, kubelet)
    kept = sorted(beliefs.items(), key=lambda item: (-item[1], item[0]))[:MOST_BELIEFS]
    total = sum(chance for _, chance in kept)
    return tuple((mask, round(chance / total, 9)) for mask, chance in kept)


def _take(beliefs: dict[int, float], table: PlacementTable, steps: Steps, kubelet: Kubelet) -> dict[int, float]:
    left: dict[int, float] = {}
    for mask, chance in beliefs.items():
        outcomes = table.predictor.predict(mask, steps, kubelet).outcomes
        if not outcomes:  # more is bound than the status leaves free: nothing is left here
            left[0] = left.get(0, 0.0) + chance
        for outcome in outcomes:
            rest = mask & ~outcome.taken
            left[rest] = left.get(rest, 0.0) + chance * outcome.probability
    if len(left) > MOST_BELIEFS:
        left = dict(sorted(left.items(), key=lambda item: (-item[1], item[0]))[:MOST_BELIEFS])
    return left
