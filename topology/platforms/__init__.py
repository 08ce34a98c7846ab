"""Known machines, as data: one small YAML file per platform, with a drawing and its source.

To add a platform, add a file. Nothing here knows nodes or pods. A file is a description that can be compared with a data sheet:

    product, memory_gib  the GPU's name in NVML, and its memory in GiB
    gpus                 number of GPUs
    cpu, pcie            CPU model; PCIe generation
    numa                 NUMA node of each GPU, in index order
    switches             groups of indices under one PCIe switch (PIX)
    upper_switches       groups under a switch of switches (PXB)
    in_socket            class of the other pairs of one NUMA node: PHB or NODE
    nvswitch             NVLinks from each GPU into NVSwitches
    nvlinks              direct links: "0-1": 12
    peer_to_peer         whether PCIe peer-to-peer works
    fallback             whether product and number of GPUs identify the platform (true for boards; cards may be bridged or not)
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
    """Return all bundled platforms by name. Raises TopologyError with the name of a malformed file."""
    by_name: dict[str, Platform] = {}
    for entry in sorted(resources.files(__name__).iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            by_name[entry.name.removesuffix(".yaml")] = _read(entry.name, yaml.safe_load(entry.read_text()))
    return by_name


def _read(name: str, document: Any) -> Platform:
    try:
        platform = msgspec.convert(document, Platform)
    except msgspec.ValidationError as error:
        raise TopologyError(f"platform file {name}: {error}") from error
    if len(platform.numa) != platform.gpus:
        raise TopologyError(f"platform file {name}: numa lists {len(platform.numa)} of {platform.gpus} GPUs")
    return platform


def machine_of(name: str, uuid_prefix: str | None = None) -> Machine:
    """Return a machine of a bundled platform. Raises TopologyError for an unknown name.

    With `uuid_prefix` its GPUs have uuids; without it they have none, because they are not real GPUs.
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
    """Return the platform that a product and a number of GPUs identify, or None: for nodes that only GFD's labels describe.

    The memory size in a product name does not count: it affects no link.
    """
    for name, platform in platforms().items():
        if platform.fallback and platform.gpus == count and same_product(_without_memory(product), _without_memory(platform.product)):
            return name
    return None


def _without_memory(product: str) -> str:
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
