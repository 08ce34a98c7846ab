"""Facts that follow from a product name alone.

Names come as NVML reports them ("NVIDIA A100-SXM4-80GB"), as GPU Feature Discovery labels ("NVIDIA-A100-SXM4-80GB-SHARED") or as
people type them ("a100 sxm"). Patterns match letters and digits only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from topology.machine.constants import NVLINK_GA10X_GBPS


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductFacts:
    """Facts that follow from a GPU product; None = it depends on the board or the server."""

    pcie_generation: int
    nvlink_generation: int | None = None
    nvlinks: int = 0
    """NVLinks on the GPU; 0 = it has none."""
    nvlink_gbps: float | None = None
    """GB/s per NVLink and direction, where it differs from the generation's usual figure."""
    board_nvlinks: int | None = None
    """NVLinks that every board with this product connects, where it has two or more of them. V100 and P100 SXM2 have no such number:
    a part of a cube mesh, as in AWS p3.8xlarge, and POWER9 servers connect fewer to GPUs."""
    always_linked: bool = False
    """Whether the product is sold only on boards that join their GPUs by NVLink."""
    never_switched: bool = False
    """Whether no board joins this product through NVSwitches: cards with bridges, and P100."""
    peer_to_peer: bool | None = True
    """Whether PCIe peer-to-peer works. GeForce drivers since Ada switch it off."""
    architecture: int | None = None
    """Major number of the CUDA compute capability: 6 Pascal, 7 Volta and Turing, 8 Ampere and Ada, 9 Hopper, 10 and 12 Blackwell."""


_B100_TO_B300 = ProductFacts(pcie_generation=5, nvlink_generation=5, nvlinks=18, board_nvlinks=18, always_linked=True, architecture=10)
_HOPPER = ProductFacts(pcie_generation=5, nvlink_generation=4, nvlinks=18, architecture=9)
_A100 = ProductFacts(pcie_generation=4, nvlink_generation=3, nvlinks=12, architecture=8)
_GA10X = ProductFacts(pcie_generation=4, nvlink_generation=3, nvlinks=4, nvlink_gbps=NVLINK_GA10X_GBPS, never_switched=True, architecture=8)
_V100 = ProductFacts(pcie_generation=3, nvlink_generation=2, nvlinks=6, architecture=7)
_P100 = ProductFacts(pcie_generation=3, nvlink_generation=1, nvlinks=4, never_switched=True, architecture=6)
_TURING_RTX = ProductFacts(pcie_generation=3, nvlink_generation=2, nvlinks=2, peer_to_peer=None, architecture=7)

_PRODUCTS: tuple[tuple[str, ProductFacts], ...] = (
    (r"RTXPRO\d*00", ProductFacts(pcie_generation=5, architecture=12)),
    (r"RTX50[5-9]0", ProductFacts(pcie_generation=5, peer_to_peer=False, architecture=12)),
    (r"GB[23]00|B[123]00", _B100_TO_B300),
    (r"H[128]00NVL|H[128]00PCIE", replace(_HOPPER, never_switched=True)),
    (r"GH200", _HOPPER),
    (r"H800", replace(_HOPPER, board_nvlinks=8, always_linked=True)),
    (r"H100.*(HBM3|SXM)|H200|H20", replace(_HOPPER, board_nvlinks=18, always_linked=True)),
    (r"H100", _HOPPER),
    (r"A100SXM", replace(_A100, board_nvlinks=12, always_linked=True)),
    (r"A800SXM", replace(_A100, board_nvlinks=8, always_linked=True)),
    (r"A[18]00.*PCIE|A30", replace(_A100, never_switched=True)),
    (r"A100|A800", _A100),
    (r"A40$|A6000(?!ADA)|A5500|A5000|A4500|RTX3090", _GA10X),
    (r"V100SXM3", replace(_V100, board_nvlinks=6, always_linked=True)),
    (r"V100SXM", replace(_V100, always_linked=True)),
    (r"V100", _V100),
    (r"P100SXM", replace(_P100, always_linked=True)),
    (r"P100", _P100),
    (r"RTX40[5-9]0", ProductFacts(pcie_generation=4, peer_to_peer=False, architecture=8)),
    (r"L40S?|L4\b|L4$|L20|L2$|A10|A16|A2$|A2\b|RTX6000ADA|6000ADA", ProductFacts(pcie_generation=4, architecture=8)),
    (r"T4$", ProductFacts(pcie_generation=3, architecture=7)),
    (r"T4|P4|P40|K80|M60|K520|GTX10|TITANXP", ProductFacts(pcie_generation=3)),
    (r"RTX20[678]0|QUADRORTX|TITANRTX", _TURING_RTX),
)
"""Pattern of a normalised name -> facts; the first match counts. Sources: NVIDIA data sheets (links, boards, PCIe; A800 and H800:
400 GB/s, so 8 links); NVIDIA's list of CUDA GPUs (compute capability); NCCL 2.30.7 topo.h (GA10x links)."""


def normalise(product: str) -> str:
    """Return the name in upper case, with letters and digits only, without the vendor, the brand and the sharing suffix."""
    name = re.sub(r"[^A-Z0-9]", "", product.upper())
    for word in ("NVIDIA", "TESLA", "GEFORCE"):
        name = name.replace(word, "")
    return re.sub(r"SHARED$", "", name)


@lru_cache(maxsize=1_024)
def same_product(a: str, b: str) -> bool:
    """Whether two names can mean one product: "Tesla-T4" and "Tesla T4", "A100-PCIE-80GB" and "NVIDIA A100 80GB PCIe".

    All words of one name must be in the other, in any order.
    """
    left, right = _words(a), _words(b)
    return left <= right or right <= left


def _words(product: str) -> frozenset[str]:
    words = re.findall(r"[A-Z0-9]+", product.upper())
    return frozenset(re.sub(r"^SXM\d$", "SXM", word) for word in words) - {"NVIDIA", "TESLA", "GEFORCE", "SHARED"}


def facts(product: str | None) -> ProductFacts | None:
    """Return the facts of a product; None without a product, and for one that is not in the table."""
    if not product:
        return None
    name = normalise(product)
    return next((known for pattern, known in _PRODUCTS if re.search(pattern, name)), None)


def always_linked(product: str | None) -> bool:
    """Whether NVLink must join two GPUs of this product in one machine. SXM modules that are not in the table count as linked."""
    known = facts(product)
    return known.always_linked if known is not None else product is not None and "SXM" in normalise(product)


def never_switched(product: str | None) -> bool:
    """Whether the NVLinks of a product are known to pass no NVSwitch."""
    known = facts(product)
    return known is not None and known.never_switched
