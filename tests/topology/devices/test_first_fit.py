"""The structured allocator's choice is the first combination in its own order, compared with trying all combinations."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topology.devices.first_fit import Alike, DeviceRequest, SearchTooLongError, extended_resource_requests, first_fit
from topology.machine.hardware import mask_of

DEVICES = 6


@st.composite
def requests(draw: st.DrawFn) -> tuple[DeviceRequest, ...]:
    """One to three requests, each with its own eligible devices; a third of them bear a `matchAttribute` constraint."""
    halves = (mask_of(range(DEVICES // 2)), mask_of(range(DEVICES // 2, DEVICES)))
    drawn = []
    for group in range(draw(st.integers(1, 3))):
        order = tuple(draw(st.permutations(range(DEVICES)))[: draw(st.integers(1, DEVICES))])
        alike = (Alike(0, halves),) if draw(st.integers(0, 2)) == 0 else ()
        drawn.append(DeviceRequest(draw(st.integers(1, 3)), order, group, alike))
    return tuple(drawn)


def first_of_all(free: int, wanted: tuple[DeviceRequest, ...]) -> tuple[int, ...] | None:
    """Return the first combination that satisfies all requests, in the order of depth-first search."""
    options = [combinations([bit for bit in request.order if free >> bit & 1], request.count) for request in wanted]
    for chosen in product(*(list(each) for each in options)):
        bits = [bit for each in chosen for bit in each]
        bound = [
            constraint.set_of(bit) for request, each in zip(wanted, chosen, strict=True) for constraint in request.alike for bit in each
        ]
        if len(set(bits)) == len(bits) and len(set(bound)) <= 1 and 0 not in bound:
            return tuple(mask_of(list(each)) for each in chosen)
    return None


@given(st.integers(0, (1 << DEVICES) - 1), requests())
def test_first_fit_is_the_first_of_all_combinations(free: int, wanted: tuple[DeviceRequest, ...]) -> None:
    assert first_fit(free, wanted) == first_of_all(free, wanted)


@given(st.integers(0, (1 << DEVICES) - 1), requests(), st.integers(0, DEVICES - 1))
def test_freeing_a_device_never_makes_requests_fail_that_fit(free: int, wanted: tuple[DeviceRequest, ...], bit: int) -> None:
    if first_fit(free, wanted) is not None:
        assert first_fit(free | 1 << bit, wanted) is not None


def test_search_that_takes_too_long_is_given_up() -> None:
    devices = tuple(range(40))
    pairs = tuple(mask_of([bit, bit + 1]) for bit in range(0, 40, 2))
    wanted = tuple(DeviceRequest(3, devices, group, (Alike(group, pairs),)) for group in range(3))
    with pytest.raises(SearchTooLongError):
        first_fit(mask_of(range(40)), wanted, most_steps=50)


# (containers as (GPUs, ends)) -> the counts of the requests, in their order
EXTENDED = {
    "one container": (((4, False),), [4]),
    "two containers": (((1, False), (2, False)), [1, 2]),
    "an init container that needs less": (((2, True), (4, False)), [4]),
    "an init container that needs more": (((6, True), (4, False)), [2, 4]),
    "the largest of two init containers": (((5, True), (8, True), (4, False)), [4, 4]),
    "a sidecar stays": (((1, False), (3, True), (1, False)), [1, 2, 1]),
}


@pytest.mark.parametrize("name", EXTENDED)
def test_init_containers_use_the_devices_of_later_containers_first(name: str) -> None:
    steps, counts = EXTENDED[name]
    assert [request.count for request in extended_resource_requests(steps, tuple(range(8)))] == counts
