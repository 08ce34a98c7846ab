"""TELEMETRY_FILTERS: does telemetry of the devices the pod may get allow the pod? They run after FILTERS.

The device plugin, not fabricwise, chooses the devices, so each filter compares the probability of a bad device with
`Policy.tolerated_chance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from extender.decision.evaluate.filters import fault_reason, faults_text, sharing_of_requests
from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.node.devices.device_load import MEMORY_STEP_BYTES, DeviceLoad
from extender.decision.node.node_state import NodeState
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Reason, Rejection
from topology.machine.hardware import positions_of


def no_faulty_gpu(_demand: Demand, state: NodeState, marginals: Sequence[float], policy: Policy) -> Rejection | None:
    """Refuse where the pod may get a fenced device, which the device plugin still offers. With shared GPUs the pod may get any GPU."""
    if not marginals and state.faults and state.physical:
        chance = len(state.faults) / state.physical
        words = f"{faults_text(state.faults)}; a share of it may be given with {chance:.0%}"
        return Rejection(fault_reason(state.faults), words) if chance > policy.tolerated_chance else None
    fenced_but_offered = [
        position for position in positions_of(state.device_telemetry.fenced_but_offered) if marginals and marginals[position] > 0
    ]
    chance = min(1.0, sum(marginals[position] for position in fenced_but_offered))
    if chance <= policy.tolerated_chance:
        return None
    reached = {state.indices[position] for position in fenced_but_offered}
    faults = [fault for fault in state.faults if fault[0] in reached]
    return Rejection(fault_reason(faults), f"{faults_text(faults)}; the device plugin would give it with {chance:.0%}")


def needed_bytes(demand: Demand, device_load: DeviceLoad, policy: Policy) -> int | None:
    """Return the bytes that must be free on a device for this pod: what the pod states, at most the usable share of the device's memory.

    None if the device's memory is unknown.
    """
    if device_load.total_bytes is None:
        return None
    wishes = demand.wishes
    if wishes.min_free_memory_bytes is not None:
        return wishes.min_free_memory_bytes
    usable = int(policy.usable_memory_share * device_load.total_bytes)
    return usable if wishes.min_gpu_memory_bytes is None else min(wishes.min_gpu_memory_bytes, usable)


def enough_free_memory(demand: Demand, state: NodeState, marginals: Sequence[float], policy: Policy) -> Rejection | None:
    """Refuse where a device the pod may get has too little free memory, because of processes that Kubernetes does not know."""
    if not marginals:
        return None
    chance, words = 0.0, []
    for position, device_load in enumerate(state.device_telemetry.device_loads):
        if device_load is None or device_load.free_bytes is None or marginals[position] <= 0:
            continue
        need = needed_bytes(demand, device_load, policy)
        if need is not None and device_load.free_bytes + MEMORY_STEP_BYTES <= need:
            chance += marginals[position]
            words.append(f"GPU {state.indices[position]} has {device_load.free_bytes / 2**30:.1f} GiB free of {need / 2**30:.1f} needed")
    if min(1.0, chance) <= policy.tolerated_chance:
        return None
    return Rejection(Reason.MEMORY_IN_USE, "; ".join(words))


def telemetry_known(demand: Demand, state: NodeState, marginals: Sequence[float], policy: Policy) -> Rejection | None:
    """Refuse where a device the pod may get has no telemetry, if the pod's workload class or the policy requires telemetry."""
    names = policy.telemetry_required_for
    by_class = demand.workload is not None and demand.workload.telemetry_required
    if not by_class and not (names and ("*" in names or demand.wishes.workload_class in names)):
        return None
    device_loads = state.device_telemetry.device_loads
    known = [
        position < len(device_loads) and (load := device_loads[position]) is not None and load.free_bytes is not None
        for position in range(len(marginals))
    ]
    unknown = [state.indices[position] for position, chance in enumerate(marginals) if chance > 0 and not known[position]]
    if marginals and not unknown:
        return None
    words = f"nothing fresh is known of GPU {', '.join(map(str, unknown))}" if unknown else "its topology is unknown"
    return Rejection(Reason.TELEMETRY_UNKNOWN, words)


TelemetryFilter = Callable[[Demand, NodeState, Sequence[float], Policy], Rejection | None]
"""(demand, node state, probability per position that the pod gets it, policy) -> rejection, or None where the pod is allowed."""


def enough_free_memory_when_shared(demand: Demand, state: NodeState, _marginals: Sequence[float], _policy: Policy) -> Rejection | None:
    """Refuse where no shared GPU has the free memory that the pod states it needs. The pod may get any of them."""
    shared = [sharing for sharing, _ in sharing_of_requests(demand, state) if sharing is not None and sharing.replicated]
    need = demand.wishes.min_free_memory_bytes or demand.wishes.min_gpu_memory_bytes
    if not shared or need is None:
        return None
    free = [load.free_bytes for load in state.device_telemetry.device_loads if load is not None and load.free_bytes is not None]
    if not free or max(free) + MEMORY_STEP_BYTES > need:
        return None
    words = f"pod needs {need / 2**30:.1f} GiB, the emptiest of the node's shared GPUs has {max(free) / 2**30:.1f} free"
    return Rejection(Reason.MEMORY_IN_USE, words)


TELEMETRY_FILTERS: tuple[TelemetryFilter, ...] = (no_faulty_gpu, enough_free_memory, enough_free_memory_when_shared, telemetry_known)


def refuse_by_telemetry(demand: Demand, state: NodeState, marginals: Sequence[float], policy: Policy = DEFAULT_POLICY) -> Rejection | None:
    """Return the first rejection by telemetry, or None. `marginals[p]` is the probability that the pod gets position p."""
    for check in TELEMETRY_FILTERS:
        rejection = check(demand, state, marginals, policy)
        if rejection is not None:
            return rejection
    return None
