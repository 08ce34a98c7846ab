"""GB/s of every kind of link, per direction and after protocol overhead; latencies; NCCL's channel speeds.

Source of all figures unless a line says otherwise: NVIDIA NCCL 2.30.7, `src/graph/topo.h` and `src/graph/tuning.cc`. Data sheets
often state the sum of both directions before overhead instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NVLINK_GBPS = {1: 18.0, 2: 20.0, 3: 20.0, 4: 20.6, 5: 40.1}
"""GB/s of one NVLink by generation: 1 (P100), 2 (V100), 3 (A100), 4 (H100), 5 (B200)."""

NVLINK_GA10X_GBPS = 12.0
"""GB/s of one NVLink 3 of a GA10x board (A40, A6000, RTX 3090), which has fewer lanes than that of an A100."""

UNKNOWN_NVLINK_GBPS = 20.0
"""GB/s of an NVLink of unknown generation: the figure of V100 and A100, and within 3 % of that of H100."""

MAX_DIRECT_NVLINKS = {1: 4, 2: 6, 3: 12, 4: 18, 5: 18}
"""NVLinks of one GPU by generation. Source: NVIDIA data sheets of P100 .. B200."""

PCIE_X16_GBPS = {1: 3.0, 2: 6.0, 3: 12.0, 4: 24.0, 5: 48.0, 6: 96.0}
"""GB/s of sixteen lanes by PCIe generation; fewer lanes have their share."""

DEFAULT_PCIE_GENERATION = 4
"""Assumed where neither agent nor product gives the generation: the most common one in GPU servers."""

HOST_BRIDGE_PENALTY = 1.2
"""Bytes on the wire per byte of PCIe traffic through an Intel host bridge."""

_SOCKET_GBPS: tuple[tuple[str, float], ...] = (
    (r"EMERALD|PLATINUM 85|GOLD 65|SILVER 45", 40.0),
    (r"SAPPHIRE|PLATINUM 84|GOLD 64|SILVER 44|CPU MAX", 22.0),
    (r"ICE ?LAKE|PLATINUM 83|GOLD [56]3|SKYLAKE|CASCADE|PLATINUM 8[12]|GOLD [56][12]", 10.0),
    (r"BROADWELL|HASWELL|E[57]-\d+ ?V[34]", 6.0),
    (r"AMD|EPYC|GENOA|MILAN|ROME|TURIN|NAPLES|BERGAMO|THREADRIPPER", 16.0),
    (r"POWER ?9", 32.0),
    (r"ARM|GRACE|NEOVERSE|AMPERE ALTRA|GRAVITON", 6.0),
)

UNKNOWN_SOCKET_GBPS = 10.0
"""GB/s between two sockets of an unknown CPU: the figure of Skylake to Ice Lake, the middle of the known values."""


def socket_gbps(cpu_model: str | None) -> float:
    """Return GB/s per direction between two sockets of a CPU model; `UNKNOWN_SOCKET_GBPS` for an unknown one."""
    name = (cpu_model or "").upper()
    for pattern, gbps in _SOCKET_GBPS:
        if re.search(pattern, name):
            return gbps
    return UNKNOWN_SOCKET_GBPS


def knows_cpu(cpu_model: str) -> bool:
    """Whether the bandwidth between two sockets of a CPU model is known."""
    return any(re.search(pattern, cpu_model.upper()) for pattern, _ in _SOCKET_GBPS)


def is_amd(cpu_model: str | None) -> bool:
    """Whether the CPU model is known to be one of AMD."""
    return re.search(r"AMD|EPYC|GENOA|MILAN|ROME|TURIN|NAPLES|BERGAMO|THREADRIPPER", (cpu_model or "").upper()) is not None


def host_bridge_penalty(cpu_model: str | None) -> float:
    """Return the bytes on the wire per byte sent through the host bridge; an unknown CPU counts as Intel."""
    has_no_penalty = re.search(r"POWER|ARM|GRACE|NEOVERSE|GRAVITON|AMPERE", (cpu_model or "").upper())
    return 1.0 if has_no_penalty or is_amd(cpu_model) else HOST_BRIDGE_PENALTY


CHANNEL_GBPS: dict[int, tuple[float, ...]] = {
    0: (40, 30, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, 3),
    9: (60, 50, 40, 30, 24, 20, 15, 12, 11, 6, 3),
    10: (90, 80, 70, 60, 50, 45, 40, 30, 24, 20, 19, 18),
}
"""GB/s that NCCL tries for a channel inside one node, by the lowest GPU architecture that they apply to. Source: NCCL search.cc."""

SLOWEST_CHANNEL_SHARE = 0.49
"""NCCL tries no channels slower than this share of the speed that it has found to work. Source: search.cc."""

UNKNOWN_ARCHITECTURE = 8
"""Assumed for a GPU of unknown architecture where only channel speeds and protocol ceilings depend on it: Ampere and Ada."""


def channel_gbps(architecture: int | None) -> tuple[float, ...]:
    """Return the channel speeds in GB/s for a GPU architecture, fastest first. Consumer Blackwell (12) has no NVLink and uses list 0."""
    known = UNKNOWN_ARCHITECTURE if architecture is None else architecture
    return CHANNEL_GBPS[max(least for least in CHANNEL_GBPS if least <= known)] if known < 12 else CHANNEL_GBPS[0]


@dataclass(frozen=True, slots=True)
class Protocol:
    """One of NCCL's protocols."""

    name: str
    base_seconds: float
    nvlink_hop_seconds: float
    pcie_hop_seconds: float
    efficiency: float
    """Share of the ring bandwidth that carries payload."""
    most_gbps: dict[int, float]
    """Most GB/s of the protocol, by the lowest GPU architecture that the figure applies to."""
    nvlink_from_architecture: int | None = None
    """Lowest architecture of a protocol that needs NVLink on every edge; None = it needs no NVLink."""

    def ceiling_gbps(self, architecture: int) -> float:
        """Return the most GB/s on an architecture; infinite where nothing limits it."""
        fitting = [least for least in self.most_gbps if least <= architecture]
        return self.most_gbps[max(fitting)] if fitting else float("inf")


