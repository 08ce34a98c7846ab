"""Set of GPUs -> the all-reduce performance a tensor-parallel group on it would see, at any message size.

An alpha-beta model per algorithm and protocol, of which the fastest counts, as in NCCL's tuning:

    time(bytes)  = launch + base + hops x hop + bytes x 2(n-1)/n / bandwidth
    busbw(bytes) = bytes x 2(n-1)/n / time(bytes)

with bandwidth from `rings` (the best packing of rings into the machine's wires) or from NVSwitch multicast (NVLS). Bus
bandwidth is as nccl-tests defines it (doc/PERFORMANCE.md of NVIDIA/nccl-tests): the speed of the wires, comparable
between set sizes. Small messages (decode, 16 KiB to 1 MiB) are bound by hops, large ones (prefill, 16 MiB and up) by wires:
two different answers to "how good is this set".
"""

from __future__ import annotations

from dataclasses import dataclass

from topology import constants
from topology.constants import Protocol
from topology.fabric import Fabric
from topology.rings import pack_rings


@dataclass(frozen=True, slots=True)
class AllReduce:
    """What a set's links sustain."""

    size: int
    """GPUs in the set."""
    busbw_gbps: float
    """Bus bandwidth of very large messages, rings or multicast, GB/s."""
    ring_gbps: float
    nvls_gbps: float | None
    """Bus bandwidth of NVSwitch multicast; None where the set has none."""
    over_nvlink: bool
    nvlink_generation: int | None
    bottlenecks: tuple[str, ...]
    """The wires that the best rings fill, by name."""

    @property
    def latency_seconds(self) -> float:
        """What the smallest message takes, kernel launch not included."""
        return self._time_seconds(0.0)

    def time_seconds(self, message_bytes: float, launch_seconds: float = 0.0) -> float:
        """Seconds for an all-reduce of `message_bytes` per GPU; add `launch_seconds` where kernels are launched one by one."""
        return launch_seconds + self._time_seconds(message_bytes)

    def busbw(self, message_bytes: float, launch_seconds: float = 0.0) -> float:
        """Bus bandwidth in GB/s at a message size in bytes. Raises ValueError for a size that is not positive."""
        if message_bytes <= 0:
            raise ValueError(f"a message has more than {message_bytes} bytes")
        return message_bytes * self._share / self.time_seconds(message_bytes, launch_seconds) / 1e9

    @property
    def _share(self) -> float:
        return 2 * (self.size - 1) / self.size

    def _time_seconds(self, message_bytes: float) -> float:
        moved = message_bytes * self._share
        times = [
            protocol.base_seconds
            + 2 * (self.size - 1) * (protocol.nvlink_hop_seconds if self.over_nvlink else protocol.pcie_hop_seconds)
            + moved / (1e9 * self._protocol_gbps(protocol))
            for protocol in constants.PROTOCOLS
            if self.over_nvlink or not protocol.nvlink_only
        ]
        if self.nvls_gbps is not None:
            times.append(constants.NVLS_LATENCY_SECONDS + moved / (1e9 * self.nvls_gbps))
        return min(times)

    def _protocol_gbps(self, protocol: Protocol) -> float:
        most = protocol.most_gbps.get(self.nvlink_generation or constants.UNKNOWN_GENERATION)
        efficient = self.ring_gbps * protocol.efficiency
        return min(efficient, most) if most is not None else efficient


def all_reduce(fabric: Fabric, members: tuple[int, ...]) -> AllReduce | None:
    """The performance of the positions `members`; None for fewer than two, which exchange nothing."""
    if len(members) < 2:
        return None
    packed = pack_rings(fabric, members)
    nvls = _nvls_gbps(fabric, members)
    generations = [generation for member in members if (generation := fabric.generation[member]) is not None]
    return AllReduce(
        size=len(members),
        busbw_gbps=max(packed.busbw_gbps, nvls or 0.0),
        ring_gbps=packed.busbw_gbps,
        nvls_gbps=nvls,
        over_nvlink=packed.over_nvlink,
        nvlink_generation=min(generations) if len(generations) == len(members) else None,
        bottlenecks=packed.full,
    )


def _nvls_gbps(fabric: Fabric, members: tuple[int, ...]) -> float | None:
    """Bus bandwidth of NVSwitch multicast: the switch adds up, so a GPU sends its data once, whatever n is.

    Only from five GPUs on: below, NCCL runs rings (measured on H200 and B200; stas00/ml-engineering network/README.md).
    """
    if len(members) < constants.NVLS_FROM_GPUS:
        return None
    rates = []
    for member in members:
        generation, links = fabric.generation[member], fabric.switch_links[member]
        if generation not in constants.NVLS_EFFICIENCY or not links:
            return None
        port = constants.NVLS_CHANNEL_SHARE * fabric.capacity_gbps[f"nvswitch port of GPU {member}"]
        rates.append(constants.NVLS_EFFICIENCY[generation] * port)
    return round(min(rates) * 2 * (len(members) - 1) / len(members), 6)
