"""The equal channels that NCCL divides a wire into.

NCCL does not use the whole wire. It tries channels of one speed from a short list, fastest first, and continues with slower and
more numerous ones only above a share of the speed that it has found to work. A wire of 22 GB/s between two sockets becomes one
channel of 20, a wire of 16 one of 15. Source of the rule: NCCL 2.30.7 `src/graph/search.cc`, ncclTopoCompute.
"""

from __future__ import annotations

from functools import lru_cache

from topology.machine.constants import SLOWEST_CHANNEL_SHARE


@lru_cache(maxsize=4096)
def channelled_gbps(wire_gbps: float, speeds_gbps: tuple[float, ...], least_channels: int = 1) -> float:
    """Return the GB/s that at least `least_channels` channels reach on a wire of `wire_gbps` per direction.

    `speeds_gbps` are the channel speeds, fastest first. A wider wire is never worth less: where NCCL's rule stops early and reaches
    less than on a narrower wire, the result is that of the narrower wire.
    """
    widths = {channels * speed for speed in speeds_gbps for channels in range(1, int(wire_gbps / speed + 1e-9) + 1)}
    channelled = max((_settled_gbps(width, speeds_gbps, least_channels) for width in widths), default=0.0)
    return channelled or wire_gbps  # narrower than the slowest channel: NCCL has no rule for it


def _settled_gbps(wire_gbps: float, speeds_gbps: tuple[float, ...], least_channels: int) -> float:
    """What NCCL's search settles for; 0 where no speed fits."""
    best = best_speed = 0.0
    for speed in speeds_gbps:
        if best and speed / best_speed <= SLOWEST_CHANNEL_SHARE:
            break
        channels = int(wire_gbps / speed + 1e-9)
        if channels >= least_channels and channels * speed > best + 1e-9:
            best, best_speed = channels * speed, speed
    return best
