"""Moments and decisions -> lines of a journal: of each moment only what differs from the moment that was written before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod, AssumedPods
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts
from extender.decision.pace import Pace, unhurried
from extender.decision.replay.decided_nodes import answer_of
from extender.decision.replay.journal_lines import (
    FORMAT,
    MOST_DECISIONS,
    MOST_JOURNAL_BYTES,
    AssumedLine,
    DecisionLine,
    EndLine,
    GoneLine,
    HeadLine,
    Line,
    MomentLine,
    NodeLine,
    ObjectLine,
    encoded_line,
    encoded_value,
)
from extender.decision.replay.kept_objects.kept_nodes import kept_node, pool_labels_of
from extender.decision.replay.kept_objects.kept_pods import kept_assumed_pod
from extender.decision.replay.kept_objects.kept_requests import kept_pod
from extender.decision.replay.kept_objects.named_texts import CollectedNames, HiddenNames, Names, Naming, PlainNames
from extender.decision.replay.kept_objects.object_kinds import OBJECT_KINDS, Writing
from extender.decision.request.kubernetes_objects import Node, Pod
from extender.decision.state.snapshot import Snapshot

_NO_OBJECTS: Mapping[str, Any] = {}


class Recorded(Protocol):
    """A decision as the decision log has it."""

    @property
    def id(self) -> str:
        """Identifies the decision."""
        ...

    @property
    def at_seconds(self) -> float:
        """Unix time."""
        ...

    @property
    def verb(self) -> str:
        """`filter` or `prioritize`."""
        ...

    @property
    def spec(self) -> Pod:
        """The pod of the request."""
        ...

    @property
    def names(self) -> NodeNames:
        """The nodes of the request."""
        ...

    @property
    def verdicts(self) -> NodeVerdicts:
        """One per name."""
        ...

    @property
    def scores(self) -> Sequence[int] | None:
        """One per name; None where the verb gives none."""
        ...

    @property
    def decided(self) -> int | None:
        """The position in `names` of the decided node."""
        ...

    @property
    def stall(self) -> str | None:
        """Why there was no answer yet."""
        ...

    @property
    def moment(self) -> Moment | None:
        """What it was decided from; None where that is not kept any more."""
        ...

    @property
    def mix(self) -> Mapping[int, float] | None:
        """The mix of sizes; None where it changed during the evaluation."""
        ...

    @property
    def sent(self) -> Mapping[str, Node]:
        """Nodes of the request that the watch did not know."""
        ...

    @property
    def placement(self) -> str | None:
        """Id of the placement record."""
        ...


class JournalWriter:
    """Writes one journal, without its first and its last line."""

    def __init__(self, naming: Naming, resource: str, pace: Pace = unhurried) -> None:
        """`pace` is called for every few objects; its answer has no effect, because half a moment is of no use."""
        self._naming, self._resource, self._pace = naming, resource, pace
        self._snapshot, self._assumed_pods, self._monotonic_seconds = Snapshot(), NO_ASSUMED_PODS, 0.0
        self._has_moment = False
        self._rows: dict[str, int] = {}

    def moment(self, moment: Moment) -> Iterator[Line]:
        """Yield what differs from the last moment."""
        before, snapshot, naming = self._snapshot, moment.snapshot, self._naming
        is_same = self._has_moment and snapshot is before and moment.monotonic_seconds == self._monotonic_seconds
        if is_same and moment.assumed_pods is self._assumed_pods:
            return
        released, placed = _assumed_difference(self._assumed_pods, moment.assumed_pods)
        yield MomentLine(
            revision=snapshot.revision,
            monotonic_seconds=moment.monotonic_seconds,
            now_seconds=snapshot.now_seconds,
            state_monotonic_seconds=snapshot.monotonic_seconds,
            listed=sorted(snapshot.listed),
            watch_lost_at=dict(snapshot.watch_lost_at),
            watched=dict(snapshot.dra.watched),
            released=[naming.name(Names.KEY, key) for key in released],
        )
        for pod in placed:
            yield AssumedLine(encoded_value(kept_assumed_pod(pod, naming)))
        if snapshot is not before:
            yield from self._objects(before, snapshot)
        self._snapshot, self._assumed_pods, self._monotonic_seconds = snapshot, moment.assumed_pods, moment.monotonic_seconds
        self._has_moment = True

    def _objects(self, before: Snapshot, after: Snapshot) -> Iterator[Line]:
        naming, writing = self._naming, Writing(self._naming, self._resource, after)
        classes_changed = after.classes != before.classes
        for kind, row in OBJECT_KINDS.items():
            old, new = row.of(before), row.of(after)
            if kind == "node" and classes_changed:
                old = _NO_OBJECTS if not old else dict.fromkeys(old)  # other labels are read now
            if old is new:
                continue
            for key, value in new.items():
                if old.get(key) is not value:
                    self._pace()
                    yield ObjectLine(kind, row.key(key, naming), encoded_value(row.kept(value, writing)))
            for key in old:
                if key not in new:
                    yield GoneLine(kind, row.key(key, naming))

    def decision(self, recorded: Recorded) -> Iterator[Line]:
        """Yield a decision, with its moment before it."""
        moment, naming = recorded.moment, self._naming
        if moment is not None:
            yield from self.moment(moment)
        names = recorded.names.texts
        for name in names:
            if name not in self._rows:
                self._rows[name] = len(self._rows)
                yield NodeLine(naming.name(Names.NODE, name))
        rows = [self._rows[name] for name in names]
        positions = range(len(rows)) if recorded.spec.group is not None else sorted(range(len(rows)), key=rows.__getitem__)
        labels = pool_labels_of(moment.snapshot.classes) if moment is not None else frozenset()
        decided = None if recorded.decided is None else rows[recorded.decided]
        yield DecisionLine(
            id=recorded.id,
            at_seconds=recorded.at_seconds,
            verb=recorded.verb,
            pod=encoded_value(kept_pod(recorded.spec, naming)),
            rows=_ranges([rows[position] for position in positions]),
            answer=answer_of(recorded.verdicts, recorded.scores, positions, decided, recorded.stall),
            mix=None if recorded.mix is None else dict(recorded.mix),
            sent={
                naming.name(Names.NODE, name): encoded_value(kept_node(node, naming, self._resource, labels))
                for name, node in recorded.sent.items()
            },
            has_moment=moment is not None,
            placement=recorded.placement if not naming.is_hidden else None,
        )


def _assumed_difference(before: AssumedPods, after: AssumedPods) -> tuple[list[str], list[AssumedPod]]:
    """Return (keys of pods that are no longer assumed, pods that are assumed after the others), which lead from one to the other."""
    if before is after:
        return [], []
    kept = [key for key, pod in before.by_pod.items() if after.by_pod.get(key) is pod]
    order = list(after.by_pod)
    if order[: len(kept)] != kept:  # a decision from an earlier moment: begin anew
        return list(before.by_pod), list(after.by_pod.values())
    return [key for key in before.by_pod if key not in set(kept)], [after.by_pod[key] for key in order[len(kept) :]]


def _ranges(rows: list[int]) -> list[tuple[int, int]]:
    """Return (first, last) of each run of consecutive rows."""
    ranges: list[tuple[int, int]] = []
    for _, run in groupby(enumerate(rows), key=lambda item: item[1] - item[0]):
        numbers = [row for _, row in run]
        ranges.append((numbers[0], numbers[-1]))
    return ranges


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive is made of."""

    fabricwise: str
    """Version of the program."""
    created_seconds: float
    """Unix time."""
    resource: str
    settings: Mapping[str, Any]
    """The settings that decisions read."""
    decisions: Sequence[Recorded]
    """The oldest first."""
    newest: Moment
    mix: Mapping[int, float]
    """The present mix of sizes."""


