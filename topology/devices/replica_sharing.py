"""Shared GPUs (time-slicing, MPS): the physical GPUs that the replicas of a request come from.

For shared devices NVIDIA's plugin ignores links. It takes replicas one by one, each from the GPU with the fewest
(`distributed`, the default) or the most (`packed`) replicas in use; ties are broken at random.
Source: NVIDIA/k8s-device-plugin v0.20.0 `internal/rm/allocate.go`.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_STATES = 4_096
"""Most intermediate distributions that are kept; the least likely are dropped."""


def share_out(replicas: Sequence[int], free: Sequence[int], size: int, packed: bool = False) -> dict[tuple[int, ...], float]:
    """Return the distribution over (replicas taken from each physical GPU) for a request of `size` replicas.

    `replicas` and `free` are the replicas and the free replicas per GPU. Empty where the request does not fit.
    Raises ValueError where a GPU has more free replicas than replicas.
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
    """The GPUs that the next replica can come from."""
    used = {gpu: replicas[gpu] - free[gpu] + taken[gpu] for gpu in range(len(free)) if free[gpu] > taken[gpu]}
    wanted = max(used.values()) if packed else min(used.values())
    return [gpu for gpu, count in used.items() if count == wanted]
