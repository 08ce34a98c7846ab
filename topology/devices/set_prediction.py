"""What a pod takes from a machine and how well its containers are linked: the distribution, without which container gets which set.

Outcomes are merged that have the same GPUs and the same links. Far fewer of them exist than of the ways to divide GPUs between containers:
eight containers with one GPU each divide eight GPUs in 40,320 ways, but take one set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from math import comb
from typing import TypeVar

from topology.devices.container_draws import MOST_OUTCOMES, MOST_ROTATED, ContainerDraws, Draw, spread, subsets
from topology.devices.kubelet import Kubelet
from topology.devices.steering import reused_within

Steps = tuple[tuple[int, bool], ...]
"""Containers in the order in which the kubelet serves them: (GPUs, whether it is an init container that ends)."""

Links = tuple[int, ...]
"""One mask per container with two or more GPUs, ascending: that of a set which is equivalent to the container's."""

Masks = tuple[int, ...]

States = dict[tuple[int, int, Masks], float]
"""(mask of the allocated GPUs, mask of those that a later container uses first, masks of containers) -> probability."""

SeenWith = Callable[[Masks, int, int], Masks]
"""(masks so far, GPUs of the next container, its mask) -> masks."""


@dataclass(frozen=True, slots=True)
class SetPrediction:
    """The distribution of what a pod takes."""

    sets: Mapping[tuple[int, Links], float]
    """(mask of all allocated GPUs, links) -> probability; they sum to 1. Empty where the pod does not fit or is never admitted."""
    approximate: bool = False
    hazard: bool = False
    """Whether the plugin may return a nil device, which crashes it (go-gpuallocator PR 80)."""
    rejected: float = 0.0
    """Probability that the Topology Manager refuses the pod on the node. The pod then fails instead of waiting."""

    @property
    def likeliest_links(self) -> list[Links]:
        """The links of each set, those of the most likely set first."""
        return [links for (_, links), _ in sorted(self.sets.items(), key=lambda item: (-item[1], item[0]))]


