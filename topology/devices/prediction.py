"""Which GPUs a pod will get: the distribution over the sets that its containers can get, one container after another.

The extender chooses a node; kubelet and device plugin choose the devices, see `container_draws`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from topology.devices.container_draws import MOST_OUTCOMES, MOST_REMEMBERED, MOST_REMEMBERED_LARGE, ContainerDraws
from topology.devices.device_plugin import best_effort, pair_scores, partition_count
from topology.devices.first_fit import DeviceRequest, DeviceRequests, SearchTooLongError, extended_resource_requests, first_fit
from topology.devices.kubelet import USUAL, DevicePlugin, Kubelet
from topology.devices.set_prediction import Findings, Links, Masks, SetPrediction, States, Steps, after, first_states, predict_sets
from topology.devices.steering import SetValues
from topology.machine.hardware import Machine

__all__ = [
    "MOST_OUTCOMES",
    "MOST_REMEMBERED",
    "MOST_REMEMBERED_LARGE",
    "USUAL",
    "Asks",
    "DevicePlugin",
    "DeviceRequest",
    "DeviceRequests",
    "Kubelet",
    "Links",
    "Outcome",
    "Prediction",
    "Predictor",
    "SetPrediction",
    "Steps",
    "best_effort",
    "numa_nodes",
    "pair_scores",
    "partition_count",
]

Asks = Steps | DeviceRequests
"""What a pod asks for: numbers per container, or requests that name the eligible devices of one node."""

_MOST_SETS_KEPT = 128
"""Results of `predict_sets` that are kept: more than the free sets of one node, so that its filters and its evidence share them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One possible allocation: `taken` is the mask of all allocated GPUs, `group_masks` has one mask per container."""

    taken: int
    group_masks: tuple[int, ...]
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Outcomes, the most likely first; their probabilities sum to 1. Empty where the pod does not fit or is never admitted."""

    outcomes: tuple[Outcome, ...]
    approximate: bool = False
    hazard: bool = False
    """Whether the plugin may return a nil device, which crashes it (go-gpuallocator PR 80)."""
    rejected: float = 0.0
    """Probability that the Topology Manager refuses the pod on the node. The pod then fails instead of waiting."""


def numa_nodes(machine: Machine) -> tuple[int | None, ...]:
    """Return the NUMA node per position, None where unknown."""
    return tuple(gpu.numa_node for gpu in machine.gpus)


def _itself(mask: int) -> int:
    return mask


class Predictor:
    """Predictions for one score matrix. All nodes with identical machines share one predictor.

    `lru_cache` bounds what is kept, and is safe in several threads: at worst two of them compute the same prediction.
    """

    def __init__(
        self,
        scores: tuple[tuple[int, ...], ...],
        numa: tuple[int | None, ...] = (),
        mig: bool = False,
        representative: Callable[[int], int] = _itself,
    ) -> None:
        """`scores` per pair and `numa` node per position; `mig`: some GPU is in MIG mode, which switches best-effort off.

        `representative`: mask of a set -> that of one set with the same links, the same for all sets that are equivalent.
        """
        self.draws = ContainerDraws(scores, numa or (None,) * len(scores), mig)
        self._representative = lru_cache(maxsize=self.draws.most_remembered)(representative)
        self._remembered = lru_cache(maxsize=self.draws.most_remembered)(self._predict)
        self._remembered_sets = lru_cache(maxsize=_MOST_SETS_KEPT)(self._predict_sets)

    @property
    def values(self) -> SetValues | None:
        """What sets are worth, where that is known: a steerer chooses by it."""
        return self.draws.values

    @values.setter
    def values(self, values: SetValues) -> None:
        self.draws.values = values

    def predict(self, free: int, steps: Asks, kubelet: Kubelet = USUAL) -> Prediction:
        """Return the distribution for a pod whose containers are served in the order of `steps`; `free` is a mask.

        The next container reuses the devices of an init container first, in no particular order, and the plugin must
        include them in its preference.

        Where the structured allocator chooses (`Kubelet.order`, or `DeviceRequests` as `steps`), there is one outcome.
        """
        return self._remembered(free, steps, kubelet)

    def predict_sets(self, free: int, steps: Asks, kubelet: Kubelet = USUAL) -> SetPrediction:
        """Return what `predict` returns, with outcomes merged that have the same GPUs and the same links, see `set_prediction`.

        It is exact in cases in which `predict` has to drop outcomes.
        """
        return self._remembered_sets(free, steps, kubelet)

    def _predict(self, free: int, steps: Asks, kubelet: Kubelet) -> Prediction:
        if isinstance(steps, DeviceRequests):
            return _structured(free | steps.others, steps.requests, self.draws.size)
        if kubelet.order is not None:
            return _structured(free, extended_resource_requests(steps, kubelet.order), self.draws.size)
        return self._served(free, steps, kubelet)

    def _served(self, free: int, steps: Steps, kubelet: Kubelet) -> Prediction:
        found, states = Findings(), first_states()
        for place in range(len(steps)):
            following = after(self.draws, states, free, (steps, place), kubelet, found, _each_container)
            found.approximate = found.approximate or len(following) > MOST_OUTCOMES
            states = _likeliest(following)
        total = sum(states.values()) or 1.0
        outcomes = [Outcome(taken, seen, chance / total) for (taken, _, seen), chance in states.items()]
        ranked = sorted(outcomes, key=lambda o: (-o.probability, o.taken, o.group_masks))
        return Prediction(tuple(ranked), found.approximate, found.hazard, min(1.0, found.rejected))

    def _predict_sets(self, free: int, steps: Asks, kubelet: Kubelet) -> SetPrediction:
        if isinstance(steps, DeviceRequests) or kubelet.order is not None:
            prediction = self.predict(free, steps, kubelet)
            sets = {(outcome.taken, self._links_of(outcome)): outcome.probability for outcome in prediction.outcomes}
            return SetPrediction(sets, prediction.approximate)
        return predict_sets(self.draws, self._representative, free, steps, kubelet)

    def _links_of(self, outcome: Outcome) -> Links:
        """Return the links of the containers with two or more GPUs, as `set_prediction` has them."""
        return tuple(sorted(self._representative(mask) for mask in outcome.group_masks if mask.bit_count() > 1))


def _structured(free: int, requests: tuple[DeviceRequest, ...], gpus: int) -> Prediction:
    """Return the one outcome of the structured allocator; none where the pod does not fit, or where the search is too long to follow."""
    try:
        chosen = first_fit(free, requests)
    except SearchTooLongError:
        return Prediction((), approximate=True)
    if chosen is None:
        return Prediction(())
    machine = (1 << gpus) - 1
    groups: dict[int, int] = {}
    taken = 0
    for request, mask in zip(requests, chosen, strict=True):
        taken |= mask & machine
        if request.group is not None:
            groups[request.group] = groups.get(request.group, 0) | mask & machine
    return Prediction((Outcome(taken, tuple(groups[group] for group in sorted(groups)), 1.0),))


def _each_container(seen: Masks, _size: int, mask: int) -> Masks:
    return (*seen, mask)


def _likeliest(states: States) -> States:
    """The most likely outcomes, with probabilities scaled up by those of the dropped ones."""
    if len(states) <= MOST_OUTCOMES:
        return states
    kept = sorted(states.items(), key=lambda item: (-item[1], item[0]))[:MOST_OUTCOMES]
    scale = sum(states.values()) / sum(chance for _, chance in kept)
    return {state: chance * scale for state, chance in kept}
