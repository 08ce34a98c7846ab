"""Best and worst sets, what remains, and one table per machine shape."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import machines
from topology.bandwidth.all_reduce import all_reduce
from topology.machine.hardware import Gpu, Machine, PciePath, mask_of
from topology.placement.set_table import DEFAULT_SIZE_MIX
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of, platforms


def sixteen() -> Machine:
    """Sixteen GPUs, four PCIe switches over two sockets."""

    def path(i: int, j: int) -> PciePath | None:
        if i == j:
            return None
        return PciePath.PIX if i // 4 == j // 4 else PciePath.NODE if i // 8 == j // 8 else PciePath.SYS

    gpus = tuple(Gpu(index=i, numa_node=i // 8) for i in range(16))
    paths = tuple(tuple(path(i, j) for j in range(16)) for i in range(16))
    return Machine(gpus, (), paths, tuple((0,) * 16 for _ in range(16)))


@given(machines(most=5), st.data())
def test_extremes_are_exact(machine: Machine, data: st.DataObject) -> None:
    table = table_for(machine)
    free = data.draw(st.integers(3, (1 << table.size) - 1))
    members = tuple(i for i in range(table.size) if free >> i & 1)
    size = data.draw(st.integers(1, len(members)))
    found = table.extremes(free, size)
    assert found is not None
    speeds = [all_reduce(table.fabric, part) for part in combinations(members, size)]
    known = [speed.busbw_gbps for speed in speeds if speed]
    assert found[0].busbw_gbps == max(known, default=None)
    assert found[1].busbw_gbps == min(known, default=None)


@pytest.mark.parametrize("size", [2, 3])
def test_sixteen_gpus_are_exact_too(size: int) -> None:
    table = table_for(sixteen())
    found = table.extremes((1 << 16) - 1, size)
    speeds = [all_reduce(table.fabric, part) for part in combinations(range(16), size)]
    assert found is not None
    assert found[0].busbw_gbps == pytest.approx(max(speed.busbw_gbps for speed in speeds if speed))
    assert found[1].busbw_gbps == pytest.approx(min(speed.busbw_gbps for speed in speeds if speed))


def test_what_does_not_fit_is_none() -> None:
    assert table_for(machine_of("t4")).extremes(0b0001, 2) is None
    assert table_for(machine_of("t4")).extremes(0b1111, 0) is None


def test_identical_nodes_share_one_table_whatever_their_uuids() -> None:
    assert table_for(machine_of("dgx-1v", "a")) is table_for(machine_of("dgx-1v", "b"))
    assert table_for(machine_of("dgx-1v")) is not table_for(replace(machine_of("dgx-1v"), cpu_model="AMD EPYC Rome"))


@pytest.mark.parametrize("platform", list(platforms()))
def test_every_platform_has_a_best_set_of_every_size(platform: str) -> None:
    table = table_for(machine_of(platform))
    whole = (1 << table.size) - 1
    for size in range(2, table.size + 1):
        found = table.extremes(whole, size)
        assert found is not None
        assert (found[0].busbw_gbps or 0) >= (found[1].busbw_gbps or 0) > 0


@given(machines(most=5), st.data())
def test_freeing_a_gpu_never_lowers_the_best_set(machine: Machine, data: st.DataObject) -> None:
    table = table_for(machine)
    whole = (1 << table.size) - 1
    free = data.draw(st.integers(0, whole - 1))
    freed = free | 1 << data.draw(st.sampled_from([i for i in range(table.size) if not free >> i & 1]))
    for size in (2, 3, 4):
        before, after = table.extremes(free, size), table.extremes(freed, size)
        if before is not None:
            assert after is not None
            assert (after[0].busbw_gbps or 0) >= (before[0].busbw_gbps or 0)


def test_breaking_a_bridged_pair_costs_more_than_using_a_half() -> None:
    table = table_for(machine_of("a100-pcie-bridge-pairs"))
    free = mask_of((0, 1, 2))
    left = {gpu: table.capability(free & ~(1 << gpu), DEFAULT_SIZE_MIX) for gpu in (0, 2)}
    assert left[2] > left[0]


def test_a_broken_board_is_the_cheaper_place_for_one_gpu() -> None:
    table = table_for(machine_of("hgx-h100"))

    def loss(free: int) -> float:
        return table.capability(free, DEFAULT_SIZE_MIX) - table.capability(free & (free - 1), DEFAULT_SIZE_MIX)

    assert loss(0b111) < loss(0xFF)


def test_four_free_are_the_cheaper_place_for_four() -> None:
    table = table_for(machine_of("hgx-h100"))
    exact = table.capability(0b1111, DEFAULT_SIZE_MIX)
    from_whole = table.capability(0xFF, DEFAULT_SIZE_MIX) - table.capability(0xF0, DEFAULT_SIZE_MIX)
    assert exact < from_whole


def test_nothing_free_is_worth_nothing() -> None:
    assert table_for(machine_of("hgx-h100")).capability(0, DEFAULT_SIZE_MIX) == 0


def test_a_large_machine_without_symmetry_is_answered_from_grown_sets() -> None:
    """Twelve GPUs, no two alike (each has lanes of its own width): far too many kinds of set to try them all."""
    paths = tuple(tuple(None if i == j else PciePath.NODE if i // 6 == j // 6 else PciePath.SYS for j in range(12)) for i in range(12))
    gpus = tuple(Gpu(index=i, numa_node=i // 6, pcie_generation=4, pcie_width=i + 4) for i in range(12))
    machine = Machine(gpus, (), paths, tuple((0,) * 12 for _ in range(12)), "AMD EPYC", True)
    table = table_for(machine)
    for size in (2, 5, 12):
        found = table.extremes((1 << 12) - 1, size)
        assert found is not None
        assert all(place.mask.bit_count() == size for place in found)
        assert (found[0].busbw_gbps or 0) >= (found[1].busbw_gbps or 0)
    pair = table.extremes((1 << 12) - 1, 2)
    assert pair is not None
    assert pair[0].busbw_gbps == 20.0, "fourteen lanes of generation 4, of which NCCL makes one channel"
    assert pair[1].busbw_gbps == 6.0, "four lanes"
    assert table.capability((1 << 12) - 1, DEFAULT_SIZE_MIX) > 0
    table.warm()
