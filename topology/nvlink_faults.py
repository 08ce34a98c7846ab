"""NVLinks that should be up and are not, and link generations that contradict the product. Pure.

A link that is not up is no fault by itself: a PCIe card with fewer bridges than it has room for has unconnected links (an A100 PCIe
alone: 12 of 12; an H100 NVL: 6 of 18). So does a GPU of a board that a virtual machine has only a part of. A fault needs evidence of how
many links should be up: the platform, the product, the other GPUs of the node, or the other end of a link.
"""

from __future__ import annotations

from dataclasses import dataclass

from topology.machine.hardware import Machine
from topology.machine.products import facts, normalise
from topology.platforms import fallback_platform, machine_of


@dataclass(frozen=True, slots=True)
class LinkFault:
    """A GPU with fewer NVLinks up than there should be."""

    index: int
    """The GPU's nvidia-smi index."""
    up: int
    expected: int
    witness: str
    """The evidence that more links should be up, for people."""


def link_faults(machine: Machine) -> tuple[LinkFault, ...]:
    """Return one fault per GPU with missing links, in the machine's order, without GPUs that are lost or in MIG mode, where NVLinks do not
    work."""
    up = tuple(_links_up(machine, position) for position in range(len(machine.gpus)))
    faults = []
    for position, links in enumerate(up):
        if links is None or machine.gpus[position].mig_enabled:
            continue
        claims = (_by_platform(machine, up, position), _by_product(machine, up, position), _by_peers(machine, up, position))
        expected, witness = max((*claims, _by_other_end(machine, links, position)), key=lambda claim: claim[0])
        if links < expected:
            faults.append(LinkFault(machine.gpus[position].index, links, expected, witness))
    return tuple(faults)


def generation_contradictions(machine: Machine) -> tuple[str, ...]:
    """Return one sentence per GPU whose driver reports another NVLink generation than its product has."""
    sentences = []
    for gpu in machine.gpus:
        known = facts(gpu.product)
        reported, of_product = gpu.nvlink_generation, known.nvlink_generation if known else None
        if reported is not None and of_product is not None and reported != of_product:
            sentences.append(f"GPU {gpu.index}: NVLink generation {reported} by the driver, but {gpu.product} has generation {of_product}")
    return tuple(sentences)


Claim = tuple[int, str]
"""(links of a GPU that should be up, the evidence); 0 links = no evidence."""

NO_CLAIM: Claim = (0, "")

Up = tuple[int | None, ...]
"""Links that are up per position; None = unknown, such as for a lost GPU."""


def _links_up(machine: Machine, position: int) -> int | None:
    gpu, direct = machine.gpus[position], sum(machine.nvlinks[position])
    if gpu.switch_links is None and gpu.dead_links is None and not direct:
        return None
    return (gpu.switch_links or 0) + direct


def _by_platform(machine: Machine, up: Up, position: int) -> Claim:
    """Evidence: the only platform with this product and number of GPUs. Links to lost GPUs are not expected."""
    products = {gpu.product for gpu in machine.gpus if gpu.product is not None}
    name = fallback_platform(products.pop(), len(machine.gpus)) if len(products) == 1 else None
    if name is None:
        return NO_CLAIM
    whole = machine_of(name)
    direct = sum(count for count, other in zip(whole.nvlinks[position], up, strict=True) if other is not None)
    return (whole.gpus[position].switch_links or 0) + direct, f"a {name} has them"


def _by_product(machine: Machine, up: Up, position: int) -> Claim:
    """Evidence: a product whose boards always connect all links. A single GPU of such a board in a virtual machine has no link up."""
    gpu, known = machine.gpus[position], facts(machine.gpus[position].product)
    if known is None or known.board_nvlinks is None or gpu.dead_links == 0:
        return NO_CLAIM
    alone = sum(links is not None for links in up) < 2
    return NO_CLAIM if alone and not up[position] else (known.board_nvlinks, f"every board with {gpu.product} connects them")


def _by_peers(machine: Machine, up: Up, position: int) -> Claim:
    """Evidence: the GPU of the same product with the most links. A card without any bridge is healthy."""
    gpu = machine.gpus[position]
    if None in up or not gpu.dead_links or gpu.product is None or (not up[position] and "SXM" not in normalise(gpu.product)):
        return NO_CLAIM
    peers = [(links or 0, other.index) for links, other in zip(up, machine.gpus, strict=True) if other.product == gpu.product]
    most, index = max(peers)
    return most, f"GPU {index} has them"


def _by_other_end(machine: Machine, links: int, position: int) -> Claim:
    """Evidence: links that the other GPU reports as up."""
    one_sided = machine.gpus[position].one_sided_links or 0
    return links + one_sided, "their other end is up"
