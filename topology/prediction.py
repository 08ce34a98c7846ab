"""Which GPUs a pod will really get: the distribution of sets that kubelet and device plugin make of free GPUs.

The extender chooses a node; the device plugin chooses the devices. Its policy is deterministic, but the order in
which the kubelet lists the free devices is not, so a prediction is a distribution over sets.

Source: kubernetes 1.36 `pkg/kubelet/cm/devicemanager/manager.go` (devicesToAllocate: reuse, alignment, order). That the order
of up to eight devices is a cyclic rotation of their indices was measured on a real kubelet, 20,000 of 20,000 draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import combinations, islice
from math import comb

from topology.device_plugin import best_effort, pair_scores, partition_count
from topology.devices.first_fit import DeviceRequest, DeviceRequests, SearchTooLongError, extended_resource_requests, first_fit
from topology.hardware import Machine, mask_of, positions_of
from topology.numa_alignment import NO_SAY, TopologyManager, align

__all__ = [
    "Asks",
    "DevicePlugin",
    "DeviceRequest",
    "DeviceRequests",
    "Kubelet",
    "Outcome",
    "Prediction",
    "Predictor",
    "Steps",
    "best_effort",
    "numa_nodes",
    "pair_scores",
    "partition_count",
]

MOST_PARTITIONS = 300
"""All that eight GPUs need. Beyond, an enumeration soon takes too long (16 GPUs by threes: 22 million, 17.8 s in Go)."""

MOST_ROTATED = 8
"""Devices up to which the kubelet's order is a rotation; larger Go maps are listed in no order."""

MOST_OUTCOMES = 512
"""A pod of many containers can end in thousands of ways; the unlikeliest are dropped beyond this."""

Steps = tuple[tuple[int, bool], ...]
"""Containers in the order the kubelet serves them: (GPUs, whether it is an init container that ends)."""

Asks = Steps | DeviceRequests
"""What a pod asks for: numbers per container, or requests that name the eligible devices of one node."""


class DevicePlugin(StrEnum):
    """Who picks the devices."""

    NVIDIA = "nvidia"
    """NVIDIA's best-effort policy. It is off where a GPU is in MIG mode, and then like `uniform`."""
    UNIFORM = "uniform"
    """An unknown plugin, or none that prefers anything: any set may come."""


@dataclass(frozen=True, slots=True)
class Kubelet:
    """How a node hands out devices."""

    topology_manager: TopologyManager = TopologyManager.NONE
    device_plugin: DevicePlugin = DevicePlugin.NVIDIA
    order: tuple[int, ...] | None = None
    """Positions in the order in which kube-scheduler's structured allocator tries them (Dynamic Resource Allocation); None where a device
    plugin hands out the devices."""


