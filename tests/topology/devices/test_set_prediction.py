"""Predictions whose outcomes are merged, and draws of all rotations at once, against their plain definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import machines
from topology.devices.device_plugin import best_effort
from topology.devices.numa_alignment import TopologyManager
from topology.devices.prediction import MOST_OUTCOMES, DevicePlugin, Kubelet, Predictor
from topology.devices.rotated_choices import rotated_choices
from topology.devices.set_prediction import SetPrediction
from topology.machine.hardware import Machine, mask_of, positions_of
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of

UNIFORM = Kubelet(device_plugin=DevicePlugin.UNIFORM)
STEPS = st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=3).map(tuple)


@given(machines(), st.sampled_from(list(TopologyManager)), st.sampled_from(list(DevicePlugin)), STEPS, st.data())
def test_merged_prediction_is_the_distribution_over_taken_sets_and_links(
    machine: Machine, policy: TopologyManager, plugin: DevicePlugin, steps: tuple[tuple[int, bool], ...], data: st.DataObject
) -> None:
    table, kubelet = table_for(machine), Kubelet(policy, plugin)
    free = data.draw(st.integers(1, (1 << table.size) - 1))
    whole, merged = table.predictor.predict(free, steps, kubelet), table.predictor.predict_sets(free, steps, kubelet)
    wanted: Counter[tuple[int, tuple[int, ...]]] = Counter()
    for outcome in whole.outcomes:
        links = tuple(sorted(table.representative(mask) for mask in outcome.group_masks if mask.bit_count() > 1))
        wanted[outcome.taken, links] += outcome.probability  # type: ignore[assignment]
    assert len(whole.outcomes) < MOST_OUTCOMES, "the plain prediction dropped nothing"
    assert merged.sets == pytest.approx(dict(wanted))
    assert (merged.approximate, merged.hazard) == (whole.approximate, whole.hazard)
    assert merged.rejected == pytest.approx(whole.rejected)


@given(machines(), st.data())
def test_representative_of_a_set_has_its_size_and_its_bandwidth(machine: Machine, data: st.DataObject) -> None:
    table = table_for(machine)
    mask = data.draw(st.integers(0, (1 << table.size) - 1))
    representative = table.representative(mask)
    assert representative.bit_count() == mask.bit_count()
    assert table.representative(representative) == representative
    assert table.busbw_gbps(representative) == table.busbw_gbps(mask)


@pytest.mark.parametrize("kubelet", [Kubelet(), UNIFORM], ids=["nvidia", "uniform"])
@pytest.mark.parametrize("count", range(1, 9))
def test_containers_with_one_gpu_each_get_every_set_with_equal_probability(count: int, kubelet: Kubelet) -> None:
    """Four of eight GPUs can be divided in 1,680 ways: more than a prediction keeps, but they are 70 sets."""
    found = table_for(machine_of("dgx-1v")).predictor.predict_sets(255, ((1, False),) * count, kubelet)
    assert not found.approximate
    masks = [mask_of(part) for part in combinations(range(8), count)]
    assert found.sets == pytest.approx({(mask, ()): 1 / len(masks) for mask in masks})


LARGE = [
    # name, kubelet, steps
    ("four GPUs in one container, any set", UNIFORM, ((4, False),)),
    ("one GPU in each of eight containers", Kubelet(), ((1, False),) * 8),
    ("one GPU in each of eight containers, any set", UNIFORM, ((1, False),) * 8),
    ("two GPUs in each of two containers, any set", UNIFORM, ((2, False),) * 2),
    ("two, one and one GPU", Kubelet(), ((2, False), (1, False), (1, False))),
]


@pytest.mark.parametrize(("kubelet", "steps"), [case[1:] for case in LARGE], ids=[case[0] for case in LARGE])
def test_prediction_that_leaves_out_sets_keeps_the_probability_of_every_gpu(kubelet: Kubelet, steps: tuple[tuple[int, bool], ...]) -> None:
    """The sixteen GPUs are equal in these cases, so each is taken with the probability taken/16."""
    found = table_for(machine_of("dgx-2")).predictor.predict_sets((1 << 16) - 1, steps, kubelet)
    assert found.approximate
    assert len(found.sets) <= MOST_OUTCOMES
    share = sum(size for size, _ in steps) / 16
    assert marginals(found, 16) == pytest.approx([share] * 16, abs=0.05)


def marginals(found: SetPrediction, size: int) -> list[float]:
    return [sum(chance for (mask, _), chance in found.sets.items() if mask >> position & 1) for position in range(size)]


@pytest.mark.parametrize("plugin", DevicePlugin)
def test_largest_pods_of_a_large_machine_are_predicted_within_bounds(plugin: DevicePlugin) -> None:
    table = table_for(machine_of("dgx-2"))
    for steps in (((2, False),) * 8, ((4, True), (2, False), (1, False)), ((1, False), (2, False), (2, False))):
        found = table.predictor.predict_sets((1 << 16) - 1, steps, Kubelet(device_plugin=plugin))
        assert 1 <= len(found.sets) <= MOST_OUTCOMES
        assert sum(found.sets.values()) == pytest.approx(1.0)
        assert all(mask.bit_count() == max(4, sum(size for size, init in steps if not init)) for mask, _ in found.sets)


@st.composite
def score_matrices(draw: st.DrawFn, size: int) -> list[list[int]]:
    """Symmetric scores with many ties."""
    matrix = [[0] * size for _ in range(size)]
    for a, b in combinations(range(size), 2):
        matrix[a][b] = matrix[b][a] = draw(st.sampled_from([10, 20, 50, 110]))
    return matrix


@given(st.data())
def test_choices_of_all_rotations_are_those_of_the_policy(data: st.DataObject) -> None:
    matrix = data.draw(score_matrices(8))
    offered = tuple(sorted(data.draw(st.sets(st.integers(0, 7), min_size=3))))
    size = data.draw(st.integers(2, len(offered) - 1))
    required = tuple(sorted(data.draw(st.sets(st.sampled_from(offered), max_size=size - 1))))
    found = rotated_choices(np.pad(np.array(matrix), (0, 1)), offered, required, size)
    assert found == [
        one_choice(best_effort(matrix, offered[shift:] + offered[:shift], required, size), size) for shift in range(len(offered))
    ]


def one_choice(devices: Sequence[int | None], size: int) -> int | None:
    real = [device for device in devices if device is not None]
    return mask_of(real) if len(real) == size else None


@given(st.data())
def test_set_of_nearest_gpus_grows_by_the_best_score_and_then_by_the_next_position(data: st.DataObject) -> None:
    matrix = data.draw(score_matrices(12))
    offered = tuple(sorted(data.draw(st.sets(st.integers(0, 11), min_size=10))))
    size = data.draw(st.integers(2, 4))
    required = tuple(sorted(data.draw(st.sets(st.sampled_from(offered), max_size=size - 1))))
    predictor = Predictor(tuple(map(tuple, matrix)))
    found = predictor.draws._nearest_sets(offered, required, size)
    starts = [device for device in offered if device not in required]
    wanted = Counter(mask_of(nearest(matrix, offered, required, start, size)) for start in starts)
    assert found == pytest.approx({mask: count / len(starts) for mask, count in wanted.items()})


def nearest(matrix: list[list[int]], offered: Sequence[int], required: Sequence[int], start: int, size: int) -> list[int]:
    """One GPU after another: that with the best score; of equal ones the next after `start`, in the order of positions."""
    chosen = list(required) or [start]
    order = [device for device in offered if device >= start] + [device for device in offered if device < start]
    while len(chosen) < size:
        left = [device for device in order if device not in chosen]
        chosen.append(max(left, key=lambda device: sum(matrix[device][one] for one in chosen)))
    return chosen


@given(st.integers(0, (1 << 40) - 1))
def test_positions_of_a_mask_are_its_set_bits_ascending(mask: int) -> None:
    positions = positions_of(mask)
    assert mask_of(positions) == mask
    assert all(low < high for low, high in pairwise(positions))
