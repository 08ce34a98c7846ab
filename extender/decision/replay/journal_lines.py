"""The lines of a journal, format version 1.

A journal is a text of JSON lines. The first line is a `HeadLine`. Then follow moments and decisions in the order in which they were made.
A moment is written as what differs from the moment before it: a `MomentLine`, then the objects that are new, altered or gone. Before the
first moment nothing exists. A decision was made at the last moment that is written before it. Replaying needs the lines up to a decision
only, so a journal may be continued, or read while it is written. A `NodeLine` gives a name of a node the next row, from 0 on.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

FORMAT = 1
"""Version of the format. A reader refuses any other."""

MOST_LINE_BYTES = 8 << 20
"""A longer line is refused. The longest is a decision about 20,000 nodes in no order, about 0.3 MB, or a slice with 128 devices."""
MOST_JOURNAL_BYTES = 1 << 30
"""A longer journal is refused, and none is written. 5,000 nodes with eight GPUs each take about 25 MB."""
MOST_DECISIONS = 20_000
"""Decisions of one journal."""


class JournalError(ValueError):
    """A journal that cannot be read; the text says what is wrong, where, and what helps."""


class HeadLine(msgspec.Struct, frozen=True, tag_field="line", tag="head"):
    """What a journal is about."""

    format: int
    fabricwise: str
    """Version of the program that wrote it."""
    created_seconds: float
    """Unix time."""
    names_hidden: bool
    resource: str
    """The resource that counts GPUs."""
    settings: dict[str, Any]
    """The settings that decisions read."""


class NodeLine(msgspec.Struct, frozen=True, tag_field="line", tag="node"):
    """The name of a node, which gets the next row."""

    name: str


class MomentLine(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="line", tag="moment"):
    """A moment. The lines of objects that follow it belong to it."""

    revision: int
    monotonic_seconds: float
    """When the decision was made, on the clock of the state."""
    now_seconds: float | None = None
    state_monotonic_seconds: float | None = None
    listed: list[str] = []
    watch_lost_at: dict[str, float] = {}
    watched: dict[str, bool] = {}
    released: list[str] = []
    """Keys of the assumed pods that are no longer assumed."""


class ObjectLine(msgspec.Struct, frozen=True, tag_field="line", tag="object"):
    """An object that is new or altered at the last moment; `kind`: a name of `object_kinds.OBJECT_KINDS`."""

    kind: str
    key: str
    value: msgspec.Raw


class GoneLine(msgspec.Struct, frozen=True, tag_field="line", tag="gone"):
    """An object that does not exist any more."""

    kind: str
    key: str


class AssumedLine(msgspec.Struct, frozen=True, tag_field="line", tag="assumed"):
    """A pod that is assumed from this moment on, after those that are assumed already."""

    pod: msgspec.Raw
    """An `AssumedPod`."""


Runs = list[tuple[int, Annotated[int, msgspec.Meta(ge=1)]]]
"""(value, number of consecutive nodes that have it)."""


class DecidedNodes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was decided, in the order of the decision's nodes."""

    verdicts: list[tuple[str | None, float | None]] = []
    """(the reason, or None where feasible; the effective bandwidth in GB/s, where known) of each distinct verdict."""
    nodes: Runs = []
    """Numbers of verdicts."""
    scores: Runs | None = None
    """None where the verb gives none."""
    decided: int | None = None
    """The row of the node that the pod is decided for."""
    stall: str | None = None
    """Why there was no answer yet."""


class DecisionLine(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="line", tag="decision"):
    """One answer to kube-scheduler."""

    id: str
    at_seconds: float
    """Unix time."""
    verb: str
    pod: msgspec.Raw
    """The pod of the request, as far as decisions read it."""
    rows: list[tuple[int, int]]
    """Rows of the nodes of the request, as (first, last) of consecutive rows."""
    answer: DecidedNodes
    mix: dict[int, float] | None = None
    """GPUs per container -> weight; None: it changed while the pod was evaluated, so that the decision cannot be replayed."""
    sent: dict[str, msgspec.Raw] = {}
    """Nodes of the request that the watch did not know."""
    has_moment: bool = True
    """False: the state of that time is not kept any more, so that the decision cannot be replayed."""
    placement: str | None = None
    """Id of the placement record, where a node is decided; it is written to the pod."""


class EndLine(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="line", tag="end"):
    """The end of an archive. A journal that is continued has none."""

    decisions: int
    without_moment: int = 0
    """How many of them cannot be replayed."""
    left_out: int = 0
    """Further decisions that did not fit."""
    mix: dict[int, float] | None = None
    """The mix of sizes at the last moment."""


Line = HeadLine | NodeLine | MomentLine | ObjectLine | GoneLine | AssumedLine | DecisionLine | EndLine

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Line)


def encoded_line(line: Line) -> bytes:
    """Return a line with its end."""
    return _encode(line) + b"\n"


def decoded_line(text: bytes) -> Line:
    """Return a line. Raises ValueError where it is none."""
    try:
        line: Line = _decoder.decode(text)
        return line
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(str(error)[:200]) from error


def encoded_value(value: object) -> msgspec.Raw:
    """Return a value as the raw part of a line."""
    return msgspec.Raw(_encode(value))
