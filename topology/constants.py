"""GB/s of every kind of link, per direction, as collective libraries can use them.

Source of all figures unless a line says otherwise: NVIDIA NCCL 2.30.7, `src/graph/topo.h` and
`src/graph/tuning.cc`: what NCCL itself reckons with after protocol overhead, not the
marketing sum of both directions.
"""

from __future__ import annotations

import re

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
    (r"AMD|EPYC|GENOA|MILAN|ROME|TURIN", 16.0),
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


def host_bridge_penalty(cpu_model: str | None) -> float:
    """Bytes on the wire per byte sent through the host bridge; an unknown CPU counts as Intel."""
    not_intel = re.search(r"AMD|EPYC|GENOA|MILAN|ROME|TURIN|POWER|ARM|GRACE|NEOVERSE|GRAVITON|AMPERE", (cpu_model or "").upper())
    return 1.0 if not_intel else HOST_BRIDGE_PENALTY


LATENCY_BASE_SECONDS = 6.6e-6
"""Launch-free cost of a ring all-reduce with the low-latency protocol."""

HOP_SECONDS = {"nvlink": 0.6e-6, "pcie": 1.0e-6}
"""Each of the 2(n-1) hops of a ring, low-latency protocol."""
