"""Which GPUs one container gets: the distribution over the sets that kubelet and device plugin can allocate from the free GPUs.

The device plugin's policy is deterministic, but the order in which the kubelet lists the free devices is not, so the result is a
distribution over sets.

Source: kubernetes 1.36 `pkg/kubelet/cm/devicemanager/manager.go` (devicesToAllocate: reuse, alignment, order). That the order
of up to eight devices is a cyclic rotation of their indices was measured on a real kubelet, 20,000 of 20,000 draws.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, islice
from math import comb

import numpy as np

from topology.devices.device_plugin import partition_count
from topology.devices.kubelet import DevicePlugin, Kubelet
from topology.devices.numa_alignment import NOT_ALIGNED, TopologyManager, align
from topology.devices.rotated_choices import rotated_choices
from topology.devices.steering import SetValues, Steering, steered_set
from topology.machine.hardware import mask_of, positions_of

MOST_PARTITIONS = 300
"""Most partitions that are enumerated: enough for eight GPUs. More take too long (16 GPUs in threes: 22 million, 17.8 s in Go)."""

MOST_ROTATED = 8
"""Most devices whose order in the kubelet is a rotation; larger Go maps are listed in random order."""

MOST_OUTCOMES = 512
"""Most outcomes of a prediction. A pod of many containers can have thousands; see `prediction` for which ones are kept."""

MOST_REMEMBERED = 4_096
"""Results of one kind that are kept for a machine of up to eight GPUs; those for one container are 1,024."""

MOST_REMEMBERED_LARGE = 512
"""The same for a larger machine, where a result can have `MOST_OUTCOMES` sets: at most some 50 MB."""

_MOST_UNIFORM = 512
"""Uniform draws that are kept, over all machines."""

_GOLDEN = (5**0.5 - 1) / 2

_CHOSEN = -(1 << 40)
"""Worth of a device that is in the set already: below that of any other, whatever is added to it."""


@dataclass(slots=True)
class Draw:
    """The sets that one container may get."""

    masks: dict[int, float]
    """Mask of its GPUs -> probability; empty where too few are free."""
    approximate: bool = False
    uniform: bool = False
    """Whether it is known that all sets are equally likely."""
    hazard: bool = False
    """Whether the plugin may return a nil device, which crashes it (go-gpuallocator PR 80)."""


class ContainerDraws:
    """The draws of one machine's containers. `lru_cache` bounds what is kept, and is safe in several threads."""

    def __init__(self, scores: tuple[tuple[int, ...], ...], numa: tuple[int | None, ...], mig: bool) -> None:
        """`scores` per pair and `numa` node per position; `mig`: some GPU is in MIG mode, which switches best-effort off."""
        self.values: SetValues | None = None
        """What sets are worth, where that is known: a steerer chooses by it."""
        self.size, self._numa, self._mig = len(scores), numa, mig
        self._padded_scores = np.pad(np.array(scores, dtype=np.int64).reshape(len(scores), len(scores)), (0, 1))
        self._is_numa_known = any(node is not None for node in numa)
        self.most_remembered = MOST_REMEMBERED if len(scores) <= MOST_ROTATED else MOST_REMEMBERED_LARGE
        self._prefer = lru_cache(maxsize=self.most_remembered)(self._draw)
        self._align = lru_cache(maxsize=self.most_remembered)(
            lambda policy, free, reusable, size: align(policy, self._numa, free, reusable, size)
        )

    def aligns(self, kubelet: Kubelet) -> bool:
        """Whether the Topology Manager narrows the choice on this machine."""
        return kubelet.topology_manager is not TopologyManager.NONE and self._is_numa_known

    def takes_any_single(self, kubelet: Kubelet) -> bool:
        """Whether a container with one GPU gets each free GPU with equal probability."""
        return not self.aligns(kubelet) and not isinstance(self._chooser(kubelet), Steering)

    def serve(self, free: int, reusable: int, size: int, kubelet: Kubelet, reused: int = 0) -> Draw | None:
        """Return the draw of one container with `size` GPUs; None where the Topology Manager refuses it.

        `free`: mask of the free devices. `reusable`: mask of those of an init container, which are used first. `reused`: see `steered_set`.
        """
        alignment = self._align(kubelet.topology_manager, free, reusable, size) if size and self.aligns(kubelet) else NOT_ALIGNED
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
            return Draw({aligned | reusable: 1.0})
        return self._prefer(free | reusable, reusable | aligned, size, plugin, reused)

    def is_steered(self, kubelet: Kubelet) -> bool:
        """Whether a steerer chooses the devices."""
        return isinstance(self._chooser(kubelet), Steering)

    def _chooser(self, kubelet: Kubelet) -> bool | Steering:
        """Return the steerer's knowledge if it chooses, True for NVIDIA's policy, False if every set is equally likely."""
        if self._mig or kubelet.device_plugin is DevicePlugin.UNIFORM:
            return False
        return kubelet.steering if kubelet.device_plugin is DevicePlugin.STEERED else True

    def _draw(self, available: int, required: int, size: int, plugin: bool | Steering, reused: int = 0) -> Draw:
        """Sets of one container: the policy's result for every rotation of the available list, each equally likely."""
        offered, must = positions_of(available), positions_of(required)
        if size > len(offered):
            return Draw({})
        if size in (0, len(offered)):
            return Draw({available if size else 0: 1.0})
        if isinstance(plugin, Steering) and self.values is not None:
            chosen = steered_set(self.values, available, required, size, plugin, reused)
            if chosen is not None:
                return Draw({chosen: 1.0})
        if not plugin:
            return _any_of(available & ~required, size - len(must), required)
        if size > 1 and partition_count(len(offered), size) > MOST_PARTITIONS:
            return Draw(self._nearest_sets(offered, must, size), approximate=True)
        return self._rotate(offered, must, size)

    def _rotate(self, offered: tuple[int, ...], must: tuple[int, ...], size: int) -> Draw:
        if size == 1:  # the policy's special case: the first of each order
            return Draw({1 << device: 1 / len(offered) for device in offered})
        chosen = Counter(rotated_choices(self._padded_scores, offered, must, size))
        hazard = chosen.pop(None, 0) > 0
        total = chosen.total()
        if not total:  # every order crashes the plugin; a retry may end in any set
            return Draw(self._nearest_sets(offered, must, size), approximate=True, hazard=True)
        masks = {mask: count / total for mask, count in chosen.items() if mask is not None}
        return Draw(masks, len(offered) > MOST_ROTATED, hazard=hazard)

    def _nearest_sets(self, offered: tuple[int, ...], must: tuple[int, ...], size: int) -> dict[int, float]:
        """Approximation where there are too many partitions: from each GPU, add the GPU with the best score, one after another.

        Of equal GPUs, that with the next higher position is added, after the highest the lowest.
        """
        starts = np.array([place for place in offered if place not in must] if must else offered)
        devices, rows = np.array(offered), np.arange(len(starts))
        first = np.tile(np.array(must), (len(starts), 1)) if must else starts[:, None]
        worth = self._padded_scores[first[:, :, None], devices].sum(axis=1) * 64 - (devices - starts[:, None]) % 64
        worth[(first[:, :, None] == devices).any(axis=1)] = _CHOSEN
        chosen = np.left_shift(1, first).sum(axis=1)
        for _ in range(size - first.shape[1]):
            nearest = worth.argmax(axis=1)
            chosen |= 1 << devices[nearest]
            worth += self._padded_scores[devices[nearest][:, None], devices] * 64
            worth[rows, nearest] = _CHOSEN
        return {mask: count / len(starts) for mask, count in Counter(chosen.tolist()).items()}


