"""Shared GPUs (time-slicing, MPS): which physical GPUs the replicas of a request come from.

For shared devices NVIDIA's plugin does not look at links. It takes replicas one by one, each from the GPU of which least
(`distributed`, the default) or most (`packed`) is taken already; ties fall as they may.
Source: NVIDIA/k8s-device-plugin v0.20.0 `internal/rm/allocate.go`.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_STATES = 4_096
"""Ways to share out that are followed at once; the unlikeliest beyond are dropped."""


def share_out(replicas: Sequence[int], free: Sequence[int], size: int, packed: bool = False) -> dict[tuple[int, ...], float]:
    """Distribution over how many of `size` replicas come from each physical GPU.

    `replicas` and `free` count, per GPU, what it is divided into and what of that is free. Empty where it does not fit.
    Raises ValueError where more is free than there is.
    """
    if len(replicas) != len(free) or any(not 0 <= left <= total for left, total in zip(free, replicas, strict=True)):
        raise ValueError(f"free replicas {list(free)} do not fit replicas {list(replicas)}")
    if not 0 < size <= sum(free):
        return {}
    states: dict[tuple[int, ...], float] = {(0,) * len(free): 1.0}
    for _ in range(size):
        following: dict[tuple[int, ...], float] = {}
        for taken, chance in states.items():
            choices = _next(replicas, free, taken, packed)
            for gpu in choices:
                after = tuple(count + (place == gpu) for place, count in enumerate(taken))
                following[after] = following.get(after, 0.0) + chance / len(choices)
        kept = sorted(following.items(), key=lambda item: (-item[1], item[0]))[:MOST_STATES]
        total = sum(chance for _, chance in kept)
        states = {taken: chance / total for taken, chance in kept}
    return states


def _next(replicas: Sequence[int], free: Sequence[int], taken: tuple[int, ...], packed: bool) -> list[int]:
    used = {gpu: replicas[gpu] - free[gpu] + taken[gpu] for gpu in range(len(free)) if free[gpu] > taken[gpu]}
    wanted = max(used.values()) if packed else min(used.values())
    return [gpu for gpu, count in used.items() if count == wanted]
