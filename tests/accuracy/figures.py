"""The figures that others found, read from the compact files beside this one or spelt out here with their source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from topology.machine.hardware import Machine
from topology.platforms import machine_of

MESSAGES = {"32 KiB": 32 << 10, "256 KiB": 256 << 10, "1 MiB": 1 << 20, "16 MiB": 16 << 20, "256 MiB": 256 << 20}
"""The message sizes of `nccl.txt`, in its order."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Searched:
    """What NCCL's search gives for every set of a machine."""

    name: str
    machine: Machine
    busbw_gbps: dict[int, tuple[float, ...]]
    """Mask of the set -> GB/s per message size."""

    @property
    def sets_differ(self) -> bool:
        """Whether it matters which GPUs of the machine a pod gets."""
        sizes: dict[int, set[tuple[float, ...]]] = {}
        for mask, gbps in self.busbw_gbps.items():
            sizes.setdefault(mask.bit_count(), set()).add(gbps)
        return any(len(found) > 1 for found in sizes.values())


def nccl_search() -> list[Searched]:
    """Every machine of `nccl.txt`."""
    found: list[Searched] = []
    for line in _lines("nccl.txt"):
        if "|" in line:
            name, platform, cpu = (part.strip() for part in line.split("|"))
            machine = machine_of(platform)
            found.append(Searched(name, replace(machine, cpu_model=cpu or machine.cpu_model), {}))
        else:
            gbps, masks = line.split(":")
            for mask in masks.split():
                found[-1].busbw_gbps[int(mask, 16)] = tuple(map(float, gbps.split()))
    return found


@dataclass(frozen=True)
class Vector:
    """One answer of NVIDIA's policy."""

    score: tuple[tuple[int, ...], ...]
    available: tuple[int, ...]
    required: tuple[int, ...]
    size: int
    result: tuple[int | None, ...]


def plugin_vectors() -> Iterator[Vector]:
    """Every line of `plugin.txt`."""
    for line in _lines("plugin.txt"):
        size, available, required, result, pairs = line.split("|")
        scores = [10 * int(score) for score in pairs.split()]
        yield Vector(_square(scores), _devices(available), _devices(required), int(size), _or_nil(result))


def _lines(name: str) -> Iterator[str]:
    for line in (_HERE / name).read_text().splitlines():
        if line and not line.startswith("#"):
            yield line


def _square(above: list[int]) -> tuple[tuple[int, ...], ...]:
    size = next(n for n in range(1, 18) if n * (n - 1) // 2 == len(above))
    rows = [[0] * size for _ in range(size)]
    left = iter(above)
    for i in range(size):
        for j in range(i + 1, size):
            rows[i][j] = rows[j][i] = next(left)
    return tuple(map(tuple, rows))


def _devices(text: str) -> tuple[int, ...]:
    return tuple(int(digit, 16) for digit in text)


def _or_nil(text: str) -> tuple[int | None, ...]:
    return tuple(None if digit == "-" else int(digit, 16) for digit in text)


@dataclass(frozen=True)
class Measured:
    """A measurement on a real machine."""

    source: str
    platform: str
    gpus: int
    message_bytes: int
    gbps: float
    within: float | None
    """The aim, as a share of the measurement; None where the issue is a shape, not a figure."""
    old_library: bool = False
    """Measured with a library that routed otherwise than today's."""


_STAS = "stas00/ml-engineering network/README.md"
_TARTAN = "uuudown/Tartan scale_up_cl/nccl-v2/bandwidth.txt, NCCL of 2017"
_BRIDGED = "NVIDIA/nccl-tests issue 178"

MEASURED: tuple[Measured, ...] = (
    *(Measured(_STAS, "hgx-h200", n, 8 << 30, g, 0.15) for n, g in zip(range(4, 9), (363.3, 414.2, 435.6, 460.0, 473.1), strict=True)),
    *(Measured(_STAS, "hgx-b200", n, 8 << 30, g, 0.15) for n, g in zip(range(4, 9), (673.2, 677.8, 778.2, 811.2, 838.0), strict=True)),
    *(
        Measured(_STAS, "hgx-h200", 8, kib << 10, gbps, 0.25)
        for kib, gbps in {
            32: 1.44, 64: 2.93, 128: 5.73, 256: 11.74, 512: 23.94, 1 << 10: 39.93, 1 << 11: 64.53, 1 << 12: 107.16, 1 << 14: 219.89,
            1 << 16: 346.51, 1 << 18: 436.15, 1 << 20: 463.58, 1 << 24: 482.26,
        }.items()
    ),
    Measured(_BRIDGED, "a100-pcie-bridge-pairs", 2, 1 << 30, 208.0, None),
    Measured(_BRIDGED, "a100-pcie-bridge-pairs", 3, 1 << 30, 20.0, None),
    *(
        Measured(_TARTAN, "dgx-1p", n, 1 << 30, gbps, None, old_library=True)
        for n, gbps in zip(range(2, 9), (17.28, 34.56, 52.09, 5.57, 34.70, 34.72, 62.24), strict=True)
    ),
)  # fmt: skip
"""The first n GPUs of a machine."""

MAPA_DGX1V: dict[int, tuple[float, float, float]] = {
    2: (58.9, 27.7, 10.4), 3: (57.9, 10.4, 3.2), 4: (68.7, 31.3, 18.2), 5: (53.6, 49.2, 34.5), 6: (90.0, 90.0, 82.1),
    7: (131.8, 131.8, 131.8), 8: (182.8, 182.8, 182.8),
}  # fmt: skip
"""MAPA's model (SC'21, its fourteen published coefficients) on DGX-1V: GB/s of the set it calls best, median and worst, by
size. Its best five are rings with two PCIe links, its worst five have but one."""
