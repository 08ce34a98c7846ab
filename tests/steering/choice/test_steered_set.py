"""Laws of the choice of devices, on random machines, and named cases on known ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.devices.numa_alignment import TopologyManager
from topology.devices.prediction import DevicePlugin, Kubelet
from topology.devices.steering import CROWDED_BYTES, KnownDevices, Steering, avoided, reused_within, steered_set
from topology.devices.steering_table import Entry, ValueTable, table_of
from topology.machine.hardware import mask_of, positions_of
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of

GIB = 1 << 30


@dataclass(frozen=True)
class RandomValues:
    """Values of every set as drawn; no two devices are alike."""

    count: int
    gbps: tuple[float, ...]
    left: tuple[float, ...]

    @property
    def interchangeable(self) -> tuple[int, ...]:
        return tuple(1 << position for position in range(self.count))

    def effective_gbps(self, mask: int, messages: str) -> float | None:
        return self.gbps[mask] if mask.bit_count() > 1 else None

    def capability(self, free: int, mix: Mapping[int, float]) -> float:
        return self.left[free]

    def renumbered(self, order: tuple[int, ...]) -> RandomValues:
        """`order[new]` is the old position."""
        back = [moved(mask, order) for mask in range(1 << self.count)]
        return RandomValues(self.count, tuple(self.gbps[mask] for mask in back), tuple(self.left[mask] for mask in back))


def moved(mask: int, order: tuple[int, ...]) -> int:
    """The mask of the old positions that the positions of `mask` have."""
    return mask_of([order[position] for position in positions_of(mask)])


@dataclass(frozen=True)
class Request:
    values: RandomValues
    offered: int
    required: int
    size: int
    known: KnownDevices

    def answer(self) -> int | None:
        return steered_set(self.values, self.offered, self.required, self.size, Steering(self.known))

    def possible(self) -> list[int]:
        return [mask for part in combinations(positions_of(self.offered), self.size) if not self.required & ~(mask := mask_of(part))]

    def rank(self, mask: int) -> tuple[object, ...]:
        """What an answer is judged by, but for the numbering of the devices."""
        positions, memory = positions_of(mask), self.known.unknown_memory_bytes
        pressure = round(sum(self.known.pressure[position] for position in positions), 6)
        gbps, left = self.values.effective_gbps(mask, "") or 0.0, self.values.left[self.offered & ~mask]
        return *avoided(mask, self.known), -gbps, -left, sum(memory[position] for position in positions) // CROWDED_BYTES, pressure


@st.composite
def requests(draw: st.DrawFn) -> Request:
    count = draw(st.integers(1, 6))
    whole = st.binary(min_size=1 << count, max_size=1 << count)  # one draw: a list of as many takes long on a busy machine
    values = RandomValues(
        count,
        tuple((0.0, 10.0, 48.0, 240.0)[byte % 4] for byte in draw(whole)),
        tuple((0.0, 0.25, 0.5)[byte % 3] for byte in draw(whole)),
    )
    offered = draw(st.integers(1, (1 << count) - 1))
    size = draw(st.integers(1, offered.bit_count()))
    required = mask_of(draw(st.permutations(positions_of(offered)))[: draw(st.integers(0, size))])
    known = KnownDevices(
        draw(st.integers(0, (1 << count) - 1)),
        tuple(draw(st.lists(st.sampled_from([0, GIB // 2, 60 * GIB]), min_size=count, max_size=count))),
        tuple(draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=count, max_size=count))),
    )
    return Request(values, offered, required, size, known)


@given(requests())
def test_answer_has_exactly_the_requested_size_lies_within_the_offered_and_holds_the_required(request: Request) -> None:
    answer = request.answer()
    assert answer is not None
    assert answer.bit_count() == request.size
    assert not answer & ~request.offered
    assert not request.required & ~answer


@given(requests())
def test_answer_is_the_best_possible_set_and_of_equals_the_one_with_the_lowest_positions(request: Request) -> None:
    best = min(request.possible(), key=lambda mask: (request.rank(mask), positions_of(mask)))
    assert request.answer() == best


@given(requests())
def test_excluded_device_is_avoided_while_another_set_serves(request: Request) -> None:
    answer = request.answer()
    assert answer is not None
    assert (answer & request.known.excluded).bit_count() == min((m & request.known.excluded).bit_count() for m in request.possible())


@given(requests())
def test_device_with_memory_of_unknown_processes_is_avoided_while_another_set_serves(request: Request) -> None:
    request = replace(request, known=replace(request.known, excluded=0))
    answer = request.answer()
    assert answer is not None
    assert (answer & request.known.crowded).bit_count() == min((m & request.known.crowded).bit_count() for m in request.possible())


@given(requests(), st.randoms(use_true_random=False))
def test_relabelling_the_devices_gives_a_set_as_good_as_before(request: Request, random: object) -> None:
    order = list(range(request.values.count))
    random.shuffle(order)  # type: ignore[attr-defined]
    there = tuple(order)
    back = tuple(order.index(position) for position in range(len(order)))
    known = KnownDevices(
        moved(request.known.excluded, back),
        tuple(request.known.unknown_memory_bytes[old] for old in there),
        tuple(request.known.pressure[old] for old in there),
    )
    other = Request(request.values.renumbered(there), moved(request.offered, back), moved(request.required, back), request.size, known)
    ours, theirs = request.answer(), other.answer()
    assert ours is not None
    assert theirs is not None
    assert request.rank(moved(theirs, there)) == request.rank(ours)
    best = [mask for mask in request.possible() if request.rank(mask) == request.rank(ours)]
    if len(best) == 1:
        assert moved(theirs, there) == ours


@given(requests())
def test_order_in_which_the_kubelet_lists_devices_changes_nothing(request: Request) -> None:
    forwards, backwards = positions_of(request.offered), positions_of(request.offered)[::-1]
    answers = [
        steered_set(request.values, mask_of(listed), request.required, request.size, Steering(request.known))
        for listed in (forwards, backwards)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(("size", "offered", "required"), [(0, 0b11, 0), (3, 0b11, 0), (1, 0b11, 0b11), (1, 0b01, 0b10)])
def test_impossible_request_has_no_answer(size: int, offered: int, required: int) -> None:
    values = RandomValues(2, (0.0,) * 4, (0.0,) * 4)
    assert steered_set(values, offered, required, size, Steering()) is None


PLATFORMS = ("dgx-1v", "a100-pcie-bridge-pairs", "hgx-h100", "t4", "dgx-2")


@pytest.mark.parametrize("name", PLATFORMS)
def test_table_of_a_machine_answers_as_the_machine_itself(name: str) -> None:
    machine = machine_of(name)
    placement, steering = table_for(machine), Steering(KnownDevices(0b1))
    table = table_of(placement, steering)
    assert table is not None
    count = len(machine.gpus)
    for offered in ((1 << count) - 1, ((1 << count) - 1) & ~0b100, 0b10110111 & ((1 << count) - 1)):
        for size in range(1, offered.bit_count() + 1):
            assert steered_set(table, offered, 0, size, steering) == steered_set(placement, offered, 0, size, steering)


CASES = [
    # platform, free, must include, size, known -> answer
    ("a100-pcie-bridge-pairs", {0, 1, 2, 3, 4, 5, 6, 7}, (), 2, KnownDevices(), {0, 1}, "two GPUs of one bridge"),
    ("a100-pcie-bridge-pairs", {1, 2, 3, 4, 5}, (), 1, KnownDevices(), {1}, "a GPU whose bridge is broken already"),
    ("a100-pcie-bridge-pairs", {0, 1, 2, 3}, (2,), 2, KnownDevices(), {2, 3}, "the partner of the one that must be included"),
    ("a100-pcie-bridge-pairs", {0, 1, 2, 3}, (), 2, KnownDevices(unknown_memory_bytes=(60 * GIB,)), {2, 3}, "the pair nothing else uses"),
    ("hgx-h100", set(range(8)), (), 2, KnownDevices(pressure=(0.9, 0.9)), {2, 3}, "alike but calmer"),
    ("hgx-h100", set(range(8)), (), 1, KnownDevices(excluded=0b1), {1}, "the next fit one"),
]


@pytest.mark.parametrize(("platform", "free", "required", "size", "known", "answer", "why"), CASES, ids=[case[-1] for case in CASES])
def test_known_machine(
    platform: str, free: set[int], required: tuple[int, ...], size: int, known: KnownDevices, answer: set[int], why: str
) -> None:
    values = table_for(machine_of(platform))
    found = steered_set(values, mask_of(sorted(free)), mask_of(required), size, Steering(known))
    assert found == mask_of(sorted(answer)), why


REUSED = [
    ("a main container", ((2, False),), 0, 0),
    ("an init container before an equal main", ((2, True), (2, False)), 0, 0),
    ("an init container before a smaller main", ((2, True), (1, False)), 0, 0),
    ("an init container before a larger main", ((1, True), (2, False)), 0, 2),
    ("only the first main reuses", ((1, True), (1, False), (4, False)), 0, 0),
    ("the larger of the next init container and the main", ((1, True), (4, True), (2, False)), 0, 4),
    ("the second init container", ((1, True), (2, True), (4, False)), 1, 4),
    ("a container that asks for none in between", ((1, True), (0, False), (4, False)), 0, 0),
]


@pytest.mark.parametrize(("what", "steps", "place", "expected"), REUSED, ids=[case[0] for case in REUSED])
def test_reused_within(what: str, steps: tuple[tuple[int, bool], ...], place: int, expected: int) -> None:
    assert reused_within(steps, place) == expected


@pytest.mark.parametrize("name", ["dgx-1v", "a100-pcie-bridge-pairs"])
def test_main_container_gets_no_slower_set_because_a_smaller_init_container_ran_before(name: str) -> None:
    table, steered = table_for(machine_of(name)), Kubelet(device_plugin=DevicePlugin.STEERED)
    for free in range(1, 256):
        for size in range(2, free.bit_count() + 1):
            (alone,) = table.predictor.predict(free, ((size, False),), steered).outcomes
            (after,) = table.predictor.predict(free, ((1, True), (size, False)), steered).outcomes
            assert after.group_masks == alone.group_masks


@given(requests(), st.integers(1, 6))
def test_set_for_a_larger_container_to_reuse_is_within_the_best_set_of_that_one(request: Request, larger: int) -> None:
    steering = Steering(request.known)
    whole = steered_set(request.values, request.offered, request.required, larger, steering)
    answer = steered_set(request.values, request.offered, request.required, request.size, steering, larger)
    assert answer is not None
    assert answer.bit_count() == request.size
    assert not request.required & ~answer
    if whole is not None and larger > request.size:
        assert not answer & ~whole
    else:
        assert answer == request.answer()


@pytest.mark.parametrize("policy", TopologyManager)
@pytest.mark.parametrize("name", ["dgx-1v", "a100-pcie-bridge-pairs", "hgx-h100"])
def test_prediction_for_a_steered_node_is_one_certain_set(name: str, policy: TopologyManager) -> None:
    predictor = table_for(machine_of(name)).predictor
    for free in (0b11111111, 0b11110111, 0b10111010):
        for steps in (((1, False),), ((2, False),), ((3, False),), ((2, False), (1, False))):
            found = predictor.predict(free, steps, Kubelet(policy, DevicePlugin.STEERED))
            assert len(found.outcomes) == (0 if found.rejected else 1)
            assert not found.approximate


def test_table_with_a_wrong_number_of_entries_is_refused() -> None:
    with pytest.raises(ValueError, match="3 entries for 4 kinds"):
        ValueTable((0b01, 0b10), ((None, 0.0, 0.0, 0.0, 0.0),) * 3)


def entry(number: int) -> Entry:
    """Values that follow no rule."""
    one, two, four, eight = (number * step % 13 / 13 for step in (1, 2, 3, 5))
    return float(number * 7 % 11), one, two, four, eight


SIXTEEN = ValueTable(tuple(0xF << 4 * switch for switch in range(4)), tuple(map(entry, range(5**4))))
"""Sixteen devices in four classes of four."""


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("pressure", [(), tuple(place / 16 for place in range(16))], ids=["idle", "each under another load"])
def test_device_with_memory_of_unknown_processes_is_avoided_among_sixteen_of_which_many_differ(
    size: int, pressure: tuple[float, ...]
) -> None:
    known = KnownDevices(0, tuple(60 * GIB * (place % 2) for place in range(16)), pressure)
    answer = steered_set(SIXTEEN, 0xFFFF, 0, size, Steering(known))
    assert answer is not None
    assert (answer.bit_count(), answer & known.crowded) == (size, 0)
    free = [place for place in range(16) if place % 2 == 0]
    fastest = max(SIXTEEN.effective_gbps(mask_of(part), "") or 0.0 for part in combinations(free, size))
    assert SIXTEEN.effective_gbps(answer, "") == fastest


def test_machine_of_which_a_steerer_knows_no_table_has_no_steered_set_whatever_is_offered() -> None:
    count = 13  # devices that are all different: 8,192 kinds of sets
    values = RandomValues(count, (0.0,) * (1 << count), (0.0,) * (1 << count))
    assert table_of(values, Steering()) is None
    assert steered_set(values, 0b1111, 0, 2, Steering()) is None
