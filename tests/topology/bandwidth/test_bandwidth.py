"""What links sustain: known figures, and the laws any figure must obey."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest

from topology.bandwidth.all_reduce import all_reduce
from topology.bandwidth.fabric import assumptions, build_fabric, fabric_name, islands
from topology.machine import constants
from topology.machine.hardware import Gpu, Machine, PciePath
from topology.platforms import machine_of, platforms


def busbw(machine: Machine, members: tuple[int, ...]) -> float:
    found = all_reduce(build_fabric(machine), members)
    assert found is not None
    return found.busbw_gbps


# (platform, set, GB/s). Source: NCCL 2.30.7's own graph search on these machines, ring bandwidth.
NCCL = [
    ("dgx-1v", (0, 1), 20.0),
    ("dgx-1v", (0, 3), 40.0),
    ("dgx-1v", (0, 5), 6.0),
    ("dgx-1v", (0, 1, 4), 20.0),
    ("dgx-1v", (0, 3, 4), 40.0),
    ("dgx-1v", (0, 1, 2, 3), 80.0),
    ("dgx-1v", tuple(range(8)), 120.0),
    ("hgx-h100", (0, 5), 360.0),
    ("hgx-h100", tuple(range(8)), 476.0),
    ("a100-pcie-bridge-pairs", (0, 1), 240.0),
    ("a100-pcie-bridge-pairs", (0, 2), 20.0),
    ("a100-pcie-bridge-pairs", (0, 4), 10.0),
    ("a100-pcie-bridge-pairs", (0, 1, 2), 20.0),
    ("a100-pcie-bridge-pairs", (0, 1, 2, 3), 40.0),
    ("a100-pcie-bridge-pairs", (0, 1, 4, 5), 10.0),
    ("rtx4090", (0, 1), 10.0),
    ("rtx4090", (0, 1, 2, 3), 5.0),
    ("rtx4090", (0, 1, 4, 5), 10.0),
    ("l40s", (0, 1), 24.0),
    ("l40s", (0, 2), 15.0),
    ("l40s", (0, 1, 2, 3), 15.0),
]


@pytest.mark.parametrize(("platform", "members", "gbps"), NCCL)
def test_agrees_with_nccls_search(platform: str, members: tuple[int, ...], gbps: float) -> None:
    assert busbw(machine_of(platform), members) == pytest.approx(gbps, rel=0.07)


# 8x H200 and 8x B200, 8 GiB, first n GPUs. Source: stas00/ml-engineering network/README.md, nccl-tests on real machines.
MEASURED = {
    "hgx-h200": {4: 363.3, 5: 414.2, 6: 435.6, 7: 460.0, 8: 473.1},
    "hgx-b200": {4: 673.2, 5: 677.8, 6: 778.2, 7: 811.2, 8: 838.0},
}


@pytest.mark.parametrize(("platform", "size"), [(p, n) for p, sizes in MEASURED.items() for n in sizes])
def test_switched_boards_as_measured(platform: str, size: int) -> None:
    found = all_reduce(build_fabric(machine_of(platform)), tuple(range(size)))
    assert found is not None
    launch = constants.LAUNCH_SECONDS[found.architecture]
    assert found.busbw(8 << 30, launch) == pytest.approx(MEASURED[platform][size], rel=0.15)


# 8x H200, KiB -> GB/s. Same source.
H200_CURVE = {32: 1.44, 64: 2.93, 128: 5.73, 256: 11.74, 512: 23.94, 1024: 39.93, 2048: 64.53, 4096: 107.16}
H200_CURVE |= {1 << 14: 219.89, 1 << 16: 346.51, 1 << 18: 436.15, 1 << 20: 463.58, 1 << 24: 482.26}


@pytest.mark.parametrize("kib", H200_CURVE)
def test_message_sizes_as_measured(kib: int) -> None:
    found = all_reduce(build_fabric(machine_of("hgx-h200")), tuple(range(8)))
    assert found is not None
    assert found.busbw(kib << 10, constants.LAUNCH_SECONDS[9]) == pytest.approx(H200_CURVE[kib], rel=0.25)


@pytest.mark.parametrize("platform", list(platforms()))
def test_larger_messages_never_get_less_bus_bandwidth(platform: str) -> None:
    found = all_reduce(build_fabric(machine_of(platform)), (0, 1, 2))
    assert found is not None
    speeds = [found.busbw(1 << power) for power in range(10, 34)]
    assert speeds == sorted(speeds)
    assert speeds[-1] <= found.busbw_gbps
    with pytest.raises(ValueError, match="message_bytes must be positive, not 0"):
        found.busbw(0)


def test_small_messages_care_less_about_the_link() -> None:
    """Source: NCCL 2.30.7's model: 240 against 10 GB/s is 20x at 16 MiB and 1.9x at 32 KiB."""
    fabric = build_fabric(machine_of("a100-pcie-bridge-pairs"))
    pair, apart = all_reduce(fabric, (0, 1)), all_reduce(fabric, (0, 4))
    assert pair is not None
    assert apart is not None
    assert pair.busbw(16 << 20) / apart.busbw(16 << 20) == pytest.approx(20, rel=0.05)
    assert pair.busbw(32 << 10) / apart.busbw(32 << 10) == pytest.approx(1.9, rel=0.05)


