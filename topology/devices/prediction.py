"""Which GPUs a pod will get: the distribution over the sets that kubelet and device plugin can allocate from the free GPUs.

The extender chooses a node; the device plugin chooses the devices. Its policy is deterministic, but the order in
which the kubelet lists the free devices is not, so a prediction is a distribution over sets.

Source: kubernetes 1.36 `pkg/kubelet/cm/devicemanager/manager.go` (devicesToAllocate: reuse, alignment, order). That the order
of up to eight devices is a cyclic rotation of their indices was measured on a real kubelet, 20,000 of 20,000 draws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from itertools import combinations, islice
from math import comb

from topology.devices.device_plugin import best_effort, pair_scores, partition_count
from topology.devices.numa_alignment import NOT_ALIGNED, TopologyManager, align
from topology.devices.steering import SetValues, Steering, reused_within, steered_set
from topology.machine.hardware import Machine, mask_of, positions_of

__all__ = [
    "DevicePlugin",
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
"""Most partitions that are enumerated: enough for eight GPUs. More take too long (16 GPUs in threes: 22 million, 17.8 s in Go)."""

MOST_ROTATED = 8
"""Most devices whose order in the kubelet is a rotation; larger Go maps are listed in random order."""

MOST_OUTCOMES = 512
"""Most outcomes of a prediction. A pod of many containers can have thousands; the least likely are dropped."""

Steps = tuple[tuple[int, bool], ...]
"""Containers in the order in which the kubelet serves them: (GPUs, whether it is an init container that ends)."""


class DevicePlugin(StrEnum):
    """The policy that chooses the devices."""

    NVIDIA = "nvidia"
    """NVIDIA's best-effort policy. It is off where a GPU is in MIG mode, and then the same as `uniform`."""
    STEERED = "steered"
    """Fabricwise's steerer in front of NVIDIA's plugin: one certain set. Where it cannot choose it forwards NVIDIA's answer."""
    UNIFORM = "uniform"
    """A plugin without a known preference: every set is equally likely."""


USUAL_STEERING = Steering()


@dataclass(frozen=True, slots=True)
class Kubelet:
    """How a node allocates devices."""

    topology_manager: TopologyManager = TopologyManager.NONE
    device_plugin: DevicePlugin = DevicePlugin.NVIDIA
    steering: Steering = USUAL_STEERING
    """What a steerer knows; read where `device_plugin` is `steered`."""

    def for_messages(self, messages: str | None) -> Kubelet:
        """Return the kubelet towards a pod whose decision names the devices, chosen for these messages. None: the steerer's own."""
        if messages is None or self.device_plugin is not DevicePlugin.STEERED or messages == self.steering.messages:
            return self
        return replace(self, steering=replace(self.steering, messages=messages))


USUAL = Kubelet()


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


_State = tuple[int, int, tuple[int, ...]]


@dataclass(slots=True)
class _Draw:
    masks: dict[int, float]
    approximate: bool = False
    hazard: bool = False


MOST_REMEMBERED = 4_096
"""Predictions that a predictor of up to eight GPUs keeps; those of one container are 1,024."""

MOST_REMEMBERED_LARGE = 512
"""The same for a larger machine, where a prediction can have `MOST_OUTCOMES` outcomes: at most some 50 MB."""


