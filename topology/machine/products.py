"""What a product name alone tells. Names come as NVML ("NVIDIA A100-SXM4-80GB"), as GFD labels
("NVIDIA-A100-SXM4-80GB-SHARED") or as people type them ("a100 sxm"): matched on letters and digits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """Facts of a GPU product; None = the product does not tell."""

    nvlink_generation: int | None
    nvlinks: int
    """NVLinks on the GPU; 0 = it has none."""
    pcie_generation: int
    peer_to_peer: bool | None
    """PCIe peer-to-peer. GeForce drivers since Ada switch it off."""
    nvlink_gbps: float | None = None
    """Per link and direction, where it differs from the generation's usual figure."""
    architecture: int | None = None
    """Major number of the CUDA compute capability: 6 Pascal, 7 Volta and Turing, 8 Ampere and Ada, 9 Hopper, 10 and 12 Blackwell."""
    board_nvlinks: int | None = None
    """NVLinks that every board with this product connects, where it has two or more of them; None = that depends on bridges or on the
    board. V100 and P100 SXM2 depend: a part of a cube mesh, as in AWS p3.8xlarge, and POWER9 servers connect fewer to GPUs."""


# First match wins. Sources: NVIDIA data sheets (links, PCIe; A800 and H800: 400 GB/s, so 8 links); NVIDIA's list of CUDA GPUs
# (compute capability); NCCL 2.30.7 topo.h (GA10x links).
_PRODUCTS: tuple[tuple[str, ProductFacts], ...] = (
    (r"RTXPRO\d*00", ProductFacts(None, 0, 5, True, None, 12)),
    (r"RTX50[5-9]0", ProductFacts(None, 0, 5, False, None, 12)),
    (r"GB[23]00|B[123]00", ProductFacts(5, 18, 5, True, None, 10, 18)),
    (r"H[128]00NVL|H[128]00PCIE|H100$", ProductFacts(4, 18, 5, True, None, 9)),
    (r"GH200", ProductFacts(4, 18, 5, True, None, 9)),
    (r"H800", ProductFacts(4, 18, 5, True, None, 9, 8)),
    (r"H100|H200|H20", ProductFacts(4, 18, 5, True, None, 9, 18)),
    (r"A100SXM", ProductFacts(3, 12, 4, True, None, 8, 12)),
    (r"A800SXM", ProductFacts(3, 12, 4, True, None, 8, 8)),
    (r"A100|A800|A30", ProductFacts(3, 12, 4, True, None, 8)),
    (r"A40$|A6000(?!ADA)|A5500|A5000|A4500|RTX3090", ProductFacts(3, 4, 4, True, 12.0, 8)),
    (r"V100SXM3", ProductFacts(2, 6, 3, True, None, 7, 6)),
    (r"V100", ProductFacts(2, 6, 3, True, None, 7)),
    (r"P100", ProductFacts(1, 4, 3, True, None, 6)),
    (r"RTX40[5-9]0", ProductFacts(None, 0, 4, False, None, 8)),
    (r"L40S?|L4\b|L4$|L20|L2$|A10|A16|A2$|A2\b|RTX6000ADA|6000ADA", ProductFacts(None, 0, 4, True, None, 8)),
    (r"T4$", ProductFacts(None, 0, 3, True, None, 7)),
    (r"T4|P4|P40|K80|M60|K520|GTX10|TITANXP", ProductFacts(None, 0, 3, True)),
    (r"RTX20[678]0|QUADRORTX|TITANRTX", ProductFacts(2, 2, 3, None, None, 7)),
)


def normalise(product: str) -> str:
    """Upper case, letters and digits only, vendor and sharing suffix dropped."""
    name = re.sub(r"[^A-Z0-9]", "", product.upper())
    for word in ("NVIDIA", "TESLA", "GEFORCE"):
        name = name.replace(word, "")
    return re.sub(r"SHARED$", "", name)


def same_product(a: str, b: str) -> bool:
    """Whether two names may speak of one product: "Tesla-T4" and "Tesla T4", "A100-PCIE-80GB" and "NVIDIA A100 80GB PCIe".

    One may say less than the other, in any order; what both say must agree.
    """
    left, right = _words(a), _words(b)
    return left <= right or right <= left


def _words(product: str) -> frozenset[str]:
    words = re.findall(r"[A-Z0-9]+", product.upper())
    return frozenset(re.sub(r"^SXM\d$", "SXM", word) for word in words) - {"NVIDIA", "TESLA", "GEFORCE", "SHARED"}


def facts(product: str | None) -> ProductFacts | None:
    """Facts of a product, or None for one that is not in the table or not known."""
    if not product:
        return None
    name = normalise(product)
    for pattern, found in _PRODUCTS:
        if re.search(pattern, name):
            return found
    return None


_LINKED = re.compile(r"SXM|H100.*HBM3|H200$|H20$|H800$|GB[23]00|B[23]00")
"""Products that are sold only on boards that join them by NVLink. Source: NVIDIA data sheets; names as NVML gives them."""

_SWITCHLESS = re.compile(r"P100|A[18]00.*PCIE|A30|A40$|A6000(?!ADA)|A5500|A5000|A4500|RTX3090|H[128]00NVL|H[128]00PCIE")
"""Products with NVLink that no board joins through NVSwitches: cards with bridges, and P100. Source: NVIDIA data sheets."""


def always_linked(product: str | None) -> bool:
    """Whether two GPUs of this product in one machine must be joined by NVLink: SXM modules and their like are."""
    return product is not None and _LINKED.search(normalise(product)) is not None


def never_switched(product: str | None) -> bool:
    """Whether the NVLinks of a product are known to pass no NVSwitch."""
    return product is not None and _SWITCHLESS.search(normalise(product)) is not None
