"""What product names tell, however they are spelt."""

from __future__ import annotations

import pytest

from topology.machine.products import always_linked, facts, never_switched, normalise, same_product
from topology.platforms import platforms

# name -> (NVLink generation, NVLinks, PCIe generation, peer-to-peer). Source: NVIDIA data sheets.
KNOWN = {
    "NVIDIA H100 80GB HBM3": (4, 18, 5, True),
    "NVIDIA-H100-80GB-HBM3-SHARED": (4, 18, 5, True),
    "NVIDIA H100 PCIe": (4, 18, 5, True),
    "NVIDIA H200": (4, 18, 5, True),
    "NVIDIA H20": (4, 18, 5, True),
    "NVIDIA GB200": (5, 18, 5, True),
    "NVIDIA B200": (5, 18, 5, True),
    "NVIDIA A100-SXM4-40GB": (3, 12, 4, True),
    "NVIDIA A100 80GB PCIe": (3, 12, 4, True),
    "NVIDIA A30": (3, 12, 4, True),
    "NVIDIA A40": (3, 4, 4, True),
    "NVIDIA RTX A6000": (3, 4, 4, True),
    "NVIDIA GeForce RTX 3090": (3, 4, 4, True),
    "NVIDIA GeForce RTX 4090": (None, 0, 4, False),
    "NVIDIA L40S": (None, 0, 4, True),
    "NVIDIA L4": (None, 0, 4, True),
    "NVIDIA A10": (None, 0, 4, True),
    "NVIDIA A10G": (None, 0, 4, True),
    "NVIDIA RTX 6000 Ada Generation": (None, 0, 4, True),
    "Tesla T4": (None, 0, 3, True),
    "Tesla V100-SXM2-16GB-N": (2, 6, 3, True),
    "Tesla P100-SXM2-16GB": (1, 4, 3, True),
    "Tesla K80": (None, 0, 3, True),
    "NVIDIA GeForce GTX 1080 Ti": (None, 0, 3, True),
}


@pytest.mark.parametrize("name", KNOWN)
def test_product_name_gives_its_nvlinks_and_pcie(name: str) -> None:
    known = facts(name)
    assert known is not None
    assert (known.nvlink_generation, known.nvlinks, known.pcie_generation, known.peer_to_peer) == KNOWN[name]


# name -> (always joined by NVLink, never joined through NVSwitches)
JOINED = {
    "NVIDIA H100 80GB HBM3": (True, False),
    "NVIDIA H100 PCIe": (False, True),
    "NVIDIA H100 NVL": (False, True),
    "H100": (False, False),
    "NVIDIA H800": (True, False),
    "NVIDIA H200": (True, False),
    "NVIDIA H20": (True, False),
    "NVIDIA GH200 480GB": (False, False),
    "NVIDIA B200": (True, False),
    "NVIDIA A100-SXM4-40GB": (True, False),
    "NVIDIA A100 80GB PCIe": (False, True),
    "A100": (False, False),
    "NVIDIA A30": (False, True),
    "NVIDIA A40": (False, True),
    "NVIDIA RTX 6000 Ada Generation": (False, False),
    "Tesla V100-SXM2-32GB": (True, False),
    "Tesla V100-PCIE-32GB": (False, False),
    "Tesla P100-SXM2-16GB": (True, True),
    "Tesla P100-PCIE-16GB": (False, True),
    "NVIDIA X900-SXM9": (True, False),
    "NVIDIA X900": (False, False),
    None: (False, False),
}


@pytest.mark.parametrize("name", JOINED, ids=str)
def test_product_name_gives_how_boards_join_it(name: str | None) -> None:
    assert (always_linked(name), never_switched(name)) == JOINED[name]


@pytest.mark.parametrize("name", [name for name in (*KNOWN, *JOINED) if name is not None])
def test_product_whose_boards_connect_a_known_number_of_links_is_always_linked(name: str) -> None:
    known = facts(name)
    assert known is None or known.board_nvlinks is None or (known.always_linked and 0 < known.board_nvlinks <= known.nvlinks)


@pytest.mark.parametrize("name", [None, "", "Tensor Processing Unit", "AMD Instinct MI300X"])
def test_unknown_product_has_no_facts(name: str | None) -> None:
    assert facts(name) is None


@pytest.mark.parametrize("platform", list(platforms()))
def test_every_bundled_platform_is_a_known_product(platform: str) -> None:
    assert facts(platforms()[platform].product) is not None


ALIKE = [
    ("Tesla-T4", "Tesla T4"),
    ("NVIDIA-H100-80GB-HBM3", "NVIDIA H100 80GB HBM3"),
    ("Tesla-V100-SXM2-16GB-N", "Tesla V100-SXM2-16GB"),
    ("A100-PCIE-80GB", "NVIDIA A100 80GB PCIe"),
    ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "NVIDIA A100-SXM4-40GB"),
    ("H100", "NVIDIA-H100-80GB-HBM3"),
    ("Tesla-T4-SHARED", "Tesla T4"),
]
DIFFERENT = [("Tesla-T4", "NVIDIA L4"), ("NVIDIA-A100-SXM4-40GB", "NVIDIA A100 80GB PCIe"), ("NVIDIA H200", "NVIDIA H20")]


@pytest.mark.parametrize(("a", "b"), ALIKE)
def test_two_spellings_of_one_product_are_the_same_product(a: str, b: str) -> None:
    assert same_product(a, b)
    assert same_product(b, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_two_products_are_not_the_same(a: str, b: str) -> None:
    assert not same_product(a, b)


def test_normalised_name_has_no_brand_and_no_sharing_suffix() -> None:
    assert normalise("NVIDIA-GeForce-RTX-4090-SHARED") == "RTX4090"
