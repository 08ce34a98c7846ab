"""Decisions of a journal made again: by the function that every verb calls, with the settings of the journal or with others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from immutables import Map

from extender.decision.cycle.pod_groups import by_feasibility_in_group
from extender.decision.cycle.scheduling_cycle import Decide, EvaluationContext, Moment, by_feasibility, by_rank, evaluate_pod
from extender.decision.cycle.sent_nodes import with_sent_nodes
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import Policy
from extender.decision.evaluate.scorers import Ranker
from extender.decision.node.node_state import NodeDefaults
from extender.decision.replay.decided_nodes import answer_of, values_of
from extender.decision.replay.journal_lines import DecidedNodes
from extender.decision.replay.journal_reader import JournalReader, ReadDecision
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.state.isolation import described

MOST_DIFFERENT_NODES = 20
"""Nodes of a decision that are listed with both verdicts."""

_MOST_MIXES = 8
"""Mixes of sizes for which verdicts are kept."""

STATE_DROPPED = "the state that it was decided from is not kept any more"
MIX_CHANGED = "the mix of sizes changed while it was decided"
NODE_TWICE = "it names a node more than once"


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings that decisions depend on."""

    policy: Policy
    ranker: Ranker
    defaults: NodeDefaults
    resource: str


@dataclass(frozen=True, slots=True)
class NodeDifference:
    """What was decided about a node, and what is decided now."""

    node: str
    before: NodeAnswer
    after: NodeAnswer


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """What is decided about one node."""

    feasible: bool
    reason: str | None
    effective_gbps: float | None
    score: int | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """One decision made again."""

    id: str
    at_seconds: float
    verb: str
    pod: str
    """namespace/name."""
    nodes: int
    decided_before: str | None
    decided_after: str | None = None
    stall_before: str | None = None
    stall_after: str | None = None
    why_not: str | None = None
    """Why it cannot be replayed; None where it was."""
    differences: tuple[NodeDifference, ...] = ()
    """The first of the nodes that differ."""
    different_nodes: int = 0

    @property
    def is_identical(self) -> bool:
        """Whether everything is as it was."""
        is_same = self.decided_before == self.decided_after and self.stall_before == self.stall_after
        return self.why_not is None and is_same and not self.different_nodes


@dataclass(slots=True)
class _Evaluators:
    """An evaluator per mix of sizes: cached verdicts are valid for one mix."""

    policy: Policy
    by_mix: dict[tuple[tuple[int, float], ...], Evaluator] = field(default_factory=dict)

    def of(self, mix: Mapping[int, float]) -> Evaluator:
        """Return the evaluator for the mix that was in use, unless the settings have one."""
        wanted = dict(self.policy.size_mix or mix)
        key = tuple(wanted.items())
        if key not in self.by_mix:
            while len(self.by_mix) >= _MOST_MIXES:
                del self.by_mix[next(iter(self.by_mix))]
            self.by_mix[key] = Evaluator(replace(self.policy, size_mix=wanted))
        return self.by_mix[key]


def replayed(reader: JournalReader, configuration: Configuration, wanted: str | None = None) -> Iterator[Replayed]:
    """Yield each decision of a journal made again, or those whose id, or that of the placement record, is `wanted`. Raises JournalError."""
    evaluators = _Evaluators(configuration.policy)
    for read in reader.decisions(configuration.defaults):
        if wanted is None or wanted in (read.line.id, read.line.placement):
            yield _replayed(read, reader, configuration, evaluators)


