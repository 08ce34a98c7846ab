"""Which GPUs a pod will really get: NVIDIA's policy, and the distribution the kubelet makes of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import machines
from topology.bandwidth.fabric import build_fabric
from topology.devices.numa_alignment import TopologyManager
from topology.devices.prediction import DevicePlugin, Kubelet, Prediction, best_effort, pair_scores, partition_count
from topology.machine.hardware import Machine, PciePath, mask_of, positions_of
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of


def distribution(platform: str, free: int, *steps: tuple[int, bool]) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], float] = {}
    for outcome in table_for(machine_of(platform)).predictor.predict(free, tuple(steps)).outcomes:
        taken = positions_of(outcome.taken)
        found[taken] = found.get(taken, 0.0) + outcome.probability
    return found


FLAT = [[0 if i == j else 10 for j in range(8)] for i in range(8)]

# (score, available, required, size, result), each a consequence of the policy's rules.
POLICY = {
    "size one is the first in input order": (FLAT, [5, 2, 7], [], 1, [5]),
    "all of it is returned as it came": (FLAT, [3, 1, 2], [], 3, [3, 1, 2]),
    "too few": (FLAT, [3, 1], [], 3, []),
    "required but not available": (FLAT, [3, 1], [2], 1, []),
    "more required than asked for": (FLAT, [3, 1, 2], [1, 2], 1, []),
    "ties go to the first enumerated": (FLAT, [2, 0, 1, 3], [], 2, [2, 0]),
    "a required device picks its set of the winning partition": (FLAT, [0, 1, 2, 3], [3], 2, [2, 3]),
}


@pytest.mark.parametrize("case", POLICY)
def test_policy(case: str) -> None:
    score, available, required, size, result = POLICY[case]
    assert best_effort(score, available, required, size) == result


# Source: measured on a real kubelet with NVIDIA's plugin, 20,000 draws.
def test_hgx_pairs_are_eight_adjacent_ones() -> None:
    found = distribution("hgx-h100", 255, (2, False))
    assert set(found.values()) == {0.125}
    assert all(a // 4 == b // 4 for a, b in found)


def test_hgx_fours_are_one_socket_or_the_other() -> None:
    assert distribution("hgx-h100", 255, (4, False)) == {(0, 1, 2, 3): 0.5, (4, 5, 6, 7): 0.5}


def test_dgx1_pairs() -> None:
    expected = {(0, 3): 0.25, (4, 7): 0.25, (1, 2): 0.125, (2, 3): 0.125, (5, 6): 0.125, (6, 7): 0.125}
    assert distribution("dgx-1v", 255, (2, False)) == expected


def test_bridged_pairs_are_chosen() -> None:
    assert set(distribution("a100-pcie-bridge-pairs", 255, (2, False))) == {(0, 1), (2, 3), (4, 5), (6, 7)}


def test_a_state_that_can_crash_the_plugin_is_a_hazard() -> None:
    """Four bridged pairs whose other links are all alike. Source: the real policy over the same states, 32 of 92."""
    pairs = machine_of("a100-pcie-bridge-pairs")
    alike = tuple(tuple(None if i == j else PciePath.SYS for j in range(8)) for i in range(8))
    table = table_for(replace(pairs, pcie_paths=alike))
    states = [mask_of(part) for count in (5, 6, 7) for part in combinations(range(8), count)]
    hazards = [state for state in states if table.predictor.predict(state, ((3, False),)).hazard]
    assert (len(hazards), len(states)) == (32, 92)
    assert not table.predictor.predict(255, ((4, False),)).hazard


def test_containers_are_served_in_order_from_what_is_left() -> None:
    found = distribution("hgx-h100", 255, (4, False), (4, False))
    assert found == {tuple(range(8)): 1.0}


def test_an_init_containers_devices_are_reused() -> None:
    prediction = table_for(machine_of("hgx-h100")).predictor.predict(255, ((4, True), (2, False)))
    for outcome in prediction.outcomes:
        assert outcome.taken.bit_count() == 4, "they stay with the pod"
        assert outcome.group_masks[0] & ~outcome.taken == 0


def test_an_init_container_smaller_than_its_successor_is_added_to() -> None:
    prediction = table_for(machine_of("hgx-h100")).predictor.predict(255, ((1, True), (4, False)))
    assert {outcome.taken.bit_count() for outcome in prediction.outcomes} == {4}


def test_nvswitch_is_invisible_to_the_plugin() -> None:
    machine = machine_of("hgx-h100")
    assert max(map(max, pair_scores(machine, build_fabric(machine)))) < 100


@pytest.mark.parametrize(("available", "size", "count"), [(8, 2, 105), (8, 4, 35), (4, 2, 3), (16, 2, 2027025)])
def test_partition_count(available: int, size: int, count: int) -> None:
    assert partition_count(available, size) == count


def test_sixteen_gpus_are_answered_approximately_and_say_so() -> None:
    prediction = table_for(machine_of("dgx-2")).predictor.predict((1 << 16) - 1, ((3, False),))
    assert prediction.approximate
    check(prediction, (1 << 16) - 1, 3)


@given(machines(), st.data())
def test_every_prediction_is_a_distribution_over_free_sets(machine: object, data: st.DataObject) -> None:
    table = table_for(machine)  # type: ignore[arg-type]
    free = data.draw(st.integers(1, (1 << table.size) - 1))
    size = data.draw(st.integers(1, free.bit_count()))
    check(table.predictor.predict(free, ((size, False),)), free, size)


def check(prediction: Prediction, free: int, size: int) -> None:
    assert sum(outcome.probability for outcome in prediction.outcomes) == pytest.approx(1.0)
    for outcome in prediction.outcomes:
        assert outcome.taken & ~free == 0
        assert outcome.taken.bit_count() == size


def test_what_does_not_fit_has_no_outcome() -> None:
    assert table_for(machine_of("t4")).predictor.predict(0b11, ((3, False),)).outcomes == ()


def predicted(platform: str, free: int, *steps: tuple[int, bool], kubelet: Kubelet) -> Prediction:
    return table_for(machine_of(platform)).predictor.predict(free, tuple(steps), kubelet)


def aligned(policy: TopologyManager) -> Kubelet:
    return Kubelet(policy)


def test_alignment_keeps_a_pod_on_one_socket() -> None:
    for outcome in predicted("hgx-h100", 255, (3, False), kubelet=aligned(TopologyManager.BEST_EFFORT)).outcomes:
        assert outcome.taken & 0xF0 == 0, "the lowest NUMA node that has enough"


def test_alignment_that_takes_all_of_a_socket_asks_no_plugin() -> None:
    found = predicted("hgx-h100", 0b1111_0011, (4, False), kubelet=aligned(TopologyManager.RESTRICTED))
    assert [outcome.taken for outcome in found.outcomes] == [0b1111_0000]
    assert found.rejected == 0


def test_the_rest_is_chosen_with_what_was_aligned() -> None:
    """Six of eight: neither socket has them, so all aligned to both are on offer; of five free plus three, see the mask."""
    found = predicted("hgx-h100", 0b0011_1111, (5, False), kubelet=aligned(TopologyManager.BEST_EFFORT))
    assert all(outcome.taken.bit_count() == 5 and outcome.taken & ~0b0011_1111 == 0 for outcome in found.outcomes)


@pytest.mark.parametrize("policy", [TopologyManager.RESTRICTED, TopologyManager.SINGLE_NUMA_NODE])
def test_a_pod_that_cannot_be_aligned_is_rejected(policy: TopologyManager) -> None:
    found = predicted("hgx-h100", 0b0011_0011, (4, False), kubelet=aligned(policy))
    assert (found.outcomes, found.rejected) == ((), 1.0)


def test_a_second_container_can_be_what_is_rejected() -> None:
    found = predicted("hgx-h100", 255, (2, False), (4, False), (2, False), kubelet=aligned(TopologyManager.SINGLE_NUMA_NODE))
    assert found.rejected == 0.0
    assert {outcome.group_masks[1] for outcome in found.outcomes} == {0xF0}


def test_an_unknown_plugin_hands_out_anything() -> None:
    found = predicted("a100-pcie-bridge-pairs", 0b1111, (2, False), kubelet=Kubelet(device_plugin=DevicePlugin.UNIFORM))
    assert {outcome.taken for outcome in found.outcomes} == {mask_of(part) for part in combinations(range(4), 2)}
    assert {round(outcome.probability, 9) for outcome in found.outcomes} == {round(1 / 6, 9)}


def test_mig_mode_switches_best_effort_off() -> None:
    machine = machine_of("a100-pcie-bridge-pairs")
    split = replace(machine, gpus=(replace(machine.gpus[0], mig_enabled=True), *machine.gpus[1:]))
    found = table_for(split).predictor.predict(0b1111, ((2, False),))
    assert len(found.outcomes) == 6, "links are not looked at"


def test_the_plugin_must_include_what_is_reused() -> None:
    """An init container's pair, then four: the plugin completes the pair as it would have with it required."""
    prediction = table_for(machine_of("a100-pcie-bridge-pairs")).predictor.predict(255, ((2, True), (4, False)))
    assert not prediction.approximate
    for outcome in prediction.outcomes:
        assert outcome.taken in (0x0F, 0xF0), "two bridged pairs of one socket"


@pytest.mark.parametrize("size", range(1, 17))
def test_sixteen_gpus_answer_for_every_size(size: int) -> None:
    whole = (1 << 16) - 1
    check(table_for(machine_of("dgx-2")).predictor.predict(whole, ((size, False),)), whole, size)


@given(machines(), st.sampled_from(list(TopologyManager)), st.data())
def test_aligned_predictions_are_distributions_or_rejections(machine: Machine, policy: TopologyManager, data: st.DataObject) -> None:
    table = table_for(machine)
    free = data.draw(st.integers(1, (1 << table.size) - 1))
    size = data.draw(st.integers(1, free.bit_count()))
    found = table.predictor.predict(free, ((size, False),), Kubelet(policy))
    assert bool(found.outcomes) != (found.rejected == 1.0)
    if found.outcomes:
        check(found, free, size)
