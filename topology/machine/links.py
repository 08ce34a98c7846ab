"""The link between two GPUs of one machine, as a value with a text form for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from topology.machine.hardware import PciePath


class LinkKind(StrEnum):
    """What joins two GPUs; the best of several."""

    NVSWITCH = "NVSwitch"
    NVLINK = "NVLink"
    PCIE = "PCIe"


@dataclass(frozen=True, slots=True)
class Link:
    """What joins two GPUs. Its text is what nvidia-smi prints, but for `NVSwitch`: `NV12`, `PHB`."""

    kind: LinkKind
    nvlinks: int
    """NVLinks between the two GPUs; through NVSwitches, those of the GPU that has fewer; 0 over PCIe."""
    pcie_path: PciePath
    """PCIe class of the pair, known or inferred, also where NVLink joins it."""

    @property
    def is_nvlink(self) -> bool:
        """Whether NVLink joins the two GPUs, directly or through NVSwitches."""
        return self.kind is not LinkKind.PCIE

    def __str__(self) -> str:
        if self.kind is LinkKind.NVLINK:
            return f"NV{self.nvlinks}"
        return self.kind.value if self.kind is LinkKind.NVSWITCH else self.pcie_path.value