USUAL = Kubelet()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that may happen: `taken` GPUs are gone, `group_masks` are what each container sees."""

    taken: int
    group_masks: tuple[int, ...]
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """Outcomes, likeliest first, probabilities summing to 1 (empty: it does not fit, or is never admitted)."""

    outcomes: tuple[Outcome, ...]
    approximate: bool = False
    hazard: bool = False
    """The plugin may return a nil device here, which crashes it (go-gpuallocator PR 80)."""
    rejected: float = 0.0
    """Probability that the Topology Manager refuses the pod on the node: it then fails, it does not wait."""


def numa_nodes(machine: Machine) -> tuple[int | None, ...]:
    """NUMA node per position, None where unknown."""
    return tuple(gpu.numa_node for gpu in machine.gpus)


_State = tuple[int, int, tuple[int, ...]]


@dataclass(slots=True)
class _Draw:
    masks: dict[int, float]
    approximate: bool = False
    hazard: bool = False


MOST_REMEMBERED = 4_096
"""Predictions that a predictor of up to eight GPUs keeps; all of one container each are 1,024."""

MOST_REMEMBERED_LARGE = 512
"""The same of a larger machine, where one prediction may have `MOST_OUTCOMES` outcomes: some 50 MB at most."""


class Predictor:
    """Predictions over one score matrix, the latest of which are kept: a machine shape owns one and all its nodes share it.

    `lru_cache` bounds what is kept, and is safe in several threads: at worst two of them make the same prediction.
    """

    def __init__(self, scores: tuple[tuple[int, ...], ...], numa: tuple[int | None, ...] = (), mig: bool = False) -> None:
        """`scores` per pair and `numa` node per position; `mig`: some GPU is in MIG mode, which switches best-effort off."""
        self._scores, self._numa, self._mig = scores, numa or (None,) * len(scores), mig
        most = MOST_REMEMBERED if len(scores) <= MOST_ROTATED else MOST_REMEMBERED_LARGE
        self._prefer = lru_cache(maxsize=most)(self._draw)
        self._remembered = lru_cache(maxsize=most)(self._allocate)

    def predict(self, free: int, steps: Asks, kubelet: Kubelet = USUAL) -> Prediction:
        """The distribution for a pod whose containers are served in the order of `steps`.

        What an init container held is reused first, in no particular order, by whoever comes next, and the plugin must
        include it in what it prefers. Where the structured allocator chooses (`Kubelet.order`), there is one outcome.
        """
        return self._remembered(free, steps, kubelet)

    def _allocate(self, free: int, steps: Asks, kubelet: Kubelet) -> Prediction:
        if isinstance(steps, DeviceRequests):
            return _structured(free | steps.others, steps.requests, len(self._scores))
        if kubelet.order is not None:
            return _structured(free, extended_resource_requests(steps, kubelet.order), len(self._scores))
        return self._serve_all(free, steps, kubelet)

    def _serve_all(self, free: int, steps: Steps, kubelet: Kubelet) -> Prediction:
        approximate = hazard = False
        rejected = 0.0
        states: dict[_State, float] = {(0, 0, ()): 1.0}  # (taken, reusable, groups)
        for size, init in steps:
            following: dict[_State, float] = {}
            for (taken, reusable, seen), chance in states.items():
                drawn = self._serve(free & ~taken, reusable, size, kubelet)
                if drawn is None:
                    rejected += chance
                    continue
                approximate, hazard = approximate or drawn.approximate, hazard or drawn.hazard
                for mask, part in drawn.masks.items():
                    state = (taken | mask, reusable | mask, seen) if init else (taken | mask, reusable & ~mask, (*seen, mask))
                    following[state] = following.get(state, 0.0) + chance * part
            approximate = approximate or len(following) > MOST_OUTCOMES
            states = _likeliest(following)
        total = sum(states.values()) or 1.0
        outcomes = [Outcome(taken, seen, chance / total) for (taken, _, seen), chance in states.items()]
        ranked = sorted(outcomes, key=lambda o: (-o.probability, o.taken, o.group_masks))
        return Prediction(tuple(ranked), approximate, hazard, min(1.0, rejected))

    def _serve(self, free: int, reusable: int, size: int, kubelet: Kubelet) -> _Draw | None:
        """One container's devices; None where the Topology Manager refuses."""
        alignment = align(kubelet.topology_manager, self._numa, free, reusable, size) if size else NO_SAY
        if not alignment.admitted:
            return None
        if reusable.bit_count() >= size:
            return _any_of(reusable, size)
        plugin = kubelet.device_plugin is DevicePlugin.NVIDIA and not self._mig
        aligned = free & alignment.aligned
        needed = size - reusable.bit_count()
        if needed < aligned.bit_count():
            return self._prefer(aligned | reusable, reusable, size, plugin)
        if aligned.bit_count() == needed:
            return _Draw({aligned | reusable: 1.0})
        return self._prefer(free | reusable, reusable | aligned, size, plugin)

    def _draw(self, available: int, required: int, size: int, plugin: bool) -> _Draw:
        """One container's set: the policy over every rotation of the available list, equally likely."""
        offered, must = positions_of(available), positions_of(required)
        if size > len(offered):
            return _Draw({})
        if size in (0, len(offered)):
            return _Draw({available if size else 0: 1.0})
        if not plugin:
            return _any_of(available & ~required, size - len(must), required)
        if size > 1 and partition_count(len(offered), size) > MOST_PARTITIONS:
            return _Draw(self._nearest_sets(offered, must, size), approximate=True)
        return self._rotate(offered, must, size)

    def _rotate(self, offered: tuple[int, ...], must: tuple[int, ...], size: int) -> _Draw:
        masks: dict[int, float] = {}
        hazard = False
        for turn in range(len(offered)):
            chosen = best_effort(self._scores, offered[turn:] + offered[:turn], must, size)
            real = [device for device in chosen if device is not None]
            hazard = hazard or len(real) < size
            if len(real) == size:
                masks[mask_of(real)] = masks.get(mask_of(real), 0.0) + 1
        total = sum(masks.values())
        if not total:  # every order ends in the crash: any set may come of the retry
            return _Draw(self._nearest_sets(offered, must, size), approximate=True, hazard=True)
        return _Draw({mask: count / total for mask, count in masks.items()}, size > 1 and len(offered) > MOST_ROTATED, hazard)

    def _nearest_sets(self, offered: tuple[int, ...], must: tuple[int, ...], size: int) -> dict[int, float]:
        """Stand-in where enumeration is out of reach: from each GPU, add the best-scoring next one."""
        masks: dict[int, float] = {}
        starts = [place for place in offered if place not in must] if must else list(offered)
        for start in starts:
            chosen = list(must) or [start]
            while len(chosen) < size:
                left = [device for device in offered if device not in chosen]
                chosen.append(max(left, key=lambda d: (sum(self._scores[d][c] for c in chosen), -((d - start) % 64))))
            masks[mask_of(chosen)] = masks.get(mask_of(chosen), 0.0) + 1 / len(starts)
        return masks


def _structured(free: int, requests: tuple[DeviceRequest, ...], gpus: int) -> Prediction:
    """The one outcome of the structured allocator; none where the pod does not fit, or where the search is too long to be followed."""
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


def _any_of(free: int, size: int, required: int = 0) -> _Draw:
    """Any `size` of the free, beside the required, all equally likely; of very many only the first are listed."""
    count = comb(free.bit_count(), size)
    sets = list(islice(combinations(positions_of(free), size), MOST_OUTCOMES))
    return _Draw({mask_of(part) | required: 1 / len(sets) for part in sets}, approximate=count > len(sets))


def _likeliest(states: dict[_State, float]) -> dict[_State, float]:
    """The likeliest outcomes, which take over the probability of those dropped."""
    if len(states) <= MOST_OUTCOMES:
        return states
    kept = sorted(states.items(), key=lambda item: (-item[1], item[0]))[:MOST_OUTCOMES]
    lost = sum(states.values()) / sum(chance for _, chance in kept)
    return {state: chance * lost for state, chance in kept}
