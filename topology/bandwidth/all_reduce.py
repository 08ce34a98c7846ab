"""Set of GPUs -> the all-reduce performance of a tensor-parallel group on it, at any message size.

An alpha-beta model for each way (rings over NVLink, over PCIe, trees, multicast) and each protocol. The fastest counts, as in
NCCL's tuning:

    time(bytes)  = launch + base + hops x hop + bytes x 2(n-1)/n / bandwidth
    busbw(bytes) = bytes x 2(n-1)/n / time(bytes)

with bandwidth from `rings` and `trees` (the most that the machine's wires carry) or from NVSwitch multicast (NVLS). Bus
bandwidth is as nccl-tests defines it (doc/PERFORMANCE.md of NVIDIA/nccl-tests): the speed of the wires, comparable
between set sizes. Hops limit small messages (decode, 16 KiB to 1 MiB), wires limit large ones (prefill, 16 MiB and up), so a set
can be good for one and bad for the other. An entry of `MESSAGE_MIXES` states the message sizes of a workload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import exp, log

from topology.bandwidth.detours import pack_detours
from topology.bandwidth.fabric import Fabric
from topology.bandwidth.host_channels import HostChannels
from topology.bandwidth.ring_orders import rings_through
from topology.bandwidth.rings import Packing, Path, pack_host, pack_own
from topology.bandwidth.trees import TREE_CHANNELS, second_channel, tree_gbps
from topology.bandwidth.wires import nvswitch_port
from topology.machine import constants
from topology.machine.constants import Protocol

KIB, MIB = 1 << 10, 1 << 20


def mix_of(messages: str) -> Mapping[int, float]:
    """Return the mix named `messages` in `MESSAGE_MIXES`, or the mix of one size where it is a number of bytes.

    Raises KeyError for any other text.
    """
    return {int(messages): 1.0} if messages.isascii() and messages.isdigit() else MESSAGE_MIXES[messages]


MESSAGE_MIXES: Mapping[str, Mapping[int, float]] = {
    "decode": {32 * KIB: 0.25, 128 * KIB: 0.25, 256 * KIB: 0.25, MIB: 0.25},
    "prefill": {16 * MIB: 0.25, 64 * MIB: 0.5, 256 * MIB: 0.25},
    "mixed": {64 * KIB: 0.25, 512 * KIB: 0.25, 16 * MIB: 0.25, 64 * MIB: 0.25},
}
"""Bytes of an all-reduce -> its weight. A tensor-parallel all-reduce moves tokens x hidden size x bytes per value: 16 KiB
(one token, hidden 8192, 16 bit) to 1 MiB for a decode batch of 64, 64 MiB for a prefill chunk of 4,096 tokens."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Tree channels, which inside a node are chains."""

    channels: int
    gbps: float
    """What all channels together carry."""


@dataclass(frozen=True, slots=True)
class Split:
    """Performance of a set where NCCL searches for a second channel; see `trees`."""

    chance: float
    """Probability that NCCL does."""
    ring_gbps: float
    """Bus bandwidth of rings in two channels or more."""
    tree: Tree | None
    """None where no tree fits."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of all-reducing within a set."""

    path: Path
    ring_gbps: float
    tree: Tree | None = None
    split: Split | None = None


@dataclass(frozen=True)
class AllReduce:
    """All-reduce performance of a set."""

    size: int
    """GPUs in the set."""
    ways: tuple[Way, ...]
    nvls_gbps: float | None
    """Bus bandwidth of NVSwitch multicast; None where the set has none."""
    architecture: int
    """GPU architecture, or `constants.UNKNOWN_ARCHITECTURE`."""

    @property
    def ring_gbps(self) -> float:
        """Bus bandwidth of the best rings."""
        return max(way.ring_gbps for way in self.ways)

    @cached_property
    def busbw_gbps(self) -> float:
        """Bus bandwidth in GB/s of very large messages, by rings or multicast."""
        return max(self.ring_gbps, self.nvls_gbps or 0.0)

    @property
    def over_nvlink(self) -> bool:
        """Whether all edges of the best rings are over NVLink."""
        return max(self.ways, key=lambda way: way.ring_gbps).path is not Path.HOST

    @property
    def latency_seconds(self) -> float:
        """Seconds for the smallest message, without the kernel launch."""
        return self.time_seconds(0.0)

    def time_seconds(self, message_bytes: float, launch_seconds: float = 0.0) -> float:
        """Return the seconds of an all-reduce of `message_bytes` per GPU. `launch_seconds` is added: the launch of one kernel."""
        times = [self._way_seconds(way, message_bytes) for way in self.ways]
        if self.nvls_gbps is not None:
            times.append(constants.NVLS_LATENCY_SECONDS + message_bytes * self._share / (1e9 * self.nvls_gbps))
        return launch_seconds + min(times)

    def busbw(self, message_bytes: float, launch_seconds: float = 0.0) -> float:
        """Return the bus bandwidth in GB/s at a message size. Raises ValueError for a size that is not positive."""
        if message_bytes <= 0:
            raise ValueError(f"message_bytes must be positive, not {message_bytes}")
        return message_bytes * self._share / self.time_seconds(message_bytes, launch_seconds) / 1e9

    def effective_gbps(self, mix: Mapping[int, float]) -> float:
        """Return the bus bandwidth in GB/s over a mix of message sizes (bytes -> weight): the weighted geometric mean, so that twice
        the speed at one of two sizes of equal weight counts the same at either size."""
        total = sum(mix.values())
        return exp(sum(weight * log(self.busbw(size)) for size, weight in mix.items()) / total)

    @property
    def _share(self) -> float:
        """Bytes on each wire per byte of a message."""
        return 2 * (self.size - 1) / self.size

    def _way_seconds(self, way: Way, message_bytes: float) -> float:
        usual = self._either_seconds(way.path, way.ring_gbps, way.tree, message_bytes)
        if way.split is None:
            return usual
        split = min(usual, self._either_seconds(way.path, way.split.ring_gbps, way.split.tree, message_bytes))
        return (1 - way.split.chance) * usual + way.split.chance * split

    def _either_seconds(self, path: Path, ring_gbps: float, tree: Tree | None, message_bytes: float) -> float:
        ring = self._ring_seconds(path, ring_gbps, message_bytes)
        return ring if tree is None else min(ring, self._tree_seconds(tree, message_bytes, path is Path.NVLINK))

    def _ring_seconds(self, path: Path, gbps: float, message_bytes: float) -> float:
        linked = path is Path.NVLINK  # a hop of a detour costs as much as one over PCIe (NCCL tuning.cc: typeIntra)
        moved = message_bytes * self._share / 1e9
        return min(
            _latency_seconds(protocol, self.size, linked)
            + moved / min(gbps * protocol.efficiency, protocol.ceiling_gbps(self.architecture))
            for protocol in constants.RING_PROTOCOLS
            if protocol.nvlink_from_architecture is None
            or (path is not Path.HOST and self.architecture >= protocol.nvlink_from_architecture)
        )

    def _tree_seconds(self, tree: Tree, message_bytes: float, linked: bool) -> float:
        """Data go up and down the tree: they cross every wire twice, for any number of GPUs. Source: NCCL tuning.cc."""
        protocol = constants.TREE_PROTOCOL
        step = min(max(int(message_bytes / 64).bit_length() - 1, 0), len(constants.TREE_SHARE) - 1)
        most = tree.channels * constants.tree_channel_gbps(self.architecture)
        carried = min(tree.gbps * protocol.efficiency, most) * constants.TREE_SHARE[step]
        return _latency_seconds(protocol, self.size, linked) + 2 * message_bytes / 1e9 / carried


