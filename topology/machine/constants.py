"""GB/s of every kind of link, per direction, as collective libraries can use them.

Source of all figures unless a line says otherwise: NVIDIA NCCL 2.30.7, `src/graph/topo.h` and
`src/graph/tuning.cc`: what NCCL itself reckons with after protocol overhead, not the
marketing sum of both directions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NVLINK_GBPS = {1: 18.0, 2: 20.0, 3: 20.0, 4: 20.6, 5: 40.1}
"""One NVLink of generation 1 (P100), 2 (V100), 3 (A100), 4 (H100), 5 (B200)."""

NVLINK_GA10X_GBPS = 12.0
"""One NVLink 3 of a GA10x board (A40, A6000, RTX 3090): fewer lanes than A100's."""

UNKNOWN_NVLINK_GBPS = 20.0
"""A link whose generation nobody told: V100's, A100's and within 3 % of H100's figure."""

MAX_DIRECT_NVLINKS = {1: 4, 2: 6, 3: 12, 4: 18, 5: 18}
"""NVLinks that one GPU of a generation has. Source: NVIDIA data sheets of P100 .. B200."""

PCIE_X16_GBPS = {1: 3.0, 2: 6.0, 3: 12.0, 4: 24.0, 5: 48.0, 6: 96.0}
"""Sixteen lanes of a PCIe generation; fewer lanes give their share."""

DEFAULT_PCIE_GENERATION = 4
"""Assumed where neither the agent nor the product tells: the commonest in GPU servers today."""

HOST_BRIDGE_PENALTY = 1.2
"""PCIe traffic through an Intel host bridge costs 6/5 of its bytes."""

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
"""Assumed socket interconnect: Skylake to Ice Lake, the middle of the known values."""


def socket_gbps(cpu_model: str | None) -> float:
    """GB/s per direction between two sockets of a CPU model; `UNKNOWN_SOCKET_GBPS` if untold."""
    name = (cpu_model or "").upper()
    for pattern, gbps in _SOCKET_GBPS:
        if re.search(pattern, name):
            return gbps
    return UNKNOWN_SOCKET_GBPS


def knows_cpu(cpu_model: str) -> bool:
    """Whether the socket link of a CPU model is known."""
    return any(re.search(pattern, cpu_model.upper()) for pattern, _ in _SOCKET_GBPS)


def is_amd(cpu_model: str | None) -> bool:
    """Whether the CPU is told to be an AMD one."""
    return re.search(r"AMD|EPYC|GENOA|MILAN|ROME|TURIN|NAPLES|BERGAMO|THREADRIPPER", (cpu_model or "").upper()) is not None


def host_bridge_penalty(cpu_model: str | None) -> float:
    """Bytes on the wire per byte sent through the host bridge; an unknown CPU counts as Intel."""
    others = re.search(r"POWER|ARM|GRACE|NEOVERSE|GRAVITON|AMPERE", (cpu_model or "").upper())
    return 1.0 if others or is_amd(cpu_model) else HOST_BRIDGE_PENALTY


CHANNEL_GBPS: dict[int, tuple[float, ...]] = {
    0: (40, 30, 20, 18, 15, 12, 10, 9, 7, 6, 5, 4, 3),
    9: (60, 50, 40, 30, 24, 20, 15, 12, 11, 6, 3),
    10: (90, 80, 70, 60, 50, 45, 40, 30, 24, 20, 19, 18),
}
"""The speeds NCCL tries for a channel inside one node, by the least GPU architecture they are for. Source: NCCL search.cc."""

SLOWEST_CHANNEL_SHARE = 0.49
"""NCCL gives up on slower, more numerous channels below this share of the speed it has found to work. Source: search.cc."""

UNKNOWN_ARCHITECTURE = 8
"""Stands in for a GPU of unknown architecture where only channel speeds and protocol ceilings depend on it: Ampere, Ada."""


def channel_gbps(architecture: int | None) -> tuple[float, ...]:
    """The channel speeds for a GPU architecture, fastest first. Consumer Blackwell (12) hangs on PCIe: it keeps the common list."""
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
    """What the protocol can do at most, by the least GPU architecture."""
    nvlink_from_architecture: int | None = None
    """For protocols that need NVLink all the way: from which architecture on."""

    def ceiling_gbps(self, architecture: int) -> float:
        """The most it can carry on an architecture; infinite where nothing limits it."""
        fitting = [least for least in self.most_gbps if least <= architecture]
        return self.most_gbps[max(fitting)] if fitting else float("inf")


RING_PROTOCOLS = (
    Protocol("LL", 6.6e-6, 0.6e-6, 1.0e-6, 0.5, {0: 39.0, 8: 87.7, 9: 141.0, 10: 282.0}),
    Protocol("LL128", 14e-6, 1.9e-6, 2.5e-6, 0.92, {}, nvlink_from_architecture=7),
    Protocol("Simple", 8.4e-6, 3.4e-6, 5.7e-6, 1.0, {}),
)
"""Low latency, 128-byte and simple. Base and per-hop seconds, shares and ceilings: NCCL tuning.cc."""

TREE_PROTOCOL = Protocol("Simple", 8.4e-6, 4.0e-6, 4.0e-6, 0.92, {})
"""Of the trees only the simple protocol ever wins inside a node. Source: NCCL tuning.cc."""

TREE_CHANNEL_GBPS = {0: 26.5, 8: 24.0, 9: 38.7, 10: 70.0}
"""Most that one tree channel carries, of 0.92 efficiency, by the least GPU architecture it is for. Source: NCCL tuning.cc."""


def tree_channel_gbps(architecture: int) -> float:
    """The most that one tree channel carries on a GPU architecture."""
    return TREE_CHANNEL_GBPS[max(least for least in TREE_CHANNEL_GBPS if least <= architecture)]


TREE_SHARE = (0.9,) * 7 + (0.8, 0.7, 0.6, 0.6, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.7, 0.7, 0.8, 0.9, 0.9)
"""What NCCL takes off trees by message size, one step per doubling from 64 bytes on. Source: tuning.cc, simple protocol."""

TREE_CHANCE = 0.5
"""Whether NCCL gives an NVLink chain across two sockets its second channel depends on the order in which the GPUs are listed,
which a set does not have. Of the sets of that kind 51 of 92 get it. Source: NCCL's search on every set of DGX-1P and DGX-1V."""

NVLS_LATENCY_SECONDS = 25e-6
NVLS_EFFICIENCY = {4: 0.85, 5: 0.74}
"""Hopper and Blackwell; older NVSwitches have no multicast. Source: NCCL tuning.cc."""
NVLS_CHANNEL_SHARE = 16 / 18
"""Multicast runs on sixteen channels of a GPU's eighteen links. Source: NCCL, as seen on H100."""
NVLS_FROM_GPUS = 5
"""Below, rings are faster. Source: measured on H200 and B200, stas00/ml-engineering network/README.md."""

LAUNCH_SECONDS = {9: 25e-6, 10: 30e-6}
"""Kernel launch as nccl-tests sees it, by GPU architecture, which NCCL's model leaves out: H200 and B200 at 32 KiB less the model's time.
Source of the measurements: stas00/ml-engineering network/README.md."""