def head_of(contents: Contents, naming: Naming) -> HeadLine:
    """Return the first line of a journal."""
    return HeadLine(FORMAT, contents.fabricwise, contents.created_seconds, naming.is_hidden, contents.resource, dict(contents.settings))


def archive_lines(contents: Contents, mask: int | None = None, pace: Pace = unhurried) -> Iterator[bytes]:
    """Yield the lines of an archive: decisions with their moments, then the newest moment.

    `mask`: a random number of 32 bits, with which names are hidden; None: names stay as they are. Decisions that do not fit are left out,
    the newest first, because a moment is written as what differs from the one before.
    """
    naming: Naming = PlainNames()
    if mask is not None:
        collected = CollectedNames()
        for _ in _lines(contents, collected, pace, [0]):
            pass
        naming = HiddenNames(collected, mask)
    written = [0]
    for line in _lines(contents, naming, pace, written):
        text = encoded_line(line)
        written[0] += len(text)
        yield text


def _lines(contents: Contents, naming: Naming, pace: Pace, written: list[int]) -> Iterator[Line]:
    """Yield the lines of an archive. `written`: the bytes written so far."""
    yield head_of(contents, naming)
    writer = JournalWriter(naming, contents.resource, pace)
    count = without_moment = 0
    decisions = contents.decisions[-MOST_DECISIONS:]
    for recorded in decisions:
        if written[0] > MOST_JOURNAL_BYTES // 2:
            break
        yield from writer.decision(recorded)
        count += 1
        without_moment += recorded.moment is None
    yield from writer.moment(contents.newest)
    yield EndLine(count, without_moment, len(contents.decisions) - count, dict(contents.mix))
