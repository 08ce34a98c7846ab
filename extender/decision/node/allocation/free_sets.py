"""Which sets of a node's GPUs may be free: masks of positions with probabilities, because the devices of some pods are only predicted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import TypeVar

from extender.decision.node.allocation.allocations import Allocations, BoundPod
from extender.decision.node.allocation.ended_pods import EndedPod
from topology.devices.prediction import Asks, Kubelet
from topology.devices.steering import DecidedFor
from topology.machine.hardware import mask_of, positions_of, union_of
from topology.placement.placement_table import PlacementTable

Case = TypeVar("Case", int, tuple[int, int])

MOST_FREE_SETS = 64
"""Free sets kept per node; of more, the least probable are dropped."""

HELD_AT_ADMISSION = 0.8
"""Probability that devices which were freed after a pod had been bound were not free yet when the kubelet admitted that pod. The admission
follows the binding within about 20 ms; the kubelet frees devices up to about a second before the API server shows the end."""

FREED_EARLY = 0.2
"""Probability that the kubelet frees the devices of a terminating pod before it admits a pod that is decided now."""

STILL_HELD = 0.3
"""Probability that the kubelet still counts the devices of a pod that ended a moment ago as allocated when it admits a pod that is decided
now."""

FREE_AS_NOW = 0.7
"""Probability that a pod of which some devices are known was admitted when exactly its own devices and those free now were free."""

MOST_UNSURE = 4
"""Pods that are ending whose devices may or may not be free, each; of more, the first."""

FreeSets = dict[int, float]
"""Mask of free positions -> its probability."""

Histories = dict[tuple[int, int], float]
"""(mask of free positions, mask of those that were held by pods that ended before their devices were known) -> its probability."""


def free_sets_of(held: Allocations, table: PlacementTable, kubelet: Kubelet) -> tuple[tuple[int, float], ...]:
    """Return (mask of free positions, probability), most probable first: what no pod is known to hold, less the devices predicted for pods
    that hold more than is known. `held`: the allocations of the node.
    """
    free_sets: FreeSets = {held.free: 1.0}
    for mask in held.leaving[:MOST_UNSURE]:
        free_sets = _mixed(free_sets, _merged((free | mask, chance) for free, chance in free_sets.items()), FREED_EARLY)
    for mask in held.lingering[:MOST_UNSURE]:
        free_sets = _mixed(free_sets, _merged((free & ~mask, chance) for free, chance in free_sets.items()), STILL_HELD)
    for partly_known in held.predicted:
        if known := held.known.get(partly_known.key, ()):
            free_sets = _take_rest(free_sets, table, partly_known, known, kubelet)
    histories: Histories = {(free, 0): chance for free, chance in free_sets.items()}
    unknown: list[BoundPod | EndedPod] = [pod for pod in held.predicted if pod.key not in held.known]
    for pod in sorted([*unknown, *held.departed], key=lambda pod: pod.admission_order):
        hidden, later = union_of(held.held_before.get(pod.key, ())), held.taken_later.get(pod.key, 0)
        if isinstance(pod, EndedPod):
            histories = _held_for_a_while(histories, _Admission(table, kubelet, pod.steps, hidden, later))
            continue
        overlapped = any(pod.key in departed.overlapping for departed in held.departed)
        admission = _Admission(table, kubelet.deciding_for(pod.decided_for), pod.demand.asks, hidden, later)
        after = _admitted(histories, admission, overlapped)
        histories = _mixed(after, histories, FREED_EARLY) if pod.terminating else after
    free_sets = _merged((free, chance) for (free, _), chance in histories.items())
    if any(pod.unsure_until_seconds is not None for pod in held.departed):
        free_sets = _mixed(free_sets, _merged((free & ~departed, chance) for (free, departed), chance in histories.items()), STILL_HELD)
    return _ranked(free_sets)


def taken(
    free_sets: FreeSets, table: PlacementTable, pods: Sequence[tuple[Asks, DecidedFor]], kubelet: Kubelet
) -> tuple[tuple[int, float], ...]:
    """Return (mask of free positions, probability) after the pods have got their devices, in order.

    `pods`: `Demand.asks` of each, and what its devices are decided for.
    """
    for asks, decided_for in pods:
        free_sets = _likeliest(_merged(_taken_from(free_sets, table, asks, kubelet.deciding_for(decided_for))))
    return _ranked(free_sets)


def _taken_from(free_sets: FreeSets, table: PlacementTable, steps: Asks, kubelet: Kubelet) -> Iterator[tuple[int, float]]:
    for free, chance in free_sets.items():
        for given, part in _given(table, free, steps, kubelet):
            yield free & ~given, chance * part


def _given(table: PlacementTable, free: int, steps: Asks, kubelet: Kubelet, hidden: int = 0, later: int = 0) -> list[tuple[int, float]]:
    """Return (mask that a pod may get from the mask `free`, probability).

    `hidden`: positions that were not free yet at its admission; they are used only where it needs them. `later`: positions that were free
    at its admission and that other pods got after it.
    """
    for available in ((free | later) & ~hidden, free & ~hidden, free):
        sets = table.predictor.predict_sets(available, steps, kubelet).sets
        possible = _merged((given, chance) for (given, _), chance in sets.items() if not given & ~free)
        if possible:
            likeliest_first = sorted(possible.items(), key=lambda item: (-item[1], item[0]))
            total = sum(chance for _, chance in likeliest_first)
            return [(given, chance / total) for given, chance in likeliest_first]
    return [(free, 1.0)]  # the pod needs more than is free: nothing remains


@dataclass(frozen=True, slots=True)
class _Admission:
    """The admission of a pod whose devices are not known."""

    table: PlacementTable
    kubelet: Kubelet
    steps: Asks
    hidden: int
    """Mask of positions that were probably not free at the admission."""
    later: int
    """Mask of positions that other pods got after it."""

    def given(self, free: int, unavailable: int) -> list[tuple[int, float]]:
        """Return (mask that the pod may have got, probability). `unavailable`: mask of positions that were not free."""
        return _given(self.table, free, self.steps, self.kubelet, unavailable, self.later)


def _admitted(histories: Histories, admission: _Admission, overlapped: bool) -> Histories:
    """Return the histories after the admission of a pod.

    `overlapped`: positions of pods that ended before their devices were known were probably not free at the admission either.
    """

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
    """Return the histories after a pod that has ended since: its devices are free now, but were not for pods admitted in between."""
    cases = (
        ((free, departed | given), chance * part)
        for (free, departed), chance in histories.items()
        for given, part in admission.given(free, admission.hidden | departed)
    )
    return _likeliest(_merged(cases))


def _merged(weighted: Iterable[tuple[Case, float]]) -> dict[Case, float]:
    """Return the probability of each distinct case."""
    merged: dict[Case, float] = {}
    for case, chance in weighted:
        merged[case] = merged.get(case, 0.0) + chance
    return merged


def _mixed(cases: dict[Case, float], others: dict[Case, float], share: float) -> dict[Case, float]:
    """Return the mixture of two distributions; `share` is the weight of the second."""
    parts = [(case, chance * (1 - share)) for case, chance in cases.items()] + [(case, chance * share) for case, chance in others.items()]
    return _likeliest(_merged(parts))


def _ranked(free_sets: FreeSets) -> tuple[tuple[int, float], ...]:
    kept = sorted(free_sets.items(), key=lambda item: (-item[1], item[0]))[:MOST_FREE_SETS]
    total = sum(chance for _, chance in kept)
    return tuple((mask, round(chance / total, 9)) for mask, chance in kept)


def _take_rest(free_sets: FreeSets, table: PlacementTable, pod: BoundPod, known: tuple[int, ...], kubelet: Kubelet) -> FreeSets:
    """Return the free sets without the devices that a pod holds besides the known ones: those of a sidecar, or those of a finished init
    container that no later container uses.

    Of all sets that the pod may get from the free devices and its known ones, those count that include the known ones. Other devices may
    have been free at its admission, so any other free devices may be its own as well.
    """
    whole = union_of(known)
    known_groups = frozenset(known) if len(known) == len(pod.devices) else frozenset()
    left: FreeSets = {}
    for mask, chance in free_sets.items():
        agreeing = _merged(
            (mask & ~outcome.taken, outcome.probability)
            for outcome in table.predictor.predict(mask | whole, pod.demand.asks, kubelet.deciding_for(pod.decided_for)).outcomes
            if not whole & ~outcome.taken and known_groups <= {*outcome.group_masks}
        )
        total = sum(agreeing.values())
        likely = {rest: part / total for rest, part in agreeing.items()}
        other = _any_rest(mask, pod.demand.total - whole.bit_count())
        for rest, part in (_mixed(likely, other, 1 - FREE_AS_NOW) if likely else other).items():
            left[rest] = left.get(rest, 0.0) + chance * part
    return _likeliest(left)


def _any_rest(mask: int, missing: int) -> FreeSets:
    """Return (remainder, probability) of a mask after any of its sets of `missing` positions is taken; 0 where it has not that many."""
    free = positions_of(mask)
    if missing >= len(free):
        return {0: 1.0}
    sets = list(islice(combinations(free, missing), MOST_FREE_SETS))
    return {mask & ~mask_of(part): 1 / len(sets) for part in sets}


def _likeliest(cases: dict[Case, float]) -> dict[Case, float]:
    if len(cases) <= MOST_FREE_SETS:
        return cases
    return dict(sorted(cases.items(), key=lambda item: (-item[1], item[0]))[:MOST_FREE_SETS])
