"""Links between GPUs are values, and their text is that of nvidia-smi."""

from __future__ import annotations

import pytest

from topology.bandwidth.fabric import build_fabric
from topology.machine.hardware import PciePath
from topology.machine.links import Link, LinkKind
from topology.platforms import machine_of, platforms

# name -> (platform, pair of positions, link, text)
LINKS = {
    "through NVSwitches": ("hgx-h100", (0, 7), Link(LinkKind.NVSWITCH, 18, PciePath.SYS), "NVSwitch"),
    "a bridge": ("a40-bridge-pairs", (0, 1), Link(LinkKind.NVLINK, 4, PciePath.NODE), "NV4"),
    "a PCIe switch": ("rtx4090", (0, 1), Link(LinkKind.PCIE, 0, PciePath.PIX), "PIX"),
    "two sockets": ("t4", (0, 3), Link(LinkKind.PCIE, 0, PciePath.SYS), "SYS"),
}


@pytest.mark.parametrize("case", LINKS)
def test_link_has_kind_number_of_links_and_pcie_class(case: str) -> None:
    platform, pair, link, text = LINKS[case]
    found = build_fabric(machine_of(platform)).links[pair]
    assert (found, str(found)) == (link, text)


@pytest.mark.parametrize("platform", list(platforms()))
def test_only_a_link_over_pcie_has_no_nvlinks(platform: str) -> None:
    for link in build_fabric(machine_of(platform)).links.values():
        assert link.is_nvlink == (link.nvlinks > 0) == (link.kind is not LinkKind.PCIE)


@pytest.mark.parametrize("platform", list(platforms()))
def test_every_wire_of_a_route_is_known_by_its_name(platform: str) -> None:
    fabric = build_fabric(machine_of(platform))
    crossed = {wire for route in (*fabric.routes.values(), *fabric.pcie_routes.values()) for wire, _ in route}
    assert crossed <= set(fabric.wires) == set(fabric.capacity_gbps)
    assert all(wire.name == name for name, wire in fabric.wires.items())
