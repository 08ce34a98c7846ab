"""FILTERS: may this pod go to this node? The first that refuses decides; order matters to what people read.

Hard facts no eviction can change come first, so that an unresolvable node is never reported as curable.
"""

from __future__ import annotations

from collections.abc import Callable

from extender.decision.cluster import NodeState
from extender.decision.demand import Demand
from extender.decision.reasons import Reason, Rejection
from extender.decision.rules import RULES, Rules
from topology.numa_alignment import TopologyManager

Filter = Callable[[Demand, NodeState, Rules], Rejection | None]


def enough_gpus(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """The node offers as many GPUs as the pod asks for, free or not."""
    if demand.total <= state.allocatable:
        return None
    return Rejection(Reason.TOO_FEW_GPUS, f"pod requests {demand.total}, node offers {state.allocatable}")


def enough_healthy(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """So many of them are healthy."""
    if demand.total <= state.healthy:
        return None
    return Rejection(Reason.TOO_FEW_HEALTHY, f"pod requests {demand.total}, {state.healthy} of {state.allocatable} are healthy")


def enough_memory(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """Each GPU has the memory the pod demands. Unknown memory is not refused; the score says it is unknown."""
    need, have = demand.min_gpu_memory_bytes, state.gpu_memory_bytes
    if need is None or have is None or need <= have:
        return None
    return Rejection(
        Reason.TOO_SMALL_MEMORY, f"pod demands {need / 2**30:.1f} GiB per GPU, {state.product or 'GPU'} has {have / 2**30:.1f}"
    )


def enough_free(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """So many are free, by Kubernetes' count and by what the agent saw."""
    if demand.total <= state.free_count:
        return None
    return Rejection(Reason.TOO_FEW_FREE, f"pod requests {demand.total}, {state.free_count} of {state.allocatable} are free")


def admitted(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """The kubelet's Topology Manager admits the pod for some set of GPUs that may be free."""
    if state.kubelet.topology_manager is TopologyManager.NONE or state.table is None:
        return None
    predictions = [state.table.predictor.predict(free, demand.steps, state.kubelet) for free, _ in state.beliefs]
    if not predictions or any(found.outcomes for found in predictions) or not any(found.rejected for found in predictions):
        return None
    return Rejection(Reason.NUMA_ALIGNMENT, f"topology manager policy is {state.kubelet.topology_manager.value}")


def no_hazard(demand: Demand, state: NodeState, rules: Rules) -> Rejection | None:
    """The device plugin cannot crash over the request, if the operator wants that ruled out."""
    if not rules.refuse_hazards or state.table is None:
        return None
    if any(state.table.predictor.predict(free, demand.steps, state.kubelet).hazard for free, _ in state.beliefs):
        return Rejection(Reason.HAZARD, "the plugin may return a nil device for this request (go-gpuallocator PR 80)")
    return None


def reaches_floor(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """With all its GPUs free the node has sets that reach the pod's bandwidth floor. An unknown topology promises nothing."""
    floor = demand.min_busbw_gbps
    if floor is None or not demand.needs_links:
        return None
    if state.table is None:
        return Rejection(Reason.LINK_TOO_SLOW, f"pod demands {floor:g} GB/s, topology unknown")
    for size in {size for size in demand.groups if size > 1}:
        found = state.table.extremes((1 << state.table.size) - 1, size)
        best = found[0].busbw_gbps if found else None
        if best is None or best < floor:
            return Rejection(Reason.LINK_TOO_SLOW, f"pod demands {floor:g} GB/s, the best {size} GPUs here give {best or 0:g}")
    return None


def keeps_floor(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """Every set the pod may get reaches its bandwidth floor: a floor that holds by luck is none."""
    floor, table = demand.min_busbw_gbps, state.table
    if floor is None or table is None or not demand.needs_links:
        return None
    for free, _ in state.beliefs:
        for outcome in table.predictor.predict(free, demand.steps, state.kubelet).outcomes:
            speeds = [speed for mask in outcome.group_masks if (speed := table.busbw_gbps(mask)) is not None]
            if speeds and min(speeds) < floor:
                return Rejection(Reason.LINK_TAKEN, f"pod demands {floor:g} GB/s, it may get {min(speeds):g}")
    return None


FILTERS: tuple[Filter, ...] = (
    enough_gpus,
    enough_healthy,
    enough_memory,
    reaches_floor,
    enough_free,
    admitted,
    keeps_floor,
    no_hazard,
)


def refuse(demand: Demand, state: NodeState, rules: Rules = RULES) -> Rejection | None:
    """The first refusal, or None: the pod may go there. A pod without GPUs may go anywhere."""
    if not demand.total:
        return None
    for check in FILTERS:
        rejection = check(demand, state, rules)
        if rejection is not None:
            return rejection
    return None