def _replayed(read: ReadDecision, reader: JournalReader, configuration: Configuration, evaluators: _Evaluators) -> Replayed:
    line, meta = read.line, read.pod.metadata
    recorded = Replayed(
        id=line.id,
        at_seconds=line.at_seconds,
        verb=line.verb,
        pod=f"{meta.namespace or 'default'}/{meta.name}",
        nodes=len(read.names),
        decided_before=reader.node_name(line.answer.decided),
        stall_before=line.answer.stall,
    )
    if read.moment is None:
        return replace(recorded, why_not=STATE_DROPPED)
    if line.mix is None:
        return replace(recorded, why_not=MIX_CHANGED)
    if len(set(read.names)) != len(read.names):
        return replace(recorded, why_not=NODE_TWICE)
    try:
        answer, decided = decided_again(read, read.moment, configuration, evaluators.of(line.mix))
    except Exception as error:  # of a state that no API server allows; it must not hide the other decisions
        return replace(recorded, why_not=f"its evaluation failed: {described(error)}")
    differences = list(_differences(read.names, line.answer, answer))
    return replace(
        recorded,
        decided_after=decided,
        stall_after=answer.stall,
        differences=tuple(differences[:MOST_DIFFERENT_NODES]),
        different_nodes=len(differences),
    )


def decided_again(
    read: ReadDecision, moment: Moment, configuration: Configuration, evaluator: Evaluator
) -> tuple[DecidedNodes, str | None]:
    """Return (the answer, the decided node) of a decision made again at a moment."""
    context = EvaluationContext(evaluator, configuration.resource, configuration.defaults)
    if read.sent:
        snapshot = with_sent_nodes(moment.snapshot, Map(read.sent), configuration.resource, configuration.defaults)
        moment = replace(moment, snapshot=snapshot)
    is_ranked = read.line.verb == "prioritize"
    evaluation = evaluate_pod(
        context, moment, read.pod, read.names, decide_of(read.line.verb, read.pod, configuration.ranker), to_rank=is_ranked
    )
    scores = evaluation.scores() if is_ranked else None
    stall = evaluation.stall.value if evaluation.stall is not None else None
    return answer_of(evaluation.verdicts, scores, range(len(evaluation.names)), None, stall), evaluation.decided_node


def decide_of(verb: str, pod: Pod, ranker: Ranker) -> Decide:
    """Return how a verb decides."""
    if verb == "prioritize":
        return by_rank(ranker)
    return by_feasibility if pod.group is None else by_feasibility_in_group


def _differences(names: tuple[str, ...], before: DecidedNodes, after: DecidedNodes) -> Iterator[NodeDifference]:
    if after.nodes == before.nodes and after.verdicts == before.verdicts and after.scores == before.scores:
        return
    for name, old, new in zip(names, _answers(before, len(names)), _answers(after, len(names)), strict=True):
        if old != new:
            yield NodeDifference(name, old, new)


def _answers(answer: DecidedNodes, nodes: int) -> Iterator[NodeAnswer]:
    """Yield the answer about each node; about none where the pod was not evaluated."""
    numbers = list(values_of(answer.nodes))
    scores = [None] * nodes if answer.scores is None else list(values_of(answer.scores))
    if len(numbers) != nodes:
        yield from [NodeAnswer(False, None, None, None)] * nodes
        return
    for number, score in zip(numbers, scores, strict=True):
        reason, gbps = answer.verdicts[number]
        yield NodeAnswer(reason is None, reason, gbps, score)


def replayed_answer(decision: Replayed) -> dict[str, Any]:
    """Return a replayed decision as plain data."""
    return {
        "id": decision.id,
        "at_seconds": decision.at_seconds,
        "verb": decision.verb,
        "pod": decision.pod,
        "nodes": decision.nodes,
        "identical": decision.is_identical if decision.why_not is None else None,
        "why_not_replayed": decision.why_not,
        "decided": {"before": decision.decided_before, "after": decision.decided_after},
        "stall": {"before": decision.stall_before, "after": decision.stall_after},
        "different_nodes": decision.different_nodes,
        "differences": [
            {"node": each.node, "before": _node_answer(each.before), "after": _node_answer(each.after)} for each in decision.differences
        ],
    }


def _node_answer(answer: NodeAnswer) -> dict[str, Any]:
    return {
        "feasible": answer.feasible,
        "reason": answer.reason,
        "effective_gbps": answer.effective_gbps,
        "score": answer.score,
    }
