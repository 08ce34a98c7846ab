"""Which NVLinks that are not up are a fault, and which are as the machine was built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.machine.hardware import Gpu, Machine, with_gpus
from topology.machine.products import facts
from topology.nvlink_faults import generation_contradictions, link_faults
from topology.platforms import machine_of, platforms

A100_PCIE, A100_SXM, V100, H100, H100_NVL, A6000 = (
    "NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-40GB", "Tesla V100-SXM2-16GB", "NVIDIA H100 80GB HBM3", "NVIDIA H100 NVL",
    "NVIDIA RTX A6000",
)  # fmt: skip


Links = dict[tuple[int, int], int]


def machine(product: str, links: Links, to_switch: Sequence[int], total: int, one_sided: Sequence[int] = ()) -> Machine:
    """GPUs of a product with `total` links each: direct `links` per pair, `to_switch` per GPU; the rest is not up."""
    known, count = facts(product), len(to_switch)
    rows = tuple(tuple(links.get((min(i, j), max(i, j)), 0) if i != j else 0 for j in range(count)) for i in range(count))
    gpus = tuple(
        Gpu(
            i,
            product=product,
            nvlink_generation=known.nvlink_generation if known else None,
            switch_links=switch,
            dead_links=total - switch - sum(rows[i]),
            one_sided_links=one_sided[i] if one_sided else 0,
        )
        for i, switch in enumerate(to_switch)
    )
    return Machine(gpus, (), tuple((None,) * count for _ in range(count)), rows)


def pairs(count: int, each: int) -> dict[tuple[int, int], int]:
    return {(i, j): each for i in range(count) for j in range(i + 1, count)}


P3_8XLARGE = {(0, 1): 1, (0, 2): 1, (0, 3): 2, (1, 2): 2, (1, 3): 1, (2, 3): 1}

HEALTHY: dict[str, Machine] = {
    "one A100 PCIe without a bridge": machine(A100_PCIE, {}, [0], 12),
    "four A100 PCIe without bridges": machine(A100_PCIE, {}, [0] * 4, 12),
    "four A100 PCIe, one pair bridged": machine(A100_PCIE, {(0, 1): 12}, [0] * 4, 12),
    "two H100 NVL, whose bridges use 12 of 18 links": machine(H100_NVL, {(0, 1): 12}, [0] * 2, 18),
    "two bridged RTX A6000": machine(A6000, {(0, 1): 4}, [0] * 2, 4),
    "one H100 SXM of eight in a virtual machine": machine(H100, {}, [0], 18),
    "two H100 SXM of eight in a virtual machine": machine(H100, {}, [18] * 2, 18),
    "four H100 SXM joined directly": machine(H100, pairs(4, 6), [0] * 4, 18),
    "four A100 SXM joined directly": machine(A100_SXM, pairs(4, 4), [0] * 4, 12),
    "four V100 SXM2 of eight in a virtual machine, links to the other four unused": machine(V100, P3_8XLARGE, [0] * 4, 6),
    "one V100 SXM2 of eight in a virtual machine": machine(V100, {}, [0], 6),
    "one GH200": machine("NVIDIA GH200 480GB", {}, [0], 18),
    "an unknown product": machine("NVIDIA X900", {}, [0] * 2, 36),
    "GPUs in MIG mode": with_gpus(machine(A100_SXM, {}, [0] * 8, 12), mig_enabled=True),
    "no GPU": Machine(()),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_unused_links_of_a_healthy_machine_are_no_fault(case: str) -> None:
    assert link_faults(HEALTHY[case]) == ()


@pytest.mark.parametrize("platform", list(platforms()))
def test_no_bundled_platform_has_a_fault(platform: str) -> None:
    assert link_faults(machine_of(platform)) == ()
    assert generation_contradictions(machine_of(platform)) == ()


def without_links(name: str, *broken: tuple[int, int]) -> Machine:
    """A platform with one link less per pair named."""
    whole = machine_of(name)
    rows = [list(row) for row in whole.nvlinks]
    dead = [0] * len(rows)
    for a, b in broken:
        rows[a][b], rows[b][a] = rows[a][b] - 1, rows[b][a] - 1
        dead[a], dead[b] = dead[a] + 1, dead[b] + 1
    gpus = tuple(replace(gpu, dead_links=count) for gpu, count in zip(whole.gpus, dead, strict=True))
    return replace(whole, gpus=gpus, nvlinks=tuple(map(tuple, rows)))


# name -> (machine, (index, links up, links expected) per fault, words of the witness)
FAULTY: dict[str, tuple[Machine, list[tuple[int, int, int]], str]] = {
    "DGX-1V, a link between 0 and 3": (without_links("dgx-1v", (0, 3)), [(0, 5, 6), (3, 5, 6)], "a dgx-1v has them"),
    "eight H100 SXM without fabric manager": (machine(H100, {}, [0] * 8, 18), [(i, 0, 18) for i in range(8)], "a hgx-h100 has them"),
    "six H100 SXM, one with 17": (machine(H100, {}, [18] * 5 + [17], 18), [(5, 17, 18)], "every board with NVIDIA H100"),
    "one H100 SXM with 17": (machine(H100, {}, [17], 18), [(0, 17, 18)], "every board with NVIDIA H100"),
    "four A100 SXM, three links of a pair": (
        machine(A100_SXM, pairs(4, 4) | {(1, 2): 3}, [0] * 4, 12), [(1, 11, 12), (2, 11, 12)], "every board with NVIDIA A100-SXM4"
    ),
    "four V100 SXM2, a link between 0 and 1": (
        machine(V100, pairs(4, 2) | {(0, 1): 1}, [0] * 4, 6), [(0, 5, 6), (1, 5, 6)], "GPU 3 has them"
    ),
    "four V100 SXM2, one without links": (machine(V100, pairs(3, 2), [0] * 4, 6), [(3, 0, 4)], "GPU 2 has them"),
    "four A100 PCIe, a loose bridge": (
        machine(A100_PCIE, {(0, 1): 12, (2, 3): 8}, [0] * 4, 12), [(2, 8, 12), (3, 8, 12)], "GPU 1 has them"
    ),
    "two A100 PCIe, one end of four links down": (
        machine(A100_PCIE, {(0, 1): 8}, [0] * 2, 12, [4, 0]), [(0, 8, 12)], "their other end is up"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTY)
def test_links_that_should_be_up_are_a_fault_with_its_witness(case: str) -> None:
    broken, wanted, words = FAULTY[case]
    found = link_faults(broken)
    assert [(fault.index, fault.up, fault.expected) for fault in found] == wanted
    assert all(words in fault.witness for fault in found)


def test_a_lost_gpu_is_no_link_fault_of_its_neighbours() -> None:
    whole = without_links("dgx-1v", *[(3, other) for other, count in enumerate(machine_of("dgx-1v").nvlinks[3]) for _ in range(count)])
    lost = replace(whole.gpus[3], product=None, switch_links=None, dead_links=None)
    assert link_faults(replace(whole, gpus=(*whole.gpus[:3], lost, *whole.gpus[4:]))) == ()


def test_a_lost_first_gpu_hides_no_fault_of_another() -> None:
    whole = without_links("dgx-1v", (4, 5))
    rows = tuple(tuple(0 if 0 in (i, j) else count for j, count in enumerate(row)) for i, row in enumerate(whole.nvlinks))
    lost = replace(whole.gpus[0], product=None, switch_links=None, dead_links=None)
    broken = replace(whole, gpus=(lost, *whole.gpus[1:]), nvlinks=rows)
    assert [fault.index for fault in link_faults(broken)] == [4, 5]


@given(st.lists(st.integers(0, 18), min_size=1, max_size=8))
def test_a_fault_is_said_only_of_gpus_with_links_that_are_not_up(up: list[int]) -> None:
    found = {fault.index for fault in link_faults(machine(H100, {}, up, 18))}
    assert found <= {index for index, links in enumerate(up) if links < 18}
    if len(up) > 1:
        assert found == {index for index, links in enumerate(up) if links < 18}


def test_a_generation_that_contradicts_the_product_is_named_per_gpu() -> None:
    whole = machine_of("hgx-h100")
    mixed = replace(whole, gpus=(replace(whole.gpus[0], nvlink_generation=3), *whole.gpus[1:]))
    (sentence,) = generation_contradictions(mixed)
    assert sentence == "GPU 0: NVLink generation 3 by the driver, but NVIDIA H100 80GB HBM3 has generation 4"


@pytest.mark.parametrize("product", [None, "NVIDIA X900", "NVIDIA L40S"])
def test_a_product_without_a_known_generation_contradicts_nothing(product: str | None) -> None:
    gpu = Gpu(0, product=product, nvlink_generation=6)
    assert generation_contradictions(Machine((gpu,), (), ((None,),), ((0,),))) == ()


# product name -> links that every board with it connects
BOARDS = {
    "NVIDIA H100 80GB HBM3": 18, "NVIDIA-H100-80GB-HBM3": 18, "NVIDIA H200": 18, "NVIDIA H20": 18, "NVIDIA H800": 8, "NVIDIA B200": 18,
    "NVIDIA GB200": 18, "NVIDIA A100-SXM4-80GB": 12, "NVIDIA A800-SXM4-80GB": 8, "Tesla V100-SXM3-32GB": 6, "Tesla V100-SXM2-32GB": None,
    "NVIDIA H100 PCIe": None, "NVIDIA H100 NVL": None, "NVIDIA H200 NVL": None, "NVIDIA H800 PCIe": None, "NVIDIA GH200 480GB": None,
    "NVIDIA A100 80GB PCIe": None, "NVIDIA A100-PCIE-40GB": None, "NVIDIA A30": None, "Tesla P100-SXM2-16GB": None, "NVIDIA L40S": None,
}  # fmt: skip


@pytest.mark.parametrize("product", BOARDS)
def test_links_that_every_board_of_a_product_connects(product: str) -> None:
    known = facts(product)
    assert known is not None
    assert known.board_nvlinks == BOARDS[product]
