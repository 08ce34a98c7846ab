"""FILTERS: may this pod go to this node? The first that refuses decides; order matters to what people read.

Hard facts no eviction can change come first, so that an unresolvable node is never reported as curable. LIVE_FILTERS come
after them: what telemetry says of the devices the pod may get, which the device plugin hands out without asking us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from extender.decision.cluster import NodeState
from extender.decision.demand import Demand
from extender.decision.reasons import Reason, Rejection
from extender.decision.rules import RULES, Rules
from extender.decision.standing import MEMORY_STEP_BYTES, Standing
from topology.hardware import positions_of
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
    said = f"pod requests {demand.total}, {state.healthy} of {state.allocatable} are healthy"
    if not state.faults or demand.total > state.healthy + len(state.faults):
        return Rejection(Reason.TOO_FEW_HEALTHY, said)
    return Rejection(_fault_reason(state.faults), f"{said}; {_faults_said(state.faults)}")


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


def _fault_reason(faults: Sequence[tuple[int, str, bool]]) -> Reason:
    return Reason.FATAL_XID if any(xid for _, _, xid in faults) else Reason.GPU_MEMORY_ERRORS


def _faults_said(faults: Sequence[tuple[int, str, bool]]) -> str:
    return "; ".join(f"GPU {index}: {text}" for index, text, _ in faults)


def sound(_demand: Demand, state: NodeState, marginals: Sequence[float], rules: Rules) -> Rejection | None:
    """The pod gets no fenced device: the device plugin may not know yet that it is broken, or may not care."""
    shunned = [position for position in positions_of(state.live.shunned) if marginals[position] > 0]
    chance = min(1.0, sum(marginals[position] for position in shunned))
    if chance <= rules.tolerated_chance:
        return None
    reached = {state.indices[position] for position in shunned}
    faults = [fault for fault in state.faults if fault[0] in reached]
    return Rejection(_fault_reason(faults), f"{_faults_said(faults)}; the device plugin would give it with {chance:.0%}")


def needed_bytes(demand: Demand, standing: Standing, rules: Rules) -> int | None:
    """Memory that must be free on a device for this pod: what it states, at most the usable share of the card; None: unknown card."""
    if standing.total_bytes is None:
        return None
    usable = int(rules.usable_memory_share * standing.total_bytes)
    return usable if demand.min_gpu_memory_bytes is None else min(demand.min_gpu_memory_bytes, usable)


def roomy(demand: Demand, state: NodeState, marginals: Sequence[float], rules: Rules) -> Rejection | None:
    """No device it may get holds so much that Kubernetes does not know of that the pod would not fit."""
    chance, words = 0.0, []
    for position, standing in enumerate(state.live.standings):
        if standing is None or standing.free_bytes is None or marginals[position] <= 0:
            continue
        need = needed_bytes(demand, standing, rules)
        if need is not None and standing.free_bytes + MEMORY_STEP_BYTES <= need:
            chance += marginals[position]
            words.append(f"GPU {state.indices[position]} has {standing.free_bytes / 2**30:.1f} GiB free of {need / 2**30:.1f} needed")
    if min(1.0, chance) <= rules.tolerated_chance:
        return None
    return Rejection(Reason.MEMORY_IN_USE, "; ".join(words))


def measured(demand: Demand, state: NodeState, marginals: Sequence[float], rules: Rules) -> Rejection | None:
    """Telemetry knows every device it may get, if its class demands that."""
    required = rules.telemetry_required_for
    if not required or not ("*" in required or demand.workload_class in required):
        return None
    standings = state.live.standings
    known = [p < len(standings) and (one := standings[p]) is not None and one.free_bytes is not None for p in range(len(marginals))]
    blind = [state.indices[p] for p, chance in enumerate(marginals) if chance > 0 and not known[p]]
    if marginals and not blind:
        return None
    words = f"nothing fresh is known of GPU {', '.join(map(str, blind))}" if blind else "its topology is unknown"
    return Rejection(Reason.TELEMETRY_UNKNOWN, words)


LiveFilter = Callable[[Demand, NodeState, Sequence[float], Rules], Rejection | None]

LIVE_FILTERS: tuple[LiveFilter, ...] = (sound, roomy, measured)


def refuse_live(demand: Demand, state: NodeState, marginals: Sequence[float], rules: Rules = RULES) -> Rejection | None:
    """The first refusal by telemetry; `marginals[p]` is the chance that the pod gets position p."""
    for check in LIVE_FILTERS:
        rejection = check(demand, state, marginals, rules)
        if rejection is not None:
            return rejection
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