def test_the_best_five_of_a_dgx1_are_not_what_its_best_four_promise() -> None:
    machine = machine_of("dgx-1v")
    best = {k: max(busbw(machine, part) for part in combinations(range(8), k)) for k in (4, 5)}
    assert best[5] < best[4], "bandwidth does not fall or rise with k: it follows the links"


def test_a_single_gpu_has_nothing_to_exchange() -> None:
    assert all_reduce(build_fabric(machine_of("t4")), (2,)) is None


@pytest.mark.parametrize("platform", list(platforms()))
def test_islands_and_names(platform: str) -> None:
    machine = machine_of(platform)
    parts = islands(machine)
    assert sorted(place for part in parts for place in part) == list(range(len(machine.gpus)))
    assert fabric_name(machine) != ""


def test_the_graph_has_all_vertices_and_gbps() -> None:
    graph = build_fabric(machine_of("dgx-1v")).graph
    kinds = {str(kind) for _, kind in graph.nodes(data="kind")}
    assert kinds == {"gpu", "switch", "socket"}
    assert graph.edges["GPU 0", "GPU 3"] == {"kind": "nvlink", "gbps": 40.0}
    assert "NVSwitch" in build_fabric(machine_of("hgx-h100")).graph


def test_what_is_assumed_is_said() -> None:
    told = machine_of("a100-pcie-bridge-pairs")
    assert assumptions(told, build_fabric(told)) == ()
    bare = replace(told, cpu_model=None, gpus=tuple(Gpu(index=g.index, numa_node=g.numa_node) for g in told.gpus))
    said = " ".join(assumptions(bare, build_fabric(bare)))
    assert all(word in said for word in ("NVLink generation", "PCIe generation", "CPU model", "peer-to-peer"))
    switched = replace(machine_of("hgx-h100"), cpu_model=None)
    assert assumptions(switched, build_fabric(switched)) == (), "no pair crosses the host"


def test_without_peer_to_peer_packing_behind_one_switch_hurts() -> None:
    machine = machine_of("rtx4090")
    assert busbw(machine, (0, 1, 2, 3)) < busbw(machine, (0, 1, 4, 5))
    assert busbw(replace(machine, peer_to_peer=True), (0, 1, 2, 3)) == pytest.approx(24.0)


def test_pcie_width_and_generation_count() -> None:
    slow = Gpu(index=0, numa_node=0, pcie_generation=3, pcie_width=8)
    paths = ((None, PciePath.NODE), (PciePath.NODE, None))
    machine = Machine((slow, replace(slow, index=1)), (), paths, ((0, 0), (0, 0)), "AMD EPYC", True)
    assert busbw(machine, (0, 1)) == pytest.approx(6.0), "eight lanes of gen3 are half of 12 GB/s"
