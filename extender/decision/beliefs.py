"""What is believed free of a node: masks of positions with probabilities, after pods whose devices are not known have had theirs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import TypeVar

from extender.decision.ended import EndedPod
from extender.decision.holdings import BoundPod, Holdings
from topology.hardware import mask_of, positions_of, union_of
from topology.placement import PlacementTable
from topology.prediction import Asks, Kubelet

Case = TypeVar("Case", int, tuple[int, int])

MOST_BELIEFS = 64
"""Free sets kept per node; beyond, the unlikeliest are dropped."""

HELD_AT_ADMISSION = 0.8
"""Chance that devices which were freed after a pod had been bound were not free yet when the kubelet admitted that pod. Admission follows
the binding within some 20 ms; the kubelet frees devices up to about a second before the API server shows the end."""

FREED_EARLY = 0.2
"""Chance that the kubelet has freed the devices of a terminating pod before it admits a pod that is decided now."""

STILL_HELD = 0.3
"""Chance that the kubelet still counts the devices of a pod that ended a moment ago as held when it admits a pod that is decided now."""

FREE_AS_NOW = 0.7
"""Chance that a pod of which some devices are known was admitted when the same devices were free as now, its own included."""

MOST_UNSURE = 4
"""Pods that end just now of which every combination is reckoned with; of more, the first."""

Beliefs = dict[int, float]
"""Mask of free positions -> its probability."""

Histories = dict[tuple[int, int], float]
"""(mask of free positions, mask of those of them that pods held which ended before their devices were known) -> its probability."""


def beliefs_of(held: Holdings, table: PlacementTable, kubelet: Kubelet) -> tuple[tuple[int, float], ...]:
    """Free masks: what no pod is known to hold, less the devices predicted for pods that hold more than is known."""
    beliefs: Beliefs = {held.free: 1.0}
    for mask in held.leaving[:MOST_UNSURE]:
        beliefs = _mixed(beliefs, _merged((free | mask, chance) for free, chance in beliefs.items()), FREED_EARLY)
    for mask in held.lingering[:MOST_UNSURE]:
        beliefs = _mixed(beliefs, _merged((free & ~mask, chance) for free, chance in beliefs.items()), STILL_HELD)
    for partly_known in held.predicted:
        if known := held.known.get(partly_known.key, ()):
            beliefs = _take_rest(beliefs, table, partly_known, known, kubelet)
    histories: Histories = {(free, 0): chance for free, chance in beliefs.items()}
    unknown: list[BoundPod | EndedPod] = [pod for pod in held.predicted if pod.key not in held.known]
    for pod in sorted([*unknown, *held.departed], key=lambda pod: pod.turn):
        hidden, later = union_of(held.held_before.get(pod.key, ())), held.taken_later.get(pod.key, 0)
        if isinstance(pod, EndedPod):
            histories = _held_for_a_while(histories, _Admission(table, kubelet, pod.steps, hidden, later))
            continue
        overlapped = any(pod.key in departed.overlapping for departed in held.departed)
        after = _admitted(histories, _Admission(table, kubelet, pod.demand.asks, hidden, later), overlapped)
        histories = _mixed(after, histories, FREED_EARLY) if pod.terminating else after
    beliefs = _merged((free, chance) for (free, _), chance in histories.items())
    if any(pod.unsure_until_seconds is not None for pod in held.departed):
        beliefs = _mixed(beliefs, _merged((free & ~departed, chance) for (free, departed), chance in histories.items()), STILL_HELD)
    return _ranked(beliefs)


def taken(beliefs: Beliefs, table: PlacementTable, pods: Sequence[Asks], kubelet: Kubelet) -> tuple[tuple[int, float], ...]:
    """What is believed free after each of the pods has been given its devices, in order."""
    for steps in pods:
        beliefs = _likeliest(_merged(_taken_from(beliefs, table, steps, kubelet)))
    return _ranked(beliefs)


def _taken_from(beliefs: Beliefs, table: PlacementTable, steps: Asks, kubelet: Kubelet) -> Iterator[tuple[int, float]]:
    for free, chance in beliefs.items():
        for given, part in _given(table, free, steps, kubelet):
            yield free & ~given, chance * part


def _given(table: PlacementTable, free: int, steps: Asks, kubelet: Kubelet, hidden: int = 0, later: int = 0) -> list[tuple[int, float]]:
    """Masks that a pod may be given out of a mask of free positions, with their chances.

    `hidden`: positions that were not free yet when it was admitted; they count where it needs them. `later`: positions that were free then
    and went to other pods after it.
    """
    for available in ((free | later) & ~hidden, free & ~hidden, free):
        outcomes = [one for one in table.predictor.predict(available, steps, kubelet).outcomes if not one.taken & ~free]
        if outcomes:
            total = sum(outcome.probability for outcome in outcomes)
            return [(outcome.taken, outcome.probability / total) for outcome in outcomes]
    return [(free, 1.0)]  # more is bound than the status leaves free: nothing is left here


@dataclass(frozen=True, slots=True)
class _Admission:
    """How the kubelet admitted a pod whose devices are not known."""

    table: PlacementTable
    kubelet: Kubelet
    steps: Asks
    hidden: int
    """Mask of positions that were probably not free then."""
    later: int
    """Mask of positions that went to other pods after it."""

    def given(self, free: int, unavailable: int) -> list[tuple[int, float]]:
        """Masks that the pod may have been given, with their chances."""
        return _given(self.table, free, self.steps, self.kubelet, unavailable, self.later)


def _admitted(histories: Histories, admission: _Admission, overlapped: bool) -> Histories:
    """After a pod. `overlapped`: what departed pods held was probably not free either when it was admitted."""

    def after(is_early: bool) -> Iterator[tuple[tuple[int, int], float]]:
        for (free, departed), chance in histories.items():
            unavailable = (admission.hidden | departed * overlapped) * is_early
            for given, part in admission.given(free, unavailable):
                yield (free & ~given, departed & ~given), chance * part

    late = _likeliest(_merged(after(is_early=False)))
    if not admission.hidden and not overlapped:
        return late
    return _mixed(late, _merged(after(is_early=True)), HELD_AT_ADMISSION)


def _held_for_a_while(histories: Histories, admission: _Admission) -> Histories:
    """After a pod that has ended since: its devices are free again, and were not for the pods that were admitted meanwhile."""
    cases = (
        ((free, departed | given), chance * part)
        for (free, departed), chance in histories.items()
        for given, part in admission.given(free, admission.hidden | departed)
    )
    return _likeliest(_merged(cases))


def _merged(weighted: Iterable[tuple[Case, float]]) -> dict[Case, float]:
    """Cases with probabilities, each case once."""
    merged: dict[Case, float] = {}
    for case, chance in weighted:
        merged[case] = merged.get(case, 0.0) + chance
    return merged


def _mixed(cases: dict[Case, float], others: dict[Case, float], share: float) -> dict[Case, float]:
    """Two distributions in one; `share` of it is the second."""
    parts = [(case, chance * (1 - share)) for case, chance in cases.items()] + [(case, chance * share) for case, chance in others.items()]
    return _likeliest(_merged(parts))


def _ranked(beliefs: Beliefs) -> tuple[tuple[int, float], ...]:
    kept = sorted(beliefs.items(), key=lambda item: (-item[1], item[0]))[:MOST_BELIEFS]
    total = sum(chance for _, chance in kept)
    return tuple((mask, round(chance / total, 9)) for mask, chance in kept)


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
            for outcome in table.predictor.predict(mask | whole, pod.demand.asks, kubelet).outcomes
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


def _likeliest(cases: dict[Case, float]) -> dict[Case, float]:
    if len(cases) <= MOST_BELIEFS:
        return cases
    return dict(sorted(cases.items(), key=lambda item: (-item[1], item[0]))[:MOST_BELIEFS])