RING_PROTOCOLS = (
    Protocol("LL", 6.6e-6, 0.6e-6, 1.0e-6, 0.5, {0: 39.0, 8: 87.7, 9: 141.0, 10: 282.0}),
    Protocol("LL128", 14e-6, 1.9e-6, 2.5e-6, 0.92, {}, nvlink_from_architecture=7),
    Protocol("Simple", 8.4e-6, 3.4e-6, 5.7e-6, 1.0, {}),
)
"""Low latency, 128-byte and simple. Base and per-hop seconds, shares and ceilings: NCCL tuning.cc."""

TREE_PROTOCOL = Protocol("Simple", 8.4e-6, 4.0e-6, 4.0e-6, 0.92, {})
"""For trees inside a node the simple protocol is always the fastest. Source: NCCL tuning.cc."""

TREE_CHANNEL_GBPS = {0: 26.5, 8: 24.0, 9: 38.7, 10: 70.0}
"""Most GB/s of one tree channel, at 0.92 efficiency, by the lowest GPU architecture that it applies to. Source: NCCL tuning.cc."""


def tree_channel_gbps(architecture: int) -> float:
    """Return the most GB/s of one tree channel on a GPU architecture."""
    return TREE_CHANNEL_GBPS[max(least for least in TREE_CHANNEL_GBPS if least <= architecture)]


TREE_SHARE = (0.9,) * 7 + (0.8, 0.7, 0.6, 0.6, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.7, 0.7, 0.8, 0.9, 0.9)
"""Share of a tree's bandwidth by message size, one value per doubling from 64 bytes on. Source: tuning.cc, simple protocol."""

TREE_CHANCE = 0.5
"""Probability that NCCL gives an NVLink chain across two sockets a second channel. It depends on the order in which the GPUs are
listed, which a set does not have; 51 of 92 such sets get it. Source: NCCL's search on every set of DGX-1P and DGX-1V."""

NVLS_LATENCY_SECONDS = 25e-6
NVLS_EFFICIENCY = {4: 0.85, 5: 0.74}
"""Hopper and Blackwell; older NVSwitches have no multicast. Source: NCCL tuning.cc."""
NVLS_CHANNEL_SHARE = 16 / 18
"""Multicast runs on sixteen channels of a GPU's eighteen links. Source: NCCL, as seen on H100."""
NVLS_FROM_GPUS = 5
"""Fewest GPUs from which multicast is used; for fewer, rings are faster. Source: measured on H200 and B200, stas00/ml-engineering
network/README.md."""

LAUNCH_SECONDS = {9: 25e-6, 10: 30e-6}
"""Seconds of a kernel launch in nccl-tests by GPU architecture, which NCCL's model leaves out: the time of H200 and B200 at 32 KiB less
the model's.
Source of the measurements: stas00/ml-engineering network/README.md."""
