"""What kube-scheduler has reported of a pod: the message of its condition PodScheduled, and its events. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from extender.decision.request.kubernetes_objects import Pod
from extender.decision.why.scheduler_messages import NO_MESSAGE, SchedulerMessage, parsed

MOST_EVENTS = 1_000
"""Events of one pod that are read; the API server keeps them for an hour."""


class EventSource(msgspec.Struct, frozen=True):
    """EventSource."""

    component: str = ""


class EventSeries(msgspec.Struct, frozen=True, rename="camel"):
    """EventSeries."""

    count: int = 0
    last_observed_time: str | None = None


class KubeEvent(msgspec.Struct, frozen=True, rename="camel"):
    """v1 Event."""

    reason: str | None = ""
    message: str | None = ""
    last_timestamp: str | None = None
    event_time: str | None = None
    first_timestamp: str | None = None
    count: int | None = None
    series: EventSeries | None = None
    reporting_component: str | None = None
    source: EventSource | None = None

    @property
    def at_seconds(self) -> float | None:
        """Unix time of its newest occurrence; None where it states none."""
        series = self.series.last_observed_time if self.series else None
        return next(
            (at for text in (series, self.last_timestamp, self.event_time, self.first_timestamp) if (at := unix_seconds(text))), None
        )

    @property
    def component(self) -> str:
        """What reported it."""
        return self.reporting_component or (self.source.component if self.source else "")

    @property
    def times(self) -> int:
        """How often it occurred."""
        return max(self.series.count if self.series else 0, self.count or 0, 1)


@dataclass(frozen=True, slots=True)
class Reported:
    """What is reported of a pod."""

    message: SchedulerMessage = NO_MESSAGE
    at_seconds: float | None = None
    """Unix time of kube-scheduler's last attempt, by its newest event; None where no event states it."""
    scheduler: str = ""
    """The scheduler that reported; empty where unknown."""
    attempts: int = 0
    """Number of attempts that events report."""
    events: tuple[KubeEvent, ...] = ()
    """All events, newest first."""
    are_events_known: bool = False

    def newest(self, *reasons: str) -> KubeEvent | None:
        """Return the newest event of one of these reasons."""
        return next((event for event in self.events if event.reason in reasons), None)


NOTHING_REPORTED = Reported()


def reported_of(pod: Pod, events: Iterable[Any] | None) -> Reported:
    """Return what is reported of a pod. `events`: parsed manifests; one that is no Event is left out. None: they were not read."""
    read = [event for manifest in _first(events) if (event := _event(manifest)) is not None]
    read.sort(key=lambda event: -(event.at_seconds or 0.0))
    failed = [event for event in read if event.reason == "FailedScheduling"]
    conditions = (pod.status.conditions if pod.status else None) or ()
    text = next(
        (condition.message or "" for condition in conditions if condition.type == "PodScheduled" and condition.status == "False"), ""
    )
    if failed and failed[0].message:
        text = failed[0].message
    return Reported(
        message=parsed(text),
        at_seconds=failed[0].at_seconds if failed else None,
        scheduler=failed[0].component if failed else "",
        attempts=sum(event.times for event in failed),
        events=tuple(read),
        are_events_known=events is not None,
    )


def _first(events: Iterable[Any] | None) -> Iterable[Any]:
    for number, manifest in enumerate(events or ()):
        if number >= MOST_EVENTS:
            return
        yield manifest


def _event(manifest: Any) -> KubeEvent | None:
    try:
        return msgspec.convert(manifest, KubeEvent, strict=False)
    except msgspec.ValidationError:
        return None


def unix_seconds(text: str | None) -> float | None:
    """Return the Unix time of a time as the API server writes it; None where it is none."""
    if not text or len(text) > 40:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
