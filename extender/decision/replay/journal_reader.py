"""A journal read line by line, within bounds: its head, then each decision with the moment that it was made at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

import msgspec

from extender.decision.cycle.assumed_pods import AssumedPod
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.node.node_state import NodeDefaults
from extender.decision.replay.decided_nodes import length_of
from extender.decision.replay.journal_lines import (
    FORMAT,
    MOST_DECISIONS,
    MOST_JOURNAL_BYTES,
    MOST_LINE_BYTES,
    AssumedLine,
    DecisionLine,
    EndLine,
    GoneLine,
    HeadLine,
    JournalError,
    Line,
    MomentLine,
    NodeLine,
    ObjectLine,
    decoded_line,
)
from extender.decision.replay.kept_objects.object_kinds import OBJECT_KINDS
from extender.decision.replay.rebuilt_state import NOTHING, rebuilt
from extender.decision.request.kubernetes_objects import Node, Pod
from topology.machine.hardware import TopologyError

MOST_NODES = 100_000
"""Nodes of one journal."""
MOST_OBJECTS = 4_000_000
"""Objects of one moment."""


@dataclass(frozen=True, slots=True)
class ReadDecision:
    """A decision of a journal."""

    line: DecisionLine
    pod: Pod
    names: tuple[str, ...]
    moment: Moment | None
    """What it was made from; None where that is not kept."""
    sent: dict[str, Node]


@dataclass(slots=True)
class _Pending:
    """The lines of a moment that is not built yet."""

    line: MomentLine
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    assumed: list[AssumedPod] = field(default_factory=list)
    count: int = 0


_POD, _NODE, _ASSUMED = msgspec.json.Decoder(Pod), msgspec.json.Decoder(Node), msgspec.json.Decoder(AssumedPod)


class JournalReader:
    """Reads one journal. The memory that it takes is that of one moment, and of the lines of the next."""

    def __init__(self, file: IO[bytes], name: str, may_grow: bool = False) -> None:
        """`name`: the name of the file, for errors. `may_grow`: whether it may be written now, so that its last line is incomplete.

        Raises JournalError where the first line is no head of this format.
        """
        self._file, self._name, self._may_grow = file, name, may_grow
        self._bytes, self._number, self._decisions = 0, 0, 0
        self._nodes: list[str] = []
        self.end: EndLine | None = None
        """The last line, once it is read; None where there is none."""
        self.moment = NOTHING
        """The last moment that was built."""
        first = self._next()
        if not isinstance(first, HeadLine):
            raise self._error("is no head: this is no journal of Fabricwise. Make one with: fabricwise snapshot > s.zip")
        if first.format != FORMAT:
            raise self._error(f"has format {first.format}, written by version {first.fabricwise}; this version reads format {FORMAT}")
        self.head = first

    def decisions(self, defaults: NodeDefaults) -> Iterator[ReadDecision]:
        """Yield the decisions in the order in which they were made; after the last one `moment` is the newest moment.

        `defaults`: what is assumed of nodes; the views are derived with it. Raises JournalError.
        """
        pending: _Pending | None = None
        while (line := self._next()) is not None:
            if self.end is not None:
                raise self._error("follows the end of the journal")
            try:
                match line:
                    case DecisionLine():
                        self._built(pending, defaults)
                        pending = None
                        yield self._decision(line)
                    case MomentLine():
                        self._built(pending, defaults)
                        pending = _Pending(line)
                    case NodeLine(name):
                        self._node(name)
                    case EndLine():
                        self.end = line
                    case HeadLine():
                        raise self._error("is a second head")
                    case _:
                        self._collect(pending, line)
            except (msgspec.DecodeError, TopologyError, RecursionError, UnicodeDecodeError) as error:
                raise self._error(f"cannot be used: {str(error)[:200]}") from error
        self._built(pending, defaults)

    def _built(self, pending: _Pending | None, defaults: NodeDefaults) -> None:
        if pending is not None:
            try:
                self.moment = rebuilt(self.moment, pending.line, pending.objects, tuple(pending.assumed), self.head.resource, defaults)
            except Exception as error:  # the objects contradict each other in some way that no API server allows
                raise self._error(f"follows a state that contradicts itself: {type(error).__name__}: {str(error)[:200]}") from error

    def _node(self, name: str) -> None:
        if len(self._nodes) >= MOST_NODES:
            raise self._error(f"names a further node; {MOST_NODES} are the most")
        self._nodes.append(name)

    def _collect(self, pending: _Pending | None, line: ObjectLine | GoneLine | AssumedLine) -> None:
        """Add an object to the moment that is being read."""
        if pending is None:
            raise self._error("belongs to no moment")
        pending.count += 1
        if pending.count > MOST_OBJECTS:
            raise self._error(f"is a further object of a moment; {MOST_OBJECTS} are the most")
        if isinstance(line, AssumedLine):
            pending.assumed.append(_ASSUMED.decode(line.pod))
            return
        row = OBJECT_KINDS.get(line.kind)
        if row is None:
            raise self._error(f"has an object of an unknown kind, {line.kind[:40]!r}")
        value = None if isinstance(line, GoneLine) else row.read(line.key, line.value)
        pending.objects.setdefault(line.kind, {})[line.key] = value

    def _decision(self, line: DecisionLine) -> ReadDecision:
        self._decisions += 1
        if self._decisions > MOST_DECISIONS:
            raise self._error(f"is decision {self._decisions}; {MOST_DECISIONS} are the most: write a snapshot with fewer")
        known, names = len(self._nodes), list[str]()
        for first, last in line.rows:
            if not 0 <= first <= last < known or len(names) + last - first >= MOST_NODES:
                raise self._error(f"names the nodes {first} to {last}, of which {known} are known")
            names += self._nodes[first : last + 1]
        answer = line.answer
        if length_of(answer.nodes) != len(names) or (answer.scores is not None and length_of(answer.scores) != len(names)):
            raise self._error(f"is about {len(names)} nodes, but has another number of verdicts or scores")
        if any(not 0 <= number < len(answer.verdicts) for number, _ in answer.nodes):
            raise self._error("refers to a verdict that it does not have")
        if answer.decided is not None and not 0 <= answer.decided < known:
            raise self._error("decides for a node that is not named")
        sent = {name: _NODE.decode(text) for name, text in line.sent.items()}
        return ReadDecision(line, _POD.decode(line.pod), tuple(names), self.moment if line.has_moment else None, sent)

    def node_name(self, row: int | None) -> str | None:
        """Return the name of the node in a row."""
        return None if row is None else self._nodes[row]

    def _next(self) -> Line | None:
        """Return the next line; None at the end of the file. An incomplete last line of a file that may grow is left out."""
        self._number += 1
        text = self._file.readline(MOST_LINE_BYTES + 1)
        self._bytes += len(text)
        if not text:
            return None
        if len(text) > MOST_LINE_BYTES:
            raise self._error(f"is longer than {MOST_LINE_BYTES >> 20} MiB")
        if self._bytes > MOST_JOURNAL_BYTES:
            raise self._error(f"is beyond {MOST_JOURNAL_BYTES >> 20} MiB, the most that is read")
        if not text.endswith(b"\n"):
            if self._may_grow:
                return None
            raise self._error("is incomplete: the file is truncated. Copy it again, or write a new one")
        try:
            return decoded_line(text)
        except ValueError as error:
            raise self._error(f"is no line of a journal: {error}") from error

    def _error(self, what: str) -> JournalError:
        return JournalError(f"{self._name}: line {self._number} {what}")
