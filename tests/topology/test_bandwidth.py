"""What links sustain: known figures, and the laws any figure must obey."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import machines, relabelled
from topology import bandwidth
from topology.bandwidth import all_reduce
from topology.fabric import build_fabric, fabric_name, islands
from topology.hardware import Gpu, Machine, PciePath
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
    ("hgx-h100", tuple(range(8)), 360.0),
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


def test_the_best_five_of_a_dgx1_are_not_what_its_best_four_promise() -> None:
    machine = machine_of("dgx-1v")
    best = {k: max(busbw(machine, part) for part in combinations(range(8), k)) for k in (4, 5)}
    assert best[5] < best[4], "bandwidth does not fall or rise with k: it follows the links"


def test_a_single_gpu_has_nothing_to_exchange() -> None:
    assert all_reduce(build_fabric(machine_of("t4")), (2,)) is None


def test_bottlenecks_are_named() -> None:
    found = all_reduce(build_fabric(machine_of("a100-pcie-bridge-pairs")), (0, 1, 4, 5))
    assert found is not None
    assert any("socket link" in wire for wire in found.bottlenecks)


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


@given(machines(), st.randoms(use_true_random=False))
def test_relabelling_changes_nothing(machine: Machine, random: object) -> None:
    order = list(range(len(machine.gpus)))
    random.shuffle(order)  # type: ignore[attr-defined]
    other = relabelled(machine, order)
    for size in range(2, len(order) + 1):
        ours = sorted(busbw(machine, part) for part in combinations(range(len(order)), size))
        theirs = sorted(busbw(other, part) for part in combinations(range(len(order)), size))
        assert ours == pytest.approx(theirs)


@given(machines(), st.data())
def test_widening_a_link_never_lowers_a_set(machine: Machine, data: st.DataObject) -> None:
    count = len(machine.gpus)
    linked = [pair for pair in combinations(range(count), 2) if machine.nvlinks[pair[0]][pair[1]]]
    if not linked:
        return
    a, b = data.draw(st.sampled_from(linked))
    links = [list(row) for row in machine.nvlinks]
    links[a][b] = links[b][a] = links[a][b] + 2
    wider = replace(machine, nvlinks=tuple(map(tuple, links)))
    for size in range(2, count + 1):
        for part in combinations(range(count), size):
            assert busbw(wider, part) >= busbw(machine, part) - 1e-6


@given(machines())
def test_no_set_exceeds_what_enters_any_of_its_gpus(machine: Machine) -> None:
    fabric = build_fabric(machine)
    whole = tuple(range(fabric.size))
    for member in whole:
        wires = {wire for pair, route in fabric.routes.items() if member in pair for wire, _ in route if _ends_at(wire, member)}
        assert busbw(machine, whole) <= sum(fabric.capacity_gbps[wire] for wire in wires) + 1e-6


def _ends_at(wire: str, member: int) -> bool:
    return wire.endswith(f"GPU {member}") or (wire.startswith("NVLink") and str(member) in wire.removeprefix("NVLink ").split("-"))


@given(machines())
def test_on_pcie_trees_the_drawn_rings_are_the_best_rings(machine: Machine) -> None:
    """The short cut for trees must give what the search over every ring gives."""
    bare = replace(
        machine, nvlinks=tuple((0,) * len(machine.gpus) for _ in machine.gpus), gpus=tuple(replace(g, switch_links=0) for g in machine.gpus)
    )
    fabric, whole = build_fabric(bare), tuple(range(len(bare.gpus)))
    routes = {(i, j): fabric.routes[i, j] for i, j in combinations(whole, 2)}
    every, _ = bandwidth._pack(bandwidth._offer(fabric, bandwidth._every_ring(len(whole)), routes))
    assert busbw(bare, whole) == pytest.approx(2 * every, rel=1e-6)


def test_without_peer_to_peer_packing_behind_one_switch_hurts() -> None:
    machine = machine_of("rtx4090")
    assert busbw(machine, (0, 1, 2, 3)) < busbw(machine, (0, 1, 4, 5))
    assert busbw(replace(machine, peer_to_peer=True), (0, 1, 2, 3)) == pytest.approx(24.0)


def test_pcie_width_and_generation_count() -> None:
    slow = Gpu(index=0, numa_node=0, pcie_generation=3, pcie_width=8)
    paths = ((None, PciePath.NODE), (PciePath.NODE, None))
    machine = Machine((slow, replace(slow, index=1)), (), paths, ((0, 0), (0, 0)), "AMD EPYC", True)
    assert busbw(machine, (0, 1)) == pytest.approx(6.0), "eight lanes of gen3 are half of 12 GB/s"
