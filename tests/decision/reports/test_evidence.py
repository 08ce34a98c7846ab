"""The evidence of a node: an expectation over the sets of GPUs that may be free, and over what the pod may get from each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision.evaluate.evidence import evidence_of
from extender.decision.evaluate.mask_evidence import mask_evidence, question_of, weighed
from extender.decision.evaluate.verdict import MOST_PROSPECTS, Evidence, masks_in
from extender.decision.node.node_state import NodeState
from extender.decision.request.pod_request import Demand
from tests.machines import machines
from topology.devices.numa_alignment import TopologyManager
from topology.devices.prediction import DevicePlugin, Kubelet, Outcome
from topology.machine.hardware import Machine, positions_of
from topology.placement.placement_table import PlacementTable
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of

MIX = ((1, 0.25), (2, 0.5), (4, 0.25))
KUBELETS = [Kubelet(policy, plugin) for policy in TopologyManager for plugin in DevicePlugin]
STEPS = [
    ((1, False),),
    ((2, False),),
    ((3, False),),
    ((1, False), (1, False)),
    ((2, False), (1, False)),
    ((1, False), (2, False)),
    ((2, True), (1, False)),
    ((1, True), (2, False)),
    ((2, True), (1, False), (1, False)),
]


@st.composite
def node_states(draw: st.DrawFn) -> NodeState:
    """A node with one to four sets of GPUs that may be free."""
    machine = draw(st.one_of(machines(most=5), st.sampled_from([machine_of("a40-bridge-pairs"), machine_of("dgx-1v")])))
    return state_of(machine, draw(st.lists(free_masks(machine), min_size=1, max_size=4, unique=True)), draw(st.sampled_from(KUBELETS)))


def free_masks(machine: Machine) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << len(machine.gpus)) - 1)


def state_of(machine: Machine, free_masks: list[int], kubelet: Kubelet) -> NodeState:
    """A node of which each of these masks may be free, the first with the highest probability."""
    weights = [len(free_masks) - place for place in range(len(free_masks))]
    size = len(machine.gpus)
    return NodeState(
        allocatable=size,
        requested=0,
        product=None,
        gpu_memory_bytes=None,
        table=table_for(machine),
        indices=tuple(range(size)),
        healthy=size,
        free_sets=tuple((mask, weight / sum(weights)) for mask, weight in zip(free_masks, weights, strict=True)),
        note="drawn",
        kubelet=kubelet,
    )


def demand_for(steps: tuple[tuple[int, bool], ...]) -> Demand:
    return Demand(steps, sum(size for size, _ in steps))


def cases(demand: Demand, state: NodeState, table: PlacementTable) -> Iterator[tuple[int, float, Outcome]]:
    """(mask of free GPUs, probability of it and of the outcome, outcome), before they are scaled to a sum of 1."""
    for free, chance in state.free_sets:
        for outcome in table.predictor.predict(free, demand.steps, state.kubelet).outcomes:
            yield free, chance * outcome.probability, outcome


def directly(demand: Demand, state: NodeState, table: PlacementTable) -> dict[str, object]:
    """The evidence as it is defined: a sum over every case."""
    found = list(cases(demand, state, table))
    total = sum(chance for _, chance, _ in found) or 1.0

    def expected(values: list[float]) -> float:
        return sum(chance * value for (_, chance, _), value in zip(found, values, strict=True)) / total

    def lost(free: int, taken: int) -> float:
        return table.capability(free, dict(MIX)) - table.capability(free & ~taken, dict(MIX))

    def least(free: int) -> float:
        return min((lost(free, outcome.taken) for mask, _, outcome in found if mask == free), default=0.0)

    speeds = [[gbps for mask in outcome.group_masks if (gbps := table.busbw_gbps(mask)) is not None] for _, _, outcome in found]
    mixed = [[gbps for mask in outcome.group_masks if (gbps := table.effective_gbps(mask, "mixed")) is not None] for _, _, outcome in found]
    linked = any(speeds)
    return {
        "expected_gbps": expected([min(each, default=0.0) for each in speeds]) if linked else None,
        "effective_gbps": expected([min(each, default=0.0) for each in mixed]) if linked else None,
        "loss": max(0.0, expected([lost(free, outcome.taken) for free, _, outcome in found])),
        "least_loss": max(0.0, sum(chance * least(free) for free, chance in state.free_sets)),
        "marginals": tuple(expected([float(outcome.taken >> p & 1) for _, _, outcome in found]) for p in range(table.size)),
        "support": sorted({outcome.taken for _, _, outcome in found}),
        "speeds": {
            positions_of(taken): (min(reached), max(reached))
            for taken in {outcome.taken for _, _, outcome in found}
            if (reached := [min(each) for each, (_, _, o) in zip(speeds, found, strict=True) if each and o.taken == taken])
        },
    }


def as_compared(evidence: Evidence) -> dict[str, object]:
    """The same values of the evidence."""
    return {
        "expected_gbps": evidence.expected_gbps,
        "effective_gbps": evidence.effective_gbps,
        "loss": evidence.loss,
        "least_loss": evidence.least_loss,
        "marginals": evidence.marginals,
        "support": sorted(masks_in(evidence.support or b"")),
        "speeds": {
            prospect.gpus: (prospect.busbw_gbps, prospect.most_busbw_gbps or prospect.busbw_gbps)
            for prospect in evidence.prospects
            if prospect.busbw_gbps is not None
        },
    }


@given(node_states(), st.sampled_from(STEPS))
def test_evidence_from_shared_parts_equals_the_sum_over_every_case(state: NodeState, steps: tuple[tuple[int, bool], ...]) -> None:
    assert state.table is not None
    demand = demand_for(steps)
    found = as_compared(evidence_of(demand, state, state.table, MIX, "mixed"))
    wanted = directly(demand, state, state.table)
    for name in wanted:
        if name == "speeds":
            assert found[name] == {gpus: wanted["speeds"][gpus] for gpus in found["speeds"]}  # type: ignore[index, attr-defined]
            if len(wanted["support"]) <= MOST_PROSPECTS:  # type: ignore[arg-type]
                assert found[name] == wanted[name]
        else:
            assert found[name] == pytest.approx(wanted[name], abs=2e-6), name


@given(node_states(), st.sampled_from(STEPS))
def test_prospects_are_the_most_probable_sets_and_the_rest_is_counted(state: NodeState, steps: tuple[tuple[int, bool], ...]) -> None:
    assert state.table is not None
    demand = demand_for(steps)
    found = evidence_of(demand, state, state.table, MIX, "mixed")
    chances: dict[tuple[int, ...], float] = {}
    for _, chance, outcome in cases(demand, state, state.table):
        gpus = positions_of(outcome.taken)
        chances[gpus] = chances.get(gpus, 0.0) + chance
    total = sum(chances.values()) or 1.0
    assert len(found.prospects) + found.further_sets == len(chances)
    listed = sum(prospect.probability for prospect in found.prospects)
    assert listed + found.further_probability == pytest.approx(1.0 if chances else 0.0, abs=1e-4)
    for prospect in found.prospects:
        assert prospect.probability == pytest.approx(chances[prospect.gpus] / total, abs=1e-6)
    assert [prospect.probability for prospect in found.prospects] == sorted((p.probability for p in found.prospects), reverse=True)


def test_free_set_in_which_the_pod_finds_no_place_counts_for_the_least_loss_only() -> None:
    state = state_of(machine_of("dgx-1v"), [0b1111, 0b1], Kubelet())
    assert state.table is not None
    question = question_of(demand_for(((2, False),)), "mixed", MIX)
    placed = mask_evidence(state.table, state.kubelet, question, 0b1111)
    nowhere = mask_evidence(state.table, state.kubelet, question, 0b1)
    assert not nowhere.chances
    both = weighed([(0.75, placed), (0.25, nowhere)])
    assert (both.chances, both.marginals) == (placed.chances, placed.marginals)
    assert both.loss == pytest.approx(placed.loss)
    assert both.least_loss == pytest.approx(0.75 * placed.least_loss)


def test_states_with_the_same_free_gpus_share_one_part() -> None:
    table, question = table_for(machine_of("hgx-h100")), question_of(demand_for(((2, False), (1, False))), "mixed", MIX)
    assert mask_evidence(table, Kubelet(), question, 0b111) is mask_evidence(table, Kubelet(), question, 0b111)