class Predictor:
    """Predictions for one score matrix. All nodes with identical machines share one predictor.

    `lru_cache` bounds what is kept, and is safe in several threads: at worst two of them compute the same prediction.
    """

    def __init__(self, scores: tuple[tuple[int, ...], ...], numa: tuple[int | None, ...] = (), mig: bool = False) -> None:
        """`scores` per pair and `numa` node per position; `mig`: some GPU is in MIG mode, which switches best-effort off."""
        self.values: SetValues | None = None
        """What sets are worth, where that is known: a steerer chooses by it."""
        self._scores, self._numa, self._mig = scores, numa or (None,) * len(scores), mig
        most = MOST_REMEMBERED if len(scores) <= MOST_ROTATED else MOST_REMEMBERED_LARGE
        self._prefer = lru_cache(maxsize=most)(self._draw)
        self._remembered = lru_cache(maxsize=most)(self._allocate)

    def predict(self, free: int, steps: Steps, kubelet: Kubelet = USUAL) -> Prediction:
        """Return the distribution for a pod whose containers are served in the order of `steps`; `free` is a mask.

        The next container reuses the devices of an init container first, in no particular order, and the plugin must
        include them in its preference.
        """
        return self._remembered(free, steps, kubelet)

    def _allocate(self, free: int, steps: Steps, kubelet: Kubelet) -> Prediction:
        approximate = hazard = False
        rejected = 0.0
        states: dict[_State, float] = {(0, 0, ()): 1.0}  # (taken, reusable, groups)
        for place, (size, init) in enumerate(steps):
            reused = reused_within(steps, place)
            following: dict[_State, float] = {}
            for (taken, reusable, seen), chance in states.items():
                draw = self._serve(free & ~taken, reusable, size, kubelet, reused)
                if draw is None:
                    rejected += chance
                    continue
                approximate, hazard = approximate or draw.approximate, hazard or draw.hazard
                for mask, part in draw.masks.items():
                    state = (taken | mask, reusable | mask, seen) if init else (taken | mask, reusable & ~mask, (*seen, mask))
                    following[state] = following.get(state, 0.0) + chance * part
            approximate = approximate or len(following) > MOST_OUTCOMES
            states = _likeliest(following)
        total = sum(states.values()) or 1.0
        outcomes = [Outcome(taken, seen, chance / total) for (taken, _, seen), chance in states.items()]
        ranked = sorted(outcomes, key=lambda o: (-o.probability, o.taken, o.group_masks))
        return Prediction(tuple(ranked), approximate, hazard, min(1.0, rejected))

    def _serve(self, free: int, reusable: int, size: int, kubelet: Kubelet, reused: int) -> _Draw | None:
        """Devices of one container; None where the Topology Manager refuses it. `reused`: see `steered_set`."""
        alignment = align(kubelet.topology_manager, self._numa, free, reusable, size) if size else NOT_ALIGNED
        if not alignment.admitted:
            return None
        if reusable.bit_count() >= size:
            return _any_of(reusable, size)
        plugin = self._chooser(kubelet)
        aligned = free & alignment.aligned
        needed = size - reusable.bit_count()
        if needed < aligned.bit_count():
            return self._prefer(aligned | reusable, reusable, size, plugin, reused)
        if aligned.bit_count() == needed:
            return _Draw({aligned | reusable: 1.0})
        return self._prefer(free | reusable, reusable | aligned, size, plugin, reused)

    def _chooser(self, kubelet: Kubelet) -> bool | Steering:
        """Return the steerer's knowledge if it chooses, True for NVIDIA's policy, False if every set is equally likely."""
        if self._mig or kubelet.device_plugin is DevicePlugin.UNIFORM:
            return False
        return kubelet.steering if kubelet.device_plugin is DevicePlugin.STEERED else True

    def _draw(self, available: int, required: int, size: int, plugin: bool | Steering, reused: int = 0) -> _Draw:
        """Sets of one container: the policy's result for every rotation of the available list, each equally likely."""
        offered, must = positions_of(available), positions_of(required)
        if size > len(offered):
            return _Draw({})
        if size in (0, len(offered)):
            return _Draw({available if size else 0: 1.0})
        if isinstance(plugin, Steering) and self.values is not None:
            chosen = steered_set(self.values, available, required, size, plugin, reused)
            if chosen is not None:
                return _Draw({chosen: 1.0})
        if not plugin:
            return _any_of(available & ~required, size - len(must), required)
        if size > 1 and partition_count(len(offered), size) > MOST_PARTITIONS:
            return _Draw(self._nearest_sets(offered, must, size), approximate=True)
        return self._rotate(offered, must, size)

    def _rotate(self, offered: tuple[int, ...], must: tuple[int, ...], size: int) -> _Draw:
        masks: dict[int, float] = {}
        hazard = False
        for shift in range(len(offered)):
            chosen = best_effort(self._scores, offered[shift:] + offered[:shift], must, size)
            real = [device for device in chosen if device is not None]
            hazard = hazard or len(real) < size
            if len(real) == size:
                masks[mask_of(real)] = masks.get(mask_of(real), 0.0) + 1
        total = sum(masks.values())
        if not total:  # every order crashes the plugin; a retry may end in any set
            return _Draw(self._nearest_sets(offered, must, size), approximate=True, hazard=True)
        return _Draw({mask: count / total for mask, count in masks.items()}, size > 1 and len(offered) > MOST_ROTATED, hazard)

    def _nearest_sets(self, offered: tuple[int, ...], must: tuple[int, ...], size: int) -> dict[int, float]:
        """Approximation where there are too many partitions: from each GPU, add the GPU with the best score, one after another."""
        masks: dict[int, float] = {}
        starts = [place for place in offered if place not in must] if must else list(offered)
        for start in starts:
            chosen = list(must) or [start]
            while len(chosen) < size:
                left = [device for device in offered if device not in chosen]
                chosen.append(max(left, key=lambda d: (sum(self._scores[d][c] for c in chosen), -((d - start) % 64))))
            masks[mask_of(chosen)] = masks.get(mask_of(chosen), 0.0) + 1 / len(starts)
        return masks


def _any_of(free: int, size: int, required: int = 0) -> _Draw:
    """All sets of `size` free GPUs plus the required ones, equally likely; at most the first `MOST_OUTCOMES` of them."""
    count = comb(free.bit_count(), size)
    sets = list(islice(combinations(positions_of(free), size), MOST_OUTCOMES))
    return _Draw({mask_of(part) | required: 1 / len(sets) for part in sets}, approximate=count > len(sets))


def _likeliest(states: dict[_State, float]) -> dict[_State, float]:
    """The most likely outcomes, with probabilities scaled up by those of the dropped ones."""
    if len(states) <= MOST_OUTCOMES:
        return states
    kept = sorted(states.items(), key=lambda item: (-item[1], item[0]))[:MOST_OUTCOMES]
    scale = sum(states.values()) / sum(chance for _, chance in kept)
    return {state: chance * scale for state, chance in kept}
