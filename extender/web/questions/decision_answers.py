"""The answers of `/v1/decisions`, and which decisions they contain. Pure: each is a function of the decisions that it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from extender.decision.report.prediction_outcomes import Outcome
from extender.decision.report.serializers import demand_answer, node_answer, outcome_answer
from extender.decision.request.inferred_workload import inferred
from extender.scheduling.decision_log import Decision, Result

MOST_VERDICTS = 50_000
"""Verdicts in one answer: some 50 MB of JSON."""


class DecisionAnswer(msgspec.Struct, frozen=True):
    """One answer to kube-scheduler."""

    decision_id: str
    """Identifies the decision: the start of the process, and a number that grows."""
    at_seconds: float
    """Unix time."""
    verb: str
    """filter or prioritize."""
    result: Result
    pod: str
    """namespace/name."""
    uid: str
    demand: dict[str, Any]
    took_seconds: float
    revision: int
    """Of the state that it was decided from."""
    replayable: bool
    """Whether the state is still kept, so that `fabricwise snapshot` contains it."""
    nodes: list[dict[str, Any]]
    """Every node with its verdict, evidence and score; the asked one alone with `node`."""
    outcome: dict[str, Any] | None
    """Which GPUs the pod got, beside the prediction; None where that is not known."""
    warnings: list[str]
    decided: str | None
    """The node that the pod is decided for."""
    id: str | None
    """Id of the placement record that is written to the pod; None where no node is decided."""
    error: str | None
    """Why there was no answer yet."""
    state_age_seconds: float


class DecisionsAnswer(msgspec.Struct, frozen=True):
    """Recent decisions, the newest first."""

    decisions: list[DecisionAnswer]
    truncated: bool
    """Whether fewer than `limit` are in this answer because it grew too long; `next` has the others."""
    next: str | None
    """The `cursor` of the next page; None where no older decision is kept."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which decisions are asked for. None: any."""

    pod: str | None = None
    """Its name, namespace/name or uid."""
    node: str | None = None
    """A node that was evaluated."""
    result: Result | None = None
    since_seconds: float | None = None
    """Unix time."""
    before: int | None = None
    """Only decisions with a smaller number."""

    def includes(self, decision: Decision) -> bool:
        """Whether a decision is asked for."""
        return (
            (self.before is None or number_of(decision.id) < self.before)
            and self.pod in (None, decision.pod, f"{decision.namespace}/{decision.pod}", decision.uid)
            and (self.since_seconds is None or decision.at_seconds >= self.since_seconds)
            and self.result in (None, decision.result)
            and (self.node is None or self.node in decision.names.texts)
        )


def number_of(decision_id: str) -> int:
    """Return the number in the id of a decision. Raises ValueError where the text is no id."""
    return int(decision_id.rpartition("-")[2])


OutcomeOf = Callable[[str], Outcome | None]
"""Uid of a pod -> which GPUs it got."""


def decisions_answer(decisions: Iterable[Decision], outcome_of: OutcomeOf, resource: str, *, limit: int, wanted: Wanted) -> DecisionsAnswer:
    """Return at most `limit` of the decisions that are asked for, in the given order; fewer where more would have over `MOST_VERDICTS`."""
    chosen, verdicts, truncated = list[Decision](), 0, False
    following: Decision | None = None
    for decision in _wanted(decisions, wanted):
        rows = 1 if wanted.node is not None else len(decision.names)
        truncated = bool(chosen) and verdicts + rows > MOST_VERDICTS
        if truncated or len(chosen) >= limit:
            following = decision
            break
        verdicts += rows
        chosen.append(decision)
    answers = [decision_answer(decision, outcome_of(decision.uid), resource, wanted.node) for decision in chosen]
    return DecisionsAnswer(answers, truncated, chosen[-1].id if following is not None else None)


def _wanted(decisions: Iterable[Decision], wanted: Wanted) -> Iterator[Decision]:
    return (decision for decision in decisions if wanted.includes(decision))


def decision_answer(decision: Decision, outcome: Outcome | None, resource: str, node: str | None = None) -> DecisionAnswer:
    """Return one decision; with `node` the verdict on that node alone."""
    pairs, decided = zip(decision.names.texts, decision.verdicts, strict=True), decision.decided_node
    return DecisionAnswer(
        decision_id=decision.id,
        at_seconds=decision.at_seconds,
        verb=decision.verb,
        result=decision.result,
        pod=f"{decision.namespace}/{decision.pod}",
        uid=decision.uid,
        demand=demand_answer(decision.demand),
        took_seconds=decision.took_seconds,
        revision=decision.revision,
        replayable=decision.moment is not None and decision.mix is not None,
        nodes=[node_answer(name, verdict, decision.ranks.get(verdict, name == decided)) for name, verdict in pairs if node in (None, name)],
        outcome=outcome_answer(outcome) if outcome else None,
        warnings=list(inferred(decision.spec, decision.demand, resource).warnings),
        decided=decided,
        id=decision.placement,
        error=decision.stall,
        state_age_seconds=round(decision.state_age_seconds, 1),
    )
