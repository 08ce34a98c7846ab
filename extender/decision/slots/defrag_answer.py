"""The typed answer about moves that regain slots."""

from __future__ import annotations

import msgspec

from extender.decision.disruption.evictions import GroupRestart

NOTHING_CHANGED = "Nothing was changed: this is advice."
HOW = "Cordon the node of a pod before you evict it, else the pod may return to its node; uncordon the node once the pod runs elsewhere."


class Move(msgspec.Struct, frozen=True):
    """A pod that leaves its node and is placed elsewhere."""

    namespace: str
    name: str
    owner: str
    """Kind and name of the controller that recreates it."""
    from_node: str
    to_node: str
    """Where the evaluation places it; an equal node may be chosen instead."""
    gpus: int
    priority: int
    budget: str | None
    """namespace/name of the disruption budget that covers it."""
    expected_gbps: float | None
    """Bus bandwidth expected on the new node; None for pods of single GPUs, and where it is unknown."""
    restarts: GroupRestart | None = None
    """The group that restarts as a whole when the pod is evicted. The cost of the move counts all of it; that its other pods return to
    their nodes is assumed."""


class Step(msgspec.Struct, frozen=True):
    """One move, or two that regain slots only together."""

    gain: int
    """Slots that it adds to those after the steps before it."""
    moves: tuple[Move, ...]


class LeftOut(msgspec.Struct, frozen=True):
    """Pods whose move could have regained slots, and why it is no part of the advice."""

    reason: str
    pods: int
    examples: tuple[str, ...]
    """namespace/name of some of them."""


class DefragAnswer(msgspec.Struct, frozen=True):
    """Moves that regain slots of one size, the best first."""

    summary: str
    """One sentence."""
    size: int
    """GPUs per pod."""
    slots_now: int
    slots_after: int
    steps: tuple[Step, ...]
    left_out: tuple[LeftOut, ...]
    not_checked: tuple[str, ...]
    """What may prevent a move, or a slot from being used, and was not looked at."""
    complete: bool
    """Whether the search ended before its bounds: else further moves may exist."""
    how: str = HOW
    note: str = NOTHING_CHANGED
    cluster: str | None = None
    """The name of the cluster, for people."""
    unread: tuple[str, ...] = ()
    """What could not be read, with the consequence for the answer."""


def summary(size: int, now: int, steps: tuple[Step, ...]) -> str:
    """Return one sentence: how many moves make room for how many pods."""
    gpus = f"{size} GPU{'s' if size > 1 else ''}"
    gain, moves = sum(step.gain for step in steps), sum(len(step.moves) for step in steps)
    if not steps:
        return f"No move makes room for one more pod of {gpus}; {now} fit now."
    pods = f"{gain} more pod{'s' if gain > 1 else ''} of {gpus}"
    return f"{moves} move{'s make' if moves > 1 else ' makes'} room for {pods}: {now + gain} instead of {now}."
