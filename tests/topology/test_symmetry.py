"""What is alike: GPUs, sets, machines."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations

import pytest

from tests.machines import relabelled
from topology.bandwidth.fabric import build_fabric
from topology.machine.hardware import with_gpus
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of, platforms
from topology.symmetry import canonical_order, fingerprint, interchangeable_gpus, pair_signatures_of, renumber

# Two triangles against a ring of six: the classic pair that plain colour refinement takes for one graph.
TRIANGLES = {(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)}
HEXAGON = {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5)}


def square(edges: set[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(9 if a == b else int((min(a, b), max(a, b)) in edges) for b in range(6)) for a in range(6))


def test_a_fingerprint_tells_triangles_from_a_ring() -> None:
    assert fingerprint(square(TRIANGLES), tuple(range(6))) != fingerprint(square(HEXAGON), tuple(range(6)))
    assert fingerprint(square(HEXAGON), (0, 1, 2)) == fingerprint(square(HEXAGON), (3, 4, 5))


def test_twins() -> None:
    assert interchangeable_gpus(pair_signatures_of(build_fabric(machine_of("rtx4090"))).matrix) == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert interchangeable_gpus(pair_signatures_of(build_fabric(machine_of("a100-pcie-bridge-pairs"))).matrix) == (
        (0, 1),
        (2, 3),
        (4, 5),
        (6, 7),
    )
    assert len(interchangeable_gpus(pair_signatures_of(build_fabric(machine_of("dgx-1v"))).matrix)) == 8


@pytest.mark.parametrize("platform", list(platforms()))
def test_renumbered_machines_have_one_canonical_form_and_one_table(platform: str) -> None:
    machine = machine_of(platform)
    looks = pair_signatures_of(build_fabric(machine))
    form = renumber(looks.matrix, canonical_order(looks.matrix))
    chance = random.Random(platform)
    for _ in range(3):
        order = chance.sample(range(len(machine.gpus)), len(machine.gpus))
        other = relabelled(machine, order)
        theirs = pair_signatures_of(build_fabric(other))
        assert theirs.vocabulary == looks.vocabulary
        assert renumber(theirs.matrix, canonical_order(theirs.matrix)) == form
        assert table_for(other).sets is table_for(machine).sets


def test_machines_that_differ_share_nothing() -> None:
    machine = machine_of("l40s")
    assert table_for(replace(machine, cpu_model="Intel Sapphire Rapids")).sets is not table_for(machine).sets
    assert table_for(with_gpus(machine, pcie_generation=3)).sets is not table_for(machine).sets


def test_a_renumbered_dgx1_answers_in_its_own_numbers() -> None:
    machine = machine_of("dgx-1v")
    order = [3, 1, 4, 0, 5, 7, 2, 6]
    ours, theirs = table_for(machine), table_for(relabelled(machine, order))
    for size in (2, 4, 5):
        for part in combinations(range(8), size):
            there = sum(1 << new for new, old in enumerate(order) if old in part)
            assert theirs.busbw_gbps(there) == ours.busbw_gbps(sum(1 << p for p in part))
