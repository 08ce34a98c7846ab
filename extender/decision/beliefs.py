"""What is believed free of a node: masks of positions with probabilities, after pods whose devices are not known have had theirs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, islice

from extender.decision.holdings import BoundPod, Holdings
from topology.hardware import mask_of, positions_of, union_of
from topology.placement import PlacementTable
from topology.prediction import Kubelet, Steps

MOST_BELIEFS = 64
"""Free sets kept per node; beyond, the unlikeliest are dropped."""

HELD_AT_ADMISSION = 0.8
"""Chance that devices which were freed after a pod had been bound were not free yet when the kubelet admitted that pod. Admission follows
the binding within some 20 ms; the kubelet frees devices up to about a second before the API server shows the end."""

FREED_EARLY = 0.2
"""Chance that the kubelet has freed the devices of a terminating pod before it admits a pod that is decided now."""

STILL_HELD = 0.3
"""Chance that containers of a pod that was deleted by force a moment ago still run when the kubelet admits a pod that is decided now."""

FREE_AS_NOW = 0.7
"""Chance that a pod of which some devices are known was admitted when the same devices were free as now, its own included."""

MOST_UNSURE = 4
"""Pods that end just now of which every combination is reckoned with; of more, the first."""

Beliefs = dict[int, float]
"""Mask of free positions -> its probability."""


def beliefs_of(held: Holdings, table: PlacementTable, kubelet: Kubelet) -> tuple[tuple[int, float], ...]:
    """Free masks: what no pod is known to hold, less the devices predicted for pods that hold more than is known."""
    beliefs = {held.free: 1.0}
    for mask in held.leaving[:MOST_UNSURE]:
        beliefs = _mixed(beliefs, _merged((free | mask, chance) for free, chance in beliefs.items()), FREED_EARLY)
    for mask in held.lingering[:MOST_UNSURE]:
        beliefs = _mixed(beliefs, _merged((free & ~mask, chance) for free, chance in beliefs.items()), STILL_HELD)
    for pod in held.predicted:
        known = held.known.get(pod.key, ())
        if known:
            beliefs = _take_rest(beliefs, table, pod, known, kubelet)
        else:
            after = _take_earlier(beliefs, table, pod.demand.steps, held.held_before.get(pod.key, ()), kubelet)
            beliefs = _mixed(after, beliefs, FREED_EARLY) if pod.terminating else after
    return _ranked(beliefs)


def taken(beliefs: Beliefs, table: PlacementTable, pods: Sequence[Steps], kubelet: Kubelet) -> tuple[tuple[int, float], ...]:
    """What is believed free after each of the pods has been given its devices, in order."""
    for steps in pods:
        beliefs = _take(beliefs, table, steps, kubelet)
    return _ranked(beliefs)


def _merged(weighted: Iterable[tuple[int, float]]) -> Beliefs:
    """Masks with probabilities, each mask once."""
    merged: Beliefs = {}
    for mask, chance in weighted:
        merged[mask] = merged.get(mask, 0.0) + chance
    return merged


def _mixed(beliefs: Beliefs, others: Beliefs, share: float) -> Beliefs:
    """Two distributions in one; `share` of it is the second."""
    parts = [(mask, chance * (1 - share)) for mask, chance in beliefs.items()] + [(mask, chance * share) for mask, chance in others.items()]
    return _likeliest(_merged(parts))


def _ranked(beliefs: Beliefs) -> tuple[tuple[int, float], ...]:
    kept = sorted(beliefs.items(), key=lambda item: (-item[1], item[0]))[:MOST_BELIEFS]
    total = sum(chance for _, chance in kept)
    return tuple((mask, round(chance / total, 9)) for mask, chance in kept)


def _take_earlier(beliefs: Beliefs, table: PlacementTable, steps: Steps, held_before: tuple[int, ...], kubelet: Kubelet) -> Beliefs:
    """After a pod that was bound while others still held the masks `held_before`, which are free now."""
    hidden = union_of(held_before)
    if not hidden:
        return _take(beliefs, table, steps, kubelet)
    return _mixed(_take(beliefs, table, steps, kubelet), _take(beliefs, table, steps, kubelet, hidden), HELD_AT_ADMISSION)


def _take(beliefs: Beliefs, table: PlacementTable, steps: Steps, kubelet: Kubelet, hidden: int = 0) -> Beliefs:
    """After one more pod. `hidden`: positions that were not free yet when it was admitted; they count as free where it needs them."""
    left: Beliefs = {}
    for mask, chance in beliefs.items():
        outcomes = table.predictor.predict(mask & ~hidden, steps, kubelet).outcomes
        if not outcomes and hidden & mask:
            outcomes = table.predictor.predict(mask, steps, kubelet).outcomes
        if not outcomes:  # more is bound than the status leaves free: nothing is left here
            left[0] = left.get(0, 0.0) + chance
        for outcome in outcomes:
            rest = mask & ~outcome.taken
            left[rest] = left.get(rest, 0.0) + chance * outcome.probability
    return _likeliest(left)


def _take_rest(beliefs: Beliefs, table: PlacementTable, pod: BoundPod, known: tuple[int, ...], kubelet: Kubelet) -> Beliefs:
    """After the devices that a pod holds beside those that are known: a sidecar's, or what a finished init container had beyond the others.

    Of all sets that the pod may be given out of what is free and what it is known to hold, those count that agree with the known. Other
    devices may have been free when it was admitted, so any others of the free ones may be its own as well.
    """
    whole = union_of(known)
    told_apart = frozenset(known) if len(known) == len(pod.devices) else frozenset()
    left: Beliefs = {}
    for mask, chance in beliefs.items():
        agreeing = _merged(
            (mask & ~outcome.taken, outcome.probability)
            for outcome in table.predictor.predict(mask | whole, pod.demand.steps, kubelet).outcomes
            if not whole & ~outcome.taken and told_apart <= {*outcome.group_masks}
        )
        total = sum(agreeing.values())
        likely = {rest: part / total for rest, part in agreeing.items()}
        other = _any_rest(mask, pod.demand.total - whole.bit_count())
        for rest, part in (_mixed(likely, other, 1 - FREE_AS_NOW) if likely else other).items():
            left[rest] = left.get(rest, 0.0) + chance * part
    return _likeliest(left)


def _any_rest(mask: int, missing: int) -> Beliefs:
    """What is left of a mask when any of its sets of `missing` positions may be taken; nothing where there are not so many."""
    free = positions_of(mask)
    if missing >= len(free):
        return {0: 1.0}
    sets = list(islice(combinations(free, missing), MOST_BELIEFS))
    return {mask & ~mask_of(part): 1 / len(sets) for part in sets}


def _likeliest(beliefs: Beliefs) -> Beliefs:
    if len(beliefs) <= MOST_BELIEFS:
        return beliefs
    return dict(sorted(beliefs.items(), key=lambda item: (-item[1], item[0]))[:MOST_BELIEFS])
