"""Wires: what the traffic of several pairs of GPUs shares. A wire's name identifies it within one machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class WireKind(StrEnum):
    """What a wire is."""

    NVLINK = "NVLink"
    """All direct NVLinks of one pair of GPUs."""
    NVSWITCH_PORT = "nvswitch port"
    """All NVLinks of one GPU into NVSwitches."""
    PCIE_LANES = "PCIe lanes"
    """The PCIe link of one GPU."""
    UPLINK = "uplink"
    """The PCIe link above a switch."""
    SOCKET_LINK = "socket link"
    """What joins two host zones."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One wire. `gpus` are the positions at its ends, `vertices` the names of its other ends in `Fabric.graph`."""

    kind: WireKind
    gpus: tuple[int, ...] = ()
    vertices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The wire's name within its machine, with positions: `NVLink 0-3`, `uplink of switch 1`."""
        return self.text(lambda position: position)

    def text(self, index_of: Callable[[int], int]) -> str:
        """Return the name with each position replaced by `index_of(position)`, such as its nvidia-smi index."""
        indices = [str(index_of(position)) for position in self.gpus]
        match self.kind:
            case WireKind.NVLINK:
                return f"NVLink {'-'.join(indices)}"
            case WireKind.NVSWITCH_PORT | WireKind.PCIE_LANES:
                return f"{self.kind} of GPU {indices[0]}"
            case WireKind.UPLINK:
                return f"uplink of {self.vertices[0]}"
            case WireKind.SOCKET_LINK:
                return f"socket link {' - '.join(self.vertices)}"


def nvlink(a: int, b: int) -> Wire:
    """The direct NVLinks between positions a < b."""
    return Wire(WireKind.NVLINK, gpus=(a, b))


def nvswitch_port(position: int) -> Wire:
    """The NVLinks of a GPU into NVSwitches."""
    return Wire(WireKind.NVSWITCH_PORT, gpus=(position,))


def pcie_lanes(position: int) -> Wire:
    """The PCIe link of a GPU."""
    return Wire(WireKind.PCIE_LANES, gpus=(position,))


def uplink(switch: str) -> Wire:
    """The PCIe link above a switch."""
    return Wire(WireKind.UPLINK, vertices=(switch,))


def socket_link(first_zone: str, second_zone: str) -> Wire:
    """What joins two host zones, named in ascending order."""
    return Wire(WireKind.SOCKET_LINK, vertices=(first_zone, second_zone))
