"""How many equal channels NCCL cuts a wire into.

NCCL does not fill a wire to the last byte: it looks for channels of one speed out of a short list, fastest first, and goes
on to slower and more numerous ones only while they could still be worth it. 22 GB/s between two sockets become one channel
of 20, 16 become one of 15. Source of the rule: NCCL 2.30.7 `src/graph/search.cc`, ncclTopoCompute.
"""

from __future__ import annotations

from functools import lru_cache

from topology.machine.constants import SLOWEST_CHANNEL_SHARE


@lru_cache(maxsize=4096)
def channelled_gbps(wire_gbps: float, speeds_gbps: tuple[float, ...], least_channels: int = 1) -> float:
    """What channels make of one wire of so many GB/s per direction, at least `least_channels` of them.

    A wider wire is never worth less: where NCCL's rule, stopping early, would make less of it than of a narrower one,
    the narrower one's figure stands.
    """
    widths = {channels * speed for speed in speeds_gbps for channels in range(1, int(wire_gbps / speed + 1e-9) + 1)}
    found = max((_settled(width, speeds_gbps, least_channels) for width in widths), default=0.0)
    return found or wire_gbps  # narrower than the slowest channel: NCCL has no plan for it, the wire is what there is


def _settled(wire_gbps: float, speeds_gbps: tuple[float, ...], least_channels: int) -> float:
    best = best_speed = 0.0
    for speed in speeds_gbps:
        if best and speed / best_speed <= SLOWEST_CHANNEL_SHARE:
            break
        channels = int(wire_gbps / speed + 1e-9)
        if channels >= least_channels and channels * speed > best + 1e-9:
            best, best_speed = channels * speed, speed
    return best
