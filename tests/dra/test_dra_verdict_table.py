"""The table of verdicts gives the verdicts of the plain evaluation where every node has devices of its own."""

from __future__ import annotations

import random

import pytest

from extender.decision.cycle.scheduling_cycle import demand_in
from extender.decision.evaluate.by_name.node_names import NodeNames
from extender.decision.evaluate.by_name.node_verdicts import NodeVerdicts
from extender.decision.evaluate.by_name.verdict_table import Unevaluated, VerdictTable
from extender.decision.evaluate.evaluator import Evaluator, evaluate_nodes
from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.request.pod_request import Demand
from extender.decision.state.fold.reducer import fold_all
from extender.kube.objects.decode import gone, seen
from extender.server.from_settings import ranker
from extender.settings import Scoring
from extender.sources.simulated_dra import allocated, claim_manifest, class_manifest, exact_request
from tests.dra.dra_objects import claim_pod, dra_node
from tests.objects import GPU, node, pod, pod_struct, snapshot, topology

NAMES = [f"n{number}" for number in range(8)]
PODS = (pod(2), pod(1, 1), claim_pod("two"), claim_pod("four"))
CLAIMS = tuple(claim_manifest(name, [exact_request(count)], "team") for name, count in (("two", 2), ("four", 4)))


def objects(chance: random.Random) -> list[dict[str, object]]:
    """Some nodes that ResourceSlices describe, each in an order of its own, and some with a device plugin."""
    manifests: list[dict[str, object]] = [class_manifest(), *CLAIMS]
    for name in NAMES:
        order = chance.sample(range(8), 8)
        manifests += dra_node(name, order=order) if chance.random() < 0.6 else [node(name), topology(name, "hgx-h100")]
    return manifests


@pytest.mark.parametrize("seed", range(8))
def test_table_gives_the_verdicts_of_the_plain_evaluation_while_claims_come_and_go(seed: int) -> None:
    chance = random.Random(seed)
    state, evaluator, scoring = snapshot(*objects(chance)), Evaluator(DEFAULT_POLICY), ranker(Scoring())
    table = VerdictTable(evaluator, scoring)
    for number in range(12):
        place, devices = chance.choice(NAMES), [f"gpu-{index}" for index in chance.sample(range(8), chance.randrange(1, 4))]
        claim = allocated(
            claim_manifest(f"held-{chance.randrange(4)}", [exact_request(1)], "team"), place, devices, [(f"uid-{number}", "other")]
        )
        state = fold_all(state, [(gone if chance.random() < 0.3 else seen)("ResourceClaim", claim)], GPU)
        wanted = demand_in(state, pod_struct(chance.choice(PODS)), GPU)
        assert isinstance(wanted, Demand)
        names = NodeNames(chance.sample(NAMES, chance.randrange(1, 9)))
        found = table.verdicts(state, wanted, names, {}, to_rank=True)
        if isinstance(found, Unevaluated):
            table.evaluate(found)
            found = table.verdicts(state, wanted, names, {}, to_rank=True)
        assert isinstance(found, NodeVerdicts)
        expected = evaluate_nodes(Evaluator(Policy(evaluator.size_mix)), state, wanted, names.texts)
        assert [(one.rejection, one.evidence) for one in found] == [(one.rejection, one.evidence) for one in expected]
        assert scoring.rank(wanted, found).scores.tolist() == ranker(Scoring()).rank(wanted, expected).scores.tolist()
