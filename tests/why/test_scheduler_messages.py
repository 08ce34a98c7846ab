"""kube-scheduler's messages are parsed tolerantly: wordings of several versions, and text that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.cycle.scheduling_cycle import Stall
from extender.decision.request.reasons import Reason
from extender.decision.why.scheduler_messages import MOST_REASONS, MOST_TEXT, ReportedReason, parsed
from extender.decision.why.scheduler_reports import reported_of, unix_seconds
from tests.objects import pod, pod_struct
from tests.why.why_questions import NOW_SECONDS, failed

PREEMPTION = "0/12 nodes are available: 12 No preemption victims found for incoming pod."

MESSAGES = {
    "1.28": (
        "0/12 nodes are available: 3 Insufficient cpu, 2 node(s) had untolerated taint {k: v}, 7 too few free GPUs. preemption: "
        + PREEMPTION,
        12,
        {"Insufficient cpu": 3, "node(s) had untolerated taint {k: v}": 2, "too few free GPUs": 7},
        PREEMPTION,
    ),
    "1.36, which does not name the taint and speaks of claims": (
        "0/10 nodes are available: 1 GPU memory class too small, 1 node(s) had untolerated taint(s), 8 node(s) didn't match Pod's node "
        "affinity/selector. no new claims to deallocate, "
        "preemption: 0/10 nodes are available: 10 Preemption is not helpful for scheduling.",
        10,
        {"GPU memory class too small": 1, "node(s) had untolerated taint(s)": 1, "node(s) didn't match Pod's node affinity/selector": 8},
        "0/10 nodes are available: 10 Preemption is not helpful for scheduling.",
    ),
    "a reason with a comma": (
        f"0/3 nodes are available: 2 {Reason.SPREADS_OVER_SHARED.value}, 1 Insufficient memory.",
        3,
        {Reason.SPREADS_OVER_SHARED.value: 2, "Insufficient memory": 1},
        "",
    ),
    "one node": ("0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", 1, {"Insufficient nvidia.com/gpu": 1}, ""),
    "a taint without a value": (
        "0/2 nodes are available: 2 node(s) had untolerated taint {nvidia.com/gpu: }. "
        "preemption: not eligible due to preemptionPolicy=Never.",
        2,
        {"node(s) had untolerated taint {nvidia.com/gpu: }": 2},
        "not eligible due to preemptionPolicy=Never.",
    ),
}


@pytest.mark.parametrize(("text", "nodes", "reasons", "preemption"), MESSAGES.values(), ids=MESSAGES)
def test_message_is_parsed_into_counts_per_reason(text: str, nodes: int, reasons: dict[str, int], preemption: str) -> None:
    message = parsed(text)
    assert message.nodes == nodes
    assert {each.reason: each.nodes for each in message.reasons} == reasons
    assert message.preemption == preemption


def test_message_of_a_prefilter_plugin_is_kept_as_text() -> None:
    message = parsed("0/5 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/5 nodes are available.")
    assert (message.nodes, message.reasons) == (5, ())
    assert message.other == "pod has unbound immediate PersistentVolumeClaims"


def test_error_of_an_extender_is_kept_as_text() -> None:
    text = 'Post "http://fabricwise:8888/scheduler/filter": context deadline exceeded'
    message = parsed(text)
    assert (message.nodes, message.reasons, message.other) == (None, (), text)


@pytest.mark.parametrize("stall", list(Stall))
def test_answer_that_decides_nothing_yet_is_recognised(stall: Stall) -> None:
    assert parsed(stall.value).stall is stall


@given(st.text(max_size=2_000) | st.text("0123/456 nodes are available:,.{}() preemption", max_size=500))
def test_any_text_is_parsed_without_error_and_within_bounds(text: str) -> None:
    message = parsed(text)
    assert len(message.text) <= MOST_TEXT
    assert all(each.nodes >= 0 and each.reason for each in message.reasons)
    assert parsed(message.text) == message


def test_hostile_message_is_cut() -> None:
    text = "0/9 nodes are available: " + ", ".join(f"{number} reason {number} {'x' * 50}" for number in range(100_000))
    message = parsed(text)
    assert len(message.reasons) <= MOST_REASONS
    assert len(message.text) <= MOST_TEXT


@given(st.dictionaries(st.sampled_from([reason.value for reason in Reason]), st.integers(1, 5_000), min_size=1, max_size=8))
def test_counts_of_our_reasons_survive_a_round_trip(counts: dict[str, int]) -> None:
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
    message = parsed(f"0/{sum(counts.values())} nodes are available: {listed}. preemption: none.")
    assert {each.reason: each.nodes for each in message.reasons} == counts


def test_newest_event_takes_precedence_over_the_condition() -> None:
    waits = pod_struct(
        pod(
            2,
            status={"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}]},
        )
    )
    events = [failed("0/3 nodes are available: 3 Too many pods.", 300), failed("0/2 nodes are available: 2 too few free GPUs.", 20)]
    reported = reported_of(waits, events)
    assert reported.message.reasons == (ReportedReason("too few free GPUs", 2),)
    assert reported.at_seconds == NOW_SECONDS - 20
    assert (reported.attempts, reported.scheduler) == (2, "gpu-scheduler")
    assert reported_of(waits, None).message.reasons == (ReportedReason("Insufficient cpu", 1),)


def test_events_that_are_no_events_are_left_out() -> None:
    reported = reported_of(pod_struct(pod(2)), [{"reason": 3}, "text", None, {"series": "x"}, failed("0/1 nodes are available: 1 x.")])
    assert reported.message.nodes == 1


@given(st.text(max_size=60))
def test_any_text_is_a_time_or_none(text: str) -> None:
    assert unix_seconds(text) is None or isinstance(unix_seconds(text), float)