@lru_cache(maxsize=_MOST_UNIFORM)
def _any_of(free: int, size: int, required: int = 0) -> Draw:
    """All sets of `size` free GPUs plus the required ones, equally likely; of more than `MOST_OUTCOMES`, as many taken evenly."""
    sets = subsets(free, size, MOST_OUTCOMES)
    return Draw({mask | required: 1 / len(sets) for mask in sets}, approximate=comb(free.bit_count(), size) > len(sets), uniform=True)


def subsets(mask: int, size: int, most: int) -> tuple[int, ...]:
    """Return the subsets of a mask with `size` positions; where these are more than `most`, about as many of them.

    With each subset that is kept, all its rotations over the positions are kept, so that each position is in the same number of subsets.
    """
    positions = positions_of(mask)
    count = len(positions)
    if comb(count, size) <= most:
        return tuple(map(mask_of, combinations(positions, size)))
    others = comb(count - 1, size - 1)
    every = -(-others // max(1, most // count))
    found: dict[int, None] = {}
    for part in islice(combinations(range(1, count), size - 1), every // 2, None, every):
        for shift in range(count):
            found[mask_of([positions[(place + shift) % count] for place in (0, *part)])] = None
    return tuple(found)


def spread(count: int, most: int, number: int = 0) -> list[int]:
    """Return `most` of the places 0 .. `count` - 1, ascending: one in each of that many equal intervals.

    Where in its interval a place lies follows the golden ratio, not a period, because what is listed there has periods. `number`: which
    of several such choices is made.
    """
    width = count / most
    return [int((place + (place + number) * _GOLDEN % 1.0) * width) for place in range(most)]