@dataclass(slots=True)
class Findings:
    """What is found on the way to a prediction."""

    approximate: bool = False
    hazard: bool = False
    rejected: float = 0.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is computed exactly before sets are left out evenly."""

    states: int
    """States before a container is served."""
    choices: int
    """Choices of all states together for one container."""


EXACT = Bounds(states=2_048, choices=16_384)
"""For machines of up to eight GPUs."""

COARSE = Bounds(states=64, choices=1_024)
"""For larger ones, which are approximate anyway."""


def predict_sets(draws: ContainerDraws, representative: Callable[[int], int], free: int, steps: Steps, kubelet: Kubelet) -> SetPrediction:
    """Return the distribution for a pod whose containers are served in the order of `steps`; `free` is a mask.

    `representative`: mask of a set -> that of one set with the same links, the same for all sets that are equivalent.
    """

    def links_with(links: Masks, size: int, mask: int) -> Masks:
        return links if size < 2 else _with_link(links, representative(mask))

    bounds = EXACT if draws.size <= MOST_ROTATED else COARSE
    found, states = Findings(), first_states()
    takes_any_single, reuses, place = draws.takes_any_single(kubelet), False, 0
    for step, equal_steps in groupby(steps):
        count, first = len(list(equal_steps)), place
        place += count
        reuses = reuses or step[1]
        if step == (1, False) and takes_any_single and not reuses:
            states = _after_any_singles(states, free, count, found)
            continue
        for number in range(first, place):
            states = _thinned(states, bounds.states, found)
            states = after(draws, states, free, (steps, number), kubelet, found, links_with, bounds.choices)
    merged: dict[tuple[int, Links], float] = {}
    for (taken, _, links), chance in states.items():
        merged[taken, links] = merged.get((taken, links), 0.0) + chance
    sets = _thinned(merged, MOST_OUTCOMES, found)
    total = sum(sets.values()) or 1.0
    return SetPrediction({key: chance / total for key, chance in sets.items()}, found.approximate, found.hazard, min(1.0, found.rejected))


def first_states() -> States:
    """Return the state before any container is served."""
    return {(0, 0, ()): 1.0}


def after(
    draws: ContainerDraws,
    states: States,
    free: int,
    container: tuple[Steps, int],
    kubelet: Kubelet,
    found: Findings,
    seen_with: SeenWith,
    most_choices: int | None = None,
) -> States:
    """Return the states after one more container; what is found on the way is added to `found`.

    `container`: the steps of the pod, and the place of the container among them.
    Of more than `most_choices` choices, a share of the equally likely ones counts.
    """
    steps, place = container
    size, init = steps[place]
    reused = reused_within(steps, place) if draws.is_steered(kubelet) else 0
    served: list[tuple[tuple[int, int, Masks], float, Draw]] = []
    for state, chance in states.items():
        draw = draws.serve(free & ~state[0], state[1], size, kubelet, reused)
        if draw is None:
            found.rejected += chance
            continue
        found.approximate, found.hazard = found.approximate or draw.approximate, found.hazard or draw.hazard
        served.append((state, chance, draw))
    choices = sum(len(draw.masks) for _, _, draw in served)
    kept_share = 1.0 if most_choices is None or choices <= most_choices else most_choices / choices
    following: States = {}
    for number, ((taken, reusable, seen), chance, draw) in enumerate(served):
        masks = draw.masks
        if kept_share < 1 and draw.uniform:
            found.approximate = True
            masks = _some_of(masks, kept_share, number)
        for mask, part in masks.items():
            state = (taken | mask, reusable | mask, seen) if init else (taken | mask, reusable & ~mask, seen_with(seen, size, mask))
            following[state] = following.get(state, 0.0) + chance * part
    return following


def _some_of(masks: dict[int, float], share: float, number: int) -> dict[int, float]:
    """Return that share of equally likely masks, at least one. `number`: which of several such choices is made."""
    listed, most = list(masks), max(1, int(share * len(masks)))
    return dict.fromkeys((listed[place] for place in spread(len(listed), most, number)), 1 / most)


def _after_any_singles(states: States, free: int, count: int, found: Findings) -> States:
    """Return the states after `count` containers with one GPU each, which get any free GPUs with equal probability.

    Where these are too many, each state keeps its probability and a share of the sets, taken evenly from all of them.
    """
    is_cut = sum(comb((free & ~taken).bit_count(), count) for taken, _, _ in states) > MOST_OUTCOMES
    found.approximate = found.approximate or is_cut
    total = sum(states.values())
    following: States = {}
    for (taken, reusable, links), chance in states.items():
        most = max(1, int(MOST_OUTCOMES * chance / total)) if is_cut else MOST_OUTCOMES
        masks = _subsets(free & ~taken, count, most)
        for mask in masks:
            state = (taken | mask, reusable, links)
            following[state] = following.get(state, 0.0) + chance / len(masks)
    return following


_subsets = lru_cache(maxsize=1_024)(subsets)


@lru_cache(maxsize=4_096)
def _with_link(links: Links, mask: int) -> Links:
    return tuple(sorted((*links, mask)))


_FINE = 1 << 40
"""Places that the cumulated probability is divided into."""

_BEYOND = 2 * _FINE

Key = TypeVar("Key", tuple[int, int, Masks], tuple[int, Links])


def _thinned(states: dict[Key, float], most: int, found: Findings) -> dict[Key, float]:
    """Return at most `most` of the states: those at `spread` places of the cumulated probability (stratified sampling).

    So every property of the states keeps nearly its probability. What is left out makes the prediction approximate.
    """
    if len(states) <= most:
        return states
    found.approximate = True
    total = sum(states.values())
    places = iter(spread(_FINE, most))
    following = next(places)
    kept: dict[Key, float] = {}
    reached = 0.0
    for state, chance in sorted(states.items()):
        reached += chance
        while following < reached * _FINE / total:
            kept[state] = kept.get(state, 0.0) + total / most
            following = next(places, _BEYOND)
    return kept
