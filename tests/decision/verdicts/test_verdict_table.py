"""Verdicts from arrays are the verdicts of the plain evaluation, whatever has changed between two requests."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from extender.decision.evaluate.by_name import verdict_table
from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts
from extender.decision.evaluate.by_name.verdict_table import Unevaluated, VerdictTable
from extender.decision.evaluate.evaluator import Evaluator, evaluate_nodes
from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.request.pod_request import Demand, demand_of
from extender.decision.state.changes import Change, NodeGone, PodGone
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.pods import ExtraPods
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import seen
from extender.server.from_settings import ranker
from extender.settings import Scoring
from tests.objects import GPU, node, pod, pod_struct, snapshot, topology

NAMES = [f"node-{number}" for number in range(12)]
PLATFORMS = (("t4", 4), ("hgx-h100", 8), ("dgx-1v", 8), ("a100-pcie-bridge-pairs", 8))
REQUESTS = (pod(1), pod(2), pod(4), pod(8), pod(2, annotations={"fabricwise.dev/min-busbw": "40"}))


def machine(name: str, platform: str, gpus: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return node(name, gpus), topology(name, platform)


def demand(manifest: dict[str, Any]) -> Demand:
    found = demand_of(pod_struct(manifest), GPU)
    assert isinstance(found, Demand)
    return found


DEMANDS = [demand(manifest) for manifest in REQUESTS]


def verdicts_of(table: VerdictTable, state: Snapshot, wanted: Demand, names: NodeNames, extra: ExtraPods) -> NodeVerdicts:
    """Return the table's verdicts; what it lacks is evaluated first."""
    found = table.verdicts(state, wanted, names, extra, to_rank=True)
    if isinstance(found, Unevaluated):
        table.evaluate(found)
        found = table.verdicts(state, wanted, names, extra, to_rank=True)
    assert isinstance(found, NodeVerdicts)
    return found


def random_change(chance: random.Random, number: int) -> list[Change]:
    name = chance.choice(NAMES)
    match chance.randrange(4):
        case 0:
            return [NodeGone(name)]
        case 1:
            platform, gpus = chance.choice(PLATFORMS)
            return [seen(thing["kind"], thing) for thing in machine(name, platform, gpus)]
        case 2:
            return [seen("Pod", pod(chance.choice((1, 2, 4)), name=f"pod-{chance.randrange(20)}", node=name))]
        case _:
            return [PodGone(f"uid-pod-{chance.randrange(20)}")]


@pytest.mark.parametrize("seed", range(25))
def test_table_gives_the_verdicts_and_scores_of_the_plain_evaluation_after_any_changes(seed: int) -> None:
    chance = random.Random(seed)
    scoring, plain = ranker(Scoring()), ranker(Scoring())
    evaluator = Evaluator(Policy({1: 0.5, 4: 0.5}) if seed % 2 else DEFAULT_POLICY)
    table = VerdictTable(evaluator, scoring)
    states = [snapshot(*(thing for name in NAMES[:6] for thing in machine(name, *chance.choice(PLATFORMS))))]
    kept = NodeNames(NAMES)
    for number in range(40):
        changes = [change for _ in range(chance.randrange(4)) for change in random_change(chance, number)]
        states.append(fold_all(states[-1], changes, GPU))
        if chance.random() < 0.2:
            evaluator.learn(states[-1])
        state = chance.choice(states) if chance.random() < 0.1 else states[-1]  # now and then an older one
        wanted = chance.choice(DEMANDS)
        names = kept if chance.random() < 0.5 else NodeNames(chance.sample([*NAMES, "nowhere"], chance.randrange(1, 13)))
        extra = {name: (chance.choice(DEMANDS),) for name in chance.sample(NAMES, chance.randrange(3))}
        found = verdicts_of(table, state, wanted, names, extra)
        expected = evaluate_nodes(Evaluator(Policy(evaluator.size_mix)), state, wanted, names.texts, extra)
        assert [(one.rejection, one.evidence) for one in found] == [(one.rejection, one.evidence) for one in expected]
        assert found.codes.tolist() == expected.codes.tolist()
        ranks, plain_ranks = scoring.rank(wanted, found), plain.rank(wanted, expected)
        assert ranks.scores.tolist() == plain_ranks.scores.tolist()
        assert ranks.decided(names, "uid") == plain_ranks.decided(NodeNames(names.texts), "uid")


def test_more_states_than_a_few_are_unevaluated_until_they_are_evaluated_elsewhere() -> None:
    state = snapshot(*(node(f"n{gpus}", gpus) for gpus in range(1, 9)))
    table = VerdictTable(Evaluator(DEFAULT_POLICY), ranker(Scoring()))
    names, wanted = NodeNames(sorted(state.views)), demand(pod(3))
    found = table.verdicts(state, wanted, names, {})
    assert isinstance(found, Unevaluated)
    table.evaluate(found)
    evaluated = table.verdicts(state, wanted, names, {})
    assert isinstance(evaluated, NodeVerdicts)
    assert np.count_nonzero(evaluated.feasible) == 6


def test_evaluation_that_raised_is_repeated_after_the_next_change() -> None:
    evaluator = Evaluator(DEFAULT_POLICY)
    table = VerdictTable(evaluator, ranker(Scoring()))
    state, names, wanted = snapshot(node("n", 4)), NodeNames(["n"]), demand(pod(1))
    evaluator.remembered(wanted)[state.views["n"].state] = evaluator.broken(wanted, state.views["n"].state, ValueError("once"))
    assert not verdicts_of(table, state, wanted, names, {}).feasible.any()
    evaluator.remembered(wanted).clear()
    assert verdicts_of(table, state, wanted, names, {}).feasible.all()


def test_snapshot_in_which_many_nodes_differ_is_taken_over_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict_table, "_MOST_FOLLOWED", 3)
    table, wanted = VerdictTable(Evaluator(DEFAULT_POLICY), ranker(Scoring())), demand(pod(3))
    first = snapshot(*(node(f"n{number}", 4) for number in range(8)))
    names = NodeNames(sorted(first.views))
    found = table.verdicts(first, wanted, names, {})
    assert isinstance(found, Unevaluated)
    newer = fold_all(first, [NodeGone("n0"), *(seen("Node", node(f"n{number}", 2)) for number in range(1, 7))], GPU)
    assert isinstance(table.verdicts(newer, wanted, names, {}), Unevaluated)
    table.evaluate(found)  # of the older snapshot: the newer one stays
    for _ in range(4):
        if isinstance(evaluated := table.verdicts(newer, wanted, names, {}), Unevaluated):
            table.evaluate(evaluated)
    assert isinstance(evaluated, NodeVerdicts)
    assert [verdict.reason for verdict in evaluated] == [
        verdict.reason for verdict in evaluate_nodes(Evaluator(DEFAULT_POLICY), newer, wanted, names)
    ]
