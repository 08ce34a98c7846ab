"""The evidence of a feasible node: what the pod may get there, over the sets of GPUs that may be free."""

from __future__ import annotations

from functools import lru_cache

from extender.decision.evaluate import link_classes
from extender.decision.evaluate.mask_evidence import mask_evidence, question_of, weighed
from extender.decision.evaluate.verdict import MOST_PROSPECTS, Evidence, Prospect, support_of
from extender.decision.node.allocation.free_sets import MOST_FREE_SETS
from extender.decision.node.node_state import NodeState
from extender.decision.request.pod_request import Demand
from topology.devices.prediction import DevicePlugin
from topology.devices.size_mix import SizeMix
from topology.machine.hardware import positions_of
from topology.placement.placement_table import PlacementTable

APPROXIMATE = "prediction is approximate"
HAZARD = "hazard: the device plugin may return a nil device for this request and crash"


def evidence_of(demand: Demand, state: NodeState, table: PlacementTable, mix: SizeMix, messages: str) -> Evidence:
    """Return the evidence for a feasible node: an expectation over the sets of GPUs that may be free, each with its probability, and over
    the sets that the device plugin may then choose. `messages`: a name of `topology.bandwidth.all_reduce.MESSAGE_MIXES`."""
    question = question_of(demand, messages, mix)
    whole = weighed([(chance, mask_evidence(table, state.kubelet, question, free)) for free, chance in state.free_sets])
    containers = _containers(demand, state, table)
    expected = whole.expected_gbps
    further = whole.chances[MOST_PROSPECTS:]
    return Evidence(
        best_gbps=whole.highest_gbps,
        expected_gbps=None if expected is None else round(expected, 6),
        worst_gbps=whole.lowest_gbps,
        effective_gbps=None if expected is None else round(whole.effective_gbps, 6),
        containers=containers,
        steered_for=state.kubelet.steering.messages if containers is not None else None,
        size_mix=state.kubelet.steering.size_mix if state.kubelet.device_plugin is DevicePlugin.STEERED else None,
        prospects=tuple(
            _prospect(_indices_of(state.indices, mask), chance, whole.speeds.get(mask)) for mask, chance in whole.chances[:MOST_PROSPECTS]
        ),
        further_sets=len(further),
        further_probability=round(sum(chance for _, chance in further), 6),
        support=support_of(mask for mask, _ in whole.chances),
        support_complete=not whole.approximate and len(state.free_sets) < MOST_FREE_SETS,
        worst_rank=_worst_rank(demand, state, table),
        marginals=tuple(round(chance, 9) for chance in whole.marginals),
        loss=max(0.0, whole.loss),
        least_loss=max(0.0, whole.least_loss),
        gpu_memory_bytes=state.gpu_memory_bytes,
        notes=(state.note, *((APPROXIMATE,) if whole.approximate else ()), *((HAZARD,) if whole.hazard else ())),
    )


def _prospect(gpus: tuple[int, ...], chance: float, speeds: tuple[float, float] | None) -> Prospect:
    """Return one set with its probability. `speeds`: the lowest and the highest GB/s of its divisions; None without links."""
    low, high = speeds or (None, None)
    return Prospect(gpus, round(chance, 6), low, None if low == high else high)


@lru_cache(maxsize=8_192)
def _indices_of(indices: tuple[int, ...], mask: int) -> tuple[int, ...]:
    """Return the nvidia-smi indices of a mask of positions, ascending. `indices`: that of each position."""
    return tuple(sorted(indices[position] for position in positions_of(mask)))


def _containers(demand: Demand, state: NodeState, table: PlacementTable) -> tuple[tuple[int, ...], ...] | None:
    """Return what each container that stays gets, where a steerer makes that certain; None elsewhere."""
    if state.kubelet.device_plugin is not DevicePlugin.STEERED or len(state.free_sets) != 1:
        return None
    outcomes = table.predictor.predict(state.free_sets[0][0], demand.steps, state.kubelet).outcomes
    if len(outcomes) != 1:
        return None
    return tuple(_indices_of(state.indices, mask) for mask in outcomes[0].group_masks)


def _worst_rank(demand: Demand, state: NodeState, table: PlacementTable) -> int | None:
    """Return the worst link rank in any set the pod may get; None without a preferred link, because only that scorer reads it."""
    if demand.wishes.preferred_link is None:
        return None
    predictions = (table.predictor.predict_sets(free, demand.asks, state.kubelet) for free, _ in state.free_sets)
    masks = {mask for prediction in predictions for _, links in prediction.sets for mask in links}
    return max((worst for mask in masks if (worst := link_classes.worst(table, mask)) is not None), default=None)
