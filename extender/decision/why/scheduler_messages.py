"""kube-scheduler's messages on a pod that is not scheduled, parsed tolerantly: text that is not understood is kept as text.

The form is `0/12 nodes are available: 3 Insufficient cpu, 2 node(s) had untolerated taint {k: v}. preemption: 0/12 ...`, with small
differences between versions. Source: kubernetes `pkg/scheduler/framework/types.go` (FitError.Error), 1.20 to 1.37.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from extender.decision.cycle.scheduling_cycle import Stall

MOST_TEXT = 16_384
"""Characters of a message that are read."""
MOST_REASONS = 64
"""Reasons of a message that are read."""

_HEAD = re.compile(r"\s*0/(?P<nodes>\d{1,9}) nodes? (?:is|are) available:\s*")
_PREEMPTION = re.compile(r"(?:^|[.,]?\s)preemption:\s*", re.ASCII)
_NEXT = re.compile(r",\s+(?=\d{1,9} )", re.ASCII)
_COUNTED = re.compile(r"(?P<count>\d{1,9})\s+(?P<reason>.+)", re.DOTALL | re.ASCII)
_SENTENCE_END = re.compile(r"\.(?:\s+(?=[a-z]+ )|\s*$)")
"""The end of the list of reasons; what follows is the message of a PostFilter plugin, such as `no new claims to deallocate`."""


@dataclass(frozen=True, slots=True)
class ReportedReason:
    """One reason and the number of nodes that it refuses, in kube-scheduler's words."""

    reason: str
    nodes: int


@dataclass(frozen=True, slots=True)
class SchedulerMessage:
    """A message on a pod that is not scheduled."""

    text: str = ""
    """The whole message, of bounded length."""
    nodes: int | None = None
    """Number of nodes of the cluster; None where the message has another form."""
    reasons: tuple[ReportedReason, ...] = ()
    other: str = ""
    """What is not a list of reasons: a refusal of the pod as a whole, or an error."""
    preemption: str = ""
    """What it says of preemption."""

    @property
    def stall(self) -> Stall | None:
        """The answer of Fabricwise that decides nothing yet, where the message repeats one."""
        return next((stall for stall in Stall if stall.value in self.text), None)


NO_MESSAGE = SchedulerMessage()


def parsed(text: str) -> SchedulerMessage:
    """Return what a message says. Never raises: a message of another form is `other`."""
    text = " ".join(text[:MOST_TEXT].split())
    head = _HEAD.match(text)
    if head is None:
        return SchedulerMessage(text, other=text) if text else NO_MESSAGE
    body, *rest = _PREEMPTION.split(text[head.end() :], maxsplit=1)
    preemption = rest[0].strip() if rest else ""
    listed, _, after = _divided(body)
    reasons: list[ReportedReason] = []
    other = [after] if after else []
    for part in _NEXT.split(listed)[:MOST_REASONS]:
        counted = _COUNTED.fullmatch(part.strip())
        if counted is None:
            other.insert(0, part.strip())
        else:
            reasons.append(ReportedReason(counted["reason"].strip(), int(counted["count"])))
    return SchedulerMessage(text, int(head["nodes"]), _merged(reasons), "; ".join(part for part in other if part), preemption)


def _divided(body: str) -> tuple[str, str, str]:
    end = _SENTENCE_END.search(body)
    if end is None:
        return body, "", ""
    return body[: end.start()], body[end.start() : end.end()], body[end.end() :].strip().rstrip(".")


def _merged(reasons: Iterable[ReportedReason]) -> tuple[ReportedReason, ...]:
    """Return the reasons, each once, in the order of the message."""
    nodes: dict[str, int] = {}
    for each in reasons:
        nodes[each.reason] = nodes.get(each.reason, 0) + each.nodes
    return tuple(ReportedReason(reason, count) for reason, count in nodes.items())
