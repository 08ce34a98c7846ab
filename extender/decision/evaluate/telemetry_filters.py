"""LIVE_FILTERS: what telemetry says of the devices a pod may get, which the device plugin hands out without asking us. They
come after FILTERS."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from extender.decision.evaluate.filters import fault_reason, faults_said, kinds_of
from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.node.device_load import MEMORY_STEP_BYTES, DeviceLoad
from extender.decision.node.node_state import NodeState
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Reason, Rejection
from topology.machine.hardware import positions_of


def sound(_demand: Demand, state: NodeState, marginals: Sequence[float], policy: Policy) -> Rejection | None:
    """The pod gets no fenced device: the device plugin may not know yet that it is broken, or may not care. On shared GPUs it may
    get any card."""
    if not marginals and state.faults and state.physical:
        chance = len(state.faults) / state.physical
        words = f"{faults_said(state.faults)}; a share of it may be given with {chance:.0%}"
        return Rejection(fault_reason(state.faults), words) if chance > policy.tolerated_chance else None
    fenced_but_offered = [
        position for position in positions_of(state.device_telemetry.fenced_but_offered) if marginals and marginals[position] > 0
    ]
    chance = min(1.0, sum(marginals[position] for position in fenced_but_offered))
    if chance <= policy.tolerated_chance:
        return None
    reached = {state.indices[position] for position in fenced_but_offered}
    faults = [fault for fault in state.faults if fault[0] in reached]
    return Rejection(fault_reason(faults), f"{faults_said(faults)}; the device plugin would give it with {chance:.0%}")


def needed_bytes(demand: Demand, standing: DeviceLoad, policy: Policy) -> int | None:
    """Memory that must be free on a device for this pod: what it states, at most the usable share of the card; None: unknown card."""
    if standing.total_bytes is None:
        return None
    asked = demand.wishes
    if asked.min_free_memory_bytes is not None:
        return asked.min_free_memory_bytes
    usable = int(policy.usable_memory_share * standing.total_bytes)
    return usable if asked.min_gpu_memory_bytes is None else min(asked.min_gpu_memory_bytes, usable)


def roomy(demand: Demand, state: NodeState, marginals: Sequence[float], policy: Policy) -> Rejection | None:
    """No device it may get holds so much that Kubernetes does not know of that the pod would not fit."""
    if not marginals:
        return None
    chance, words = 0.0, []
    for position, standing in enumerate(state.device_telemetry.device_loads):
        if standing is None or standing.free_bytes is None or marginals[position] <= 0:
            continue
        need = needed_bytes(demand, standing, policy)
        if need is not None and standing.free_bytes + MEMORY_STEP_BYTES <= need:
            chance += marginals[position]
            words.append(f"GPU {state.indices[position]} has {standing.free_bytes / 2**30:.1f} GiB free of {need / 2**30:.1f} needed")
    if min(1.0, chance) <= policy.tolerated_chance:
        return None
    return Rejection(Reason.MEMORY_IN_USE, "; ".join(words))


def measured(demand: Demand, state: NodeState, marginals: Sequence[float], policy: Policy) -> Rejection | None:
    """Telemetry knows every device it may get, if its class demands that."""
    names = policy.telemetry_required_for
    by_class = demand.workload is not None and demand.workload.telemetry_required
    if not by_class and not (names and ("*" in names or demand.wishes.workload_class in names)):
        return None
    device_loads = state.device_telemetry.device_loads
    known = [p < len(device_loads) and (one := device_loads[p]) is not None and one.free_bytes is not None for p in range(len(marginals))]
    blind = [state.indices[p] for p, chance in enumerate(marginals) if chance > 0 and not known[p]]
    if marginals and not blind:
        return None
    words = f"nothing fresh is known of GPU {', '.join(map(str, blind))}" if blind else "its topology is unknown"
    return Rejection(Reason.TELEMETRY_UNKNOWN, words)


LiveFilter = Callable[[Demand, NodeState, Sequence[float], Policy], Rejection | None]


def roomy_when_shared(demand: Demand, state: NodeState, _marginals: Sequence[float], _policy: Policy) -> Rejection | None:
    """On shared GPUs: what is free on the card itself, whoever uses it, is what the pod says it needs. It may get any card."""
    shared = [kind for kind, _ in kinds_of(demand, state) if kind is not None and kind.replicated]
    need = demand.wishes.min_free_memory_bytes or demand.wishes.min_gpu_memory_bytes
    if not shared or need is None:
        return None
    free = [one.free_bytes for one in state.device_telemetry.device_loads if one is not None and one.free_bytes is not None]
    if not free or max(free) + MEMORY_STEP_BYTES > need:
        return None
    words = f"pod needs {need / 2**30:.1f} GiB, the emptiest of the node's shared GPUs has {max(free) / 2**30:.1f} free"
    return Rejection(Reason.MEMORY_IN_USE, words)


LIVE_FILTERS: tuple[LiveFilter, ...] = (sound, roomy, roomy_when_shared, measured)


def refuse_live(demand: Demand, state: NodeState, marginals: Sequence[float], policy: Policy = DEFAULT_POLICY) -> Rejection | None:
    """The first refusal by telemetry; `marginals[p]` is the chance that the pod gets position p."""
    for check in LIVE_FILTERS:
        rejection = check(demand, state, marginals, policy)
        if rejection is not None:
            return rejection
    return None
