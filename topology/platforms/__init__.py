"""Known machines, as data: one small YAML file per platform, its source and a drawing in its head.

A platform file is not a list of pairs but a description people can check against a data sheet:

    product, memory      what NVML calls the GPU, and its memory as a quantity
    gpus                 how many
    cpu, pcie            CPU model; PCIe generation
    numa                 NUMA node of each GPU, in index order
    switches             groups of indices under one PCIe switch (PIX)
    upper_switches       groups under a switch of switches (PXB)
    in_socket            class of the other pairs of one NUMA node: PHB or NODE
    nvswitch             NVLinks from each GPU into NVSwitches
    nvlinks              direct links: "0-1": 12
    peer_to_peer         whether PCIe peer-to-peer works
    fallback             whether product and count alone make a machine this one (boards do; cards may be bridged or not)
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

import msgspec
import yaml

from topology.machine.hardware import Gpu, Machine, PciePath, TopologyError
from topology.machine.products import facts, same_product


class Platform(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One platform file."""

    name: str
    source: str
    product: str
    memory_gib: int
    gpus: int
    numa: list[int]
    cpu: str | None = None
    pcie: int | None = None
    switches: list[list[int]] = []
    upper_switches: list[list[int]] = []
    in_socket: str = "NODE"
    nvswitch: int = 0
    nvlinks: dict[str, int] = {}
    peer_to_peer: bool | None = None
    fallback: bool = False


@cache
def platforms() -> dict[str, Platform]:
    """All bundled platforms by name. Raises TopologyError naming a broken file."""
    found: dict[str, Platform] = {}
    for entry in sorted(resources.files(__name__).iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            found[entry.name.removesuffix(".yaml")] = _read(entry.name, yaml.safe_load(entry.read_text()))
    return found


def _read(name: str, document: Any) -> Platform:
    try:
        platform = msgspec.convert(document, Platform)
    except msgspec.ValidationError as error:
        raise TopologyError(f"platform file {name}: {error}") from error
    if len(platform.numa) != platform.gpus:
        raise TopologyError(f"platform file {name}: numa lists {len(platform.numa)} of {platform.gpus} GPUs")
    return platform


def machine_of(name: str, uuid_prefix: str | None = None) -> Machine:
    """A machine of the named platform. Raises TopologyError for a name that is not bundled.

    `uuid_prefix` gives its GPUs uuids; without it they have none, for no real GPU is meant.
    """
    if name not in platforms():
        raise TopologyError(f"no platform {name!r}; known: {', '.join(platforms())}")
    platform = platforms()[name]
    known = facts(platform.product)
    gpus = tuple(
        Gpu(
            index=i,
            uuid=f"GPU-{uuid_prefix}-{i}" if uuid_prefix else None,
            product=platform.product,
            memory_bytes=platform.memory_gib << 30,
            numa_node=platform.numa[i],
            pcie_generation=platform.pcie,
            nvlink_generation=known.nvlink_generation if known else None,
            switch_links=platform.nvswitch,
        )
        for i in range(platform.gpus)
    )
    paths = tuple(tuple(_path(platform, i, j) for j in range(platform.gpus)) for i in range(platform.gpus))
    links = tuple(tuple(_links(platform, i, j) for j in range(platform.gpus)) for i in range(platform.gpus))
    return Machine(gpus, (), paths, links, platform.cpu, platform.peer_to_peer)


@cache
def fallback_platform(product: str, count: int) -> str | None:
    """The platform that a product and a count of GPUs stand for, or None: for nodes that only GFD's labels describe.

    How much memory a board's GPUs have changes none of its links.
    """
    for name, platform in platforms().items():
        if platform.fallback and platform.gpus == count and same_product(_links_of(product), _links_of(platform.product)):
            return name
    return None


def _links_of(product: str) -> str:
    return re.sub(r"\d+ ?GB", "", product)


def _path(platform: Platform, i: int, j: int) -> PciePath | None:
    if i == j:
        return None
    if any(i in group and j in group for group in platform.switches):
        return PciePath.PIX
    if any(i in group and j in group for group in platform.upper_switches):
        return PciePath.PXB
    return PciePath(platform.in_socket) if platform.numa[i] == platform.numa[j] else PciePath.SYS


def _links(platform: Platform, i: int, j: int) -> int:
    return platform.nvlinks.get(f"{min(i, j)}-{max(i, j)}", 0) if i != j else 0
