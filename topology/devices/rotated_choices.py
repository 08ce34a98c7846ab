"""NVIDIA's best-effort policy for all rotations of a list of devices at once: `device_plugin.best_effort` for each, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from topology.devices.device_plugin import listed_partitions
from topology.machine.hardware import mask_of

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Partitions:
    """The partitions that the policy compares, for a number of devices and a size. A place is one in the list of devices."""

    places: Integers
    """Per part, its places in the list; those of nil devices are the number of devices."""
    is_whole: NDArray[np.bool_]
    """Per part, whether it has no nil device."""
    parts: Integers
    """Per partition, its parts in order."""


@lru_cache(maxsize=128)
def _partitions(count: int, size: int) -> _Partitions:
    listed = listed_partitions(count, -count % size, size)
    number = {part: place for place, part in enumerate(dict.fromkeys(part for partition in listed for part in partition))}
    places = np.minimum(np.array(list(number)), count)
    return _Partitions(places, places.max(axis=1) < count, np.array([[number[part] for part in partition] for partition in listed]))


def rotated_choices(scores: Integers, offered: tuple[int, ...], required: tuple[int, ...], size: int) -> list[int | None]:
    """Return for each rotation of `offered` the mask that the policy prefers; None where it has a nil device or the policy refuses.

    `scores`: the score of every pair, with a last row and column of zeros for nil devices. `offered`: ascending positions, more than
    `size` of them and at most as many as have few partitions. `required`: a subset of them, smaller than `size`, which is at least 2.
    """
    count, partitions = len(offered), _partitions(len(offered), size)
    nil, wanted = len(scores) - 1, mask_of(required)
    turns = np.arange(count)
    rotated = np.full((count, count + 1), nil)
    rotated[:, :count] = np.array(offered)[(turns[:, None] + turns) % count]
    devices = rotated[:, partitions.places]  # rotation x part x member
    totals = scores[devices[..., :, None], devices[..., None, :]].sum(axis=(2, 3)) // 2
    masks = np.where(devices < nil, 1 << devices, 0).sum(axis=2)
    fits = masks & wanted == wanted
    reached = totals[:, partitions.parts].sum(axis=2)
    if required:
        reached[~(fits & partitions.is_whole)[:, partitions.parts].any(axis=2)] = -1
    best = reached.argmax(axis=1)
    parts = partitions.parts[best]  # rotation x part
    rows = turns[:, None]
    chosen = parts[turns, np.where(fits[rows, parts], totals[rows, parts], -1).argmax(axis=1)]
    is_usable = partitions.is_whole[chosen] & (reached[turns, best] >= 0)
    return [mask if usable else None for mask, usable in zip(masks[turns, chosen].tolist(), is_usable.tolist(), strict=True)]
