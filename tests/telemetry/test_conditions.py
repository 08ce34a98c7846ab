"""Readings over time: noise does not move decisions, real changes do at once, fences clear after quiet alone."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.telemetry.conditions import TUNING, DeviceCondition, NodeTelemetry, observe, observe_device
from extender.telemetry.readings import DeviceReading

GIB = 1 << 30
TOTAL = 80 * GIB


def reading(used_share: float = 0.0, /, **more: object) -> DeviceReading:
    used = int(used_share * TOTAL)
    return DeviceReading("GPU-a", fb_used_bytes=used, fb_free_bytes=TOTAL - used, **{"xid": 0, "utilization": 0.0} | more)  # type: ignore[arg-type]


def after(readings: list[DeviceReading], every_seconds: float = 15.0) -> list[DeviceCondition]:
    found: list[DeviceCondition] = []
    for number, one in enumerate(readings):
        found.append(observe_device(found[-1] if found else None, one, number * every_seconds))
    return found


def test_a_freed_gpu_is_free_within_one_reading_and_a_filled_one_full() -> None:
    states = after([reading(0.75), reading(0.75), reading(0.0), reading(0.75)])
    assert [round((s.free_bytes or 0) / GIB) for s in states] == [20, 20, 80, 20]


@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_noise_never_moves_what_decisions_see(seed: int, level: float) -> None:
    """Five hundredths of the card up or down, at any level: what a filter compares stays where it was to within its margin,
    so that a need outside the margin is never flapped about."""
    chance = random.Random(seed)
    states = after([reading(min(1.0, max(0.0, level + chance.uniform(-0.05, 0.05)))) for _ in range(200)])
    held = [s.memory.held for s in states if s.memory]
    changes = sum(a != b for a, b in pairwise(held))
    assert changes <= 1
    assert max(held) - min(held) <= 0.1


@given(st.integers(0, 10_000))
def test_wild_noise_flips_a_filter_a_few_times_then_the_worst_is_believed(seed: int) -> None:
    chance = random.Random(seed)
    states = after([reading(chance.choice((0.1, 0.4))) for _ in range(19)])
    roomy = [s.memory.held >= 0.85 for s in states if s.memory]
    assert sum(a != b for a, b in pairwise(roomy)) <= 5


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_pressure_moves_by_two_steps_at_most_and_noise_hardly_at_all(seed: int, level: float) -> None:
    chance = random.Random(seed)
    wild = after([reading(utilization=chance.random()) for _ in range(100)])
    steps = [s.strain.step for s in wild if s.strain]
    assert max(abs(a - b) for a, b in pairwise(steps)) <= 3
    tame = after([reading(utilization=min(1.0, max(0.0, level + chance.uniform(-0.05, 0.05)))) for _ in range(200)])
    steps = [s.strain.step for s in tame if s.strain]
    assert max(steps) - min(steps) <= 1


def test_a_fatal_xid_fences_at_once_and_only_quiet_lifts_it() -> None:
    quiet = int(TUNING.quiet_seconds / 15)
    states = after([reading(), reading(xid=79), *[reading(xid=31)] * (quiet + 2)])
    assert states[0].fault is None
    assert states[1].fault is not None
    assert states[1].fault.text == "XID 79: GPU has fallen off the bus"
    assert all(s.fault for s in states[1 : quiet + 1])
    assert states[-1].fault is None


def test_silence_lifts_no_fence() -> None:
    states = after([reading(xid=79), *[DeviceReading("GPU-a")] * 100])
    assert states[-1].fault is not None, "a reading that names no error count shows no recovery"


@pytest.mark.parametrize(
    ("fields", "text"), [({"ecc_double_bit": 2}, "2 double-bit ECC errors"), ({"row_remap_failed": True}, "row remapping failed")]
)
def test_other_faults(fields: dict[str, object], text: str) -> None:
    fault = after([reading(**fields)])[0].fault
    assert fault is not None
    assert (fault.text, fault.xid) == (text, False)


def test_rising_link_errors_are_a_suspicion_and_old_ones_are_not() -> None:
    states = after([reading(nvlink_crc_errors=5), reading(nvlink_crc_errors=5), reading(nvlink_crc_errors=9), reading(nvlink_crc_errors=0)])
    assert [s.suspicions for s in states] == [(), (), ("NVLink CRC errors rise",), ()]
    assert after([reading(xid=62)])[0].suspicions == ("XID 62",)


def test_a_repeated_or_older_reading_changes_nothing() -> None:
    first = observe_device(None, reading(0.5), 100.0)
    assert observe_device(first, reading(0.0), 100.0) is first
    assert observe_device(first, reading(0.0), 50.0) is first, "a clock that went back"


def test_what_is_not_seen_again_is_kept_for_a_while_then_forgotten_unless_fenced() -> None:
    state = observe(NodeTelemetry(), (reading(), DeviceReading("GPU-b", xid=79)), (), ("s", ()), 0.0)
    state = observe(state, (), (), ("s", ("no answer",)), 30.0)
    assert set(state.devices) == {("GPU-a", None), ("GPU-b", None)}
    assert state.problems == ("no answer",)
    state = observe(state, (), (), ("s", ()), 10_000.0)
    assert set(state.devices) == {("GPU-b", None)}
    assert state.problems == ()


def test_an_exporters_own_times_make_a_value_as_old_as_it_is() -> None:
    state = observe(NodeTelemetry(), (reading(age_seconds=50.0),), (), ("s", ()), 100.0)
    assert state.devices["GPU-a", None].seen_seconds == 50.0
