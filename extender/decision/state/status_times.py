"""When the agents' statuses were made and received, and the current time by an agent's clock. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StatusTime:
    """When the status of a GpuTopology was made and received.

    The age of the status is `age_at_receipt_seconds` plus the monotonic time since its receipt. The wall clocks of the two machines are
    compared once per status and only within bounds, so a clock that is set by an hour neither makes a status stale nor keeps it fresh.
    """

    observed_at_seconds: float
    """Unix time by the agent's clock."""
    received_monotonic_seconds: float
    age_at_receipt_seconds: float


def status_time(observed_at_seconds: float, now_seconds: float, monotonic_seconds: float, before: StatusTime | None) -> StatusTime:
    """Return the times of a status received now. Its age is at most the time since `before`, the previous status, was received."""
    age = max(0.0, now_seconds - observed_at_seconds)
    if before is not None:
        age = min(age, max(0.0, monotonic_seconds - before.received_monotonic_seconds))
    return StatusTime(observed_at_seconds, monotonic_seconds, age)


def agent_seconds(status: StatusTime | None, now_seconds: float | None, monotonic_seconds: float | None) -> float | None:
    """Return the current Unix time by the clock of the agent that wrote `status`; `now_seconds` where there is no status."""
    if status is None or monotonic_seconds is None:
        return now_seconds
    return status.observed_at_seconds + status.age_at_receipt_seconds + monotonic_seconds - status.received_monotonic_seconds
