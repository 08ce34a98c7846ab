"""What was decided per node, in a form that can be written, read and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, repeat

from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts
from extender.decision.evaluate.verdict import Verdict
from extender.decision.replay.journal_lines import DecidedNodes, Runs


def answer_of(
    verdicts: NodeVerdicts, scores: Sequence[int] | None, positions: Iterable[int], decided: int | None, stall: str | None
) -> DecidedNodes:
    """Return an answer. `positions`: the nodes in the order in which they are written. `decided`: the row of the decided node."""
    order = list(positions)
    numbers: dict[tuple[str | None, float | None], int] = {}
    number_of: dict[int, int] = {}
    listed: list[int] = []
    for position in order:
        verdict = verdicts.objects[position]
        number = number_of.get(id(verdict))
        if number is None:
            number = number_of[id(verdict)] = numbers.setdefault(_content(verdict), len(numbers))
        listed.append(number)
    return DecidedNodes(
        verdicts=list(numbers),
        nodes=_runs(listed),
        scores=None if scores is None else _runs([scores[position] for position in order]),
        decided=decided,
        stall=stall,
    )


def _content(verdict: Verdict) -> tuple[str | None, float | None]:
    return verdict.reason, verdict.evidence.effective_gbps


def _runs(values: Iterable[int]) -> Runs:
    return [(value, sum(1 for _ in run)) for value, run in groupby(values)]


def values_of(runs: Runs) -> Iterator[int]:
    """Yield the value of each node."""
    return chain.from_iterable(repeat(value, count) for value, count in runs)


def length_of(runs: Runs) -> int:
    """Return the number of nodes."""
    return sum(count for _, count in runs)