def _latency_seconds(protocol: Protocol, size: int, linked: bool) -> float:
    return protocol.base_seconds + 2 * (size - 1) * (protocol.nvlink_hop_seconds if linked else protocol.pcie_hop_seconds)


def all_reduce(fabric: Fabric, members: tuple[int, ...]) -> AllReduce | None:
    """Return the performance of the positions `members`; None for fewer than two, which exchange nothing."""
    return performance(fabric, members, packings(fabric, members)) if len(members) > 1 else None


def packings(fabric: Fabric, members: tuple[int, ...]) -> tuple[Packing, ...]:
    """Return the ring packings of two or more positions, with the wires that each fills."""
    speeds, order = constants.channel_gbps(_architecture(fabric, members)), rings_through(fabric, members)
    own = pack_own(fabric, members, order, speeds)
    detour = pack_detours(fabric, members, order, own.wire_gbps if own else 0.0)
    return tuple(packing for packing in (own, detour, pack_host(fabric, members, order, speeds)) if packing)


def performance(fabric: Fabric, members: tuple[int, ...], packed: tuple[Packing, ...]) -> AllReduce:
    """Return the performance of a set that has the given packings."""
    architecture = _architecture(fabric, members)
    best = max(packed, key=lambda packing: packing.ring_gbps)  # the first of equals: NCCL prefers the nearer class of path
    return AllReduce(
        size=len(members),
        ways=tuple(_way(fabric, members, packing, architecture, packing is best) for packing in packed),
        nvls_gbps=_nvls_gbps(fabric, members),
        architecture=constants.UNKNOWN_ARCHITECTURE if architecture is None else architecture,
    )


def _way(fabric: Fabric, members: tuple[int, ...], packing: Packing, architecture: int | None, best: bool) -> Way:
    """One way. `best`: its rings are the set's fastest, so NCCL runs as many trees as rings."""
    chance, speeds = second_channel(fabric, members, packing.path), constants.channel_gbps(architecture)
    if packing.path is not Path.HOST:
        carried = tree_gbps(fabric, members, speeds) if chance else None
        tree = Tree(TREE_CHANNELS, carried) if carried is not None else None
        return Way(packing.path, packing.ring_gbps, None, Split(chance, packing.ring_gbps, tree) if chance else None)
    two = packing.two_channels
    split = Split(chance, two.ring_gbps, _tree(two)) if chance and two else None
    return Way(packing.path, packing.ring_gbps, _tree(packing.channels) if best else None, split)


def _tree(channels: HostChannels | None) -> Tree | None:
    return Tree(channels.count, channels.tree_gbps) if channels and channels.tree_gbps else None


def _architecture(fabric: Fabric, members: tuple[int, ...]) -> int | None:
    """The oldest architecture of the set, as in NCCL; None unless all are known."""
    architectures = [fabric.architecture[member] for member in members]
    known = [architecture for architecture in architectures if architecture is not None]
    return min(known, default=None) if len(known) == len(members) else None


def _nvls_gbps(fabric: Fabric, members: tuple[int, ...]) -> float | None:
    """Bus bandwidth of NVSwitch multicast. The switch adds the values, so a GPU sends its data once, for any number of GPUs."""
    if len(members) < constants.NVLS_FROM_GPUS:
        return None
    rates = []
    for member in members:
        generation, links = fabric.generation[member], fabric.switch_links[member]
        if generation not in constants.NVLS_EFFICIENCY or not links:
            return None
        port = constants.NVLS_CHANNEL_SHARE * fabric.capacity_gbps[nvswitch_port(member).name]
        rates.append(constants.NVLS_EFFICIENCY[generation] * port)
    return round(min(rates) * 2 * (len(members) - 1) / len(members), 6)
