"""FILTERS: does the node meet the pod's hard requirements? The first filter that rejects gives the reason.

Filters whose rejection no preemption can resolve come first, so that an unresolvable node is never reported as resolvable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from extender.decision.evaluate import link_classes
from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.node.devices.gpu_sharing import Sharing
from extender.decision.node.node_state import NodeState
from extender.decision.request.annotations import LINKS, SHARING
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Reason, Rejection
from extender.workload.memory import memory_class
from topology.devices.numa_alignment import TopologyManager
from topology.devices.replica_sharing import share_out
from topology.devices.set_prediction import SetPrediction
from topology.placement.placement_table import PlacementTable

Filter = Callable[[Demand, NodeState, Policy], Rejection | None]
"""(demand, node state, policy) -> rejection, or None where the node meets the requirement. The docstrings below state the requirement."""


def enough_gpus(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """The node offers as many GPUs as the pod requests, free or allocated."""
    order = state.kubelet.order
    offered = state.allocatable if order is None or demand.requests is not None else len(order)
    if demand.total <= offered:
        return None
    return Rejection(Reason.TOO_FEW_GPUS, f"pod requests {demand.total}, node offers {offered}")


def matching_devices(demand: Demand, _state: NodeState, _policy: Policy) -> Rejection | None:
    """As many of the node's devices match each of the pod's requests as it asks for, free or not."""
    for request in demand.requests.requests if demand.requests is not None else ():
        if request.group is not None and request.count > len(request.order):
            return Rejection(Reason.TOO_FEW_GPUS, f"a request of the pod's claims asks for {request.count}, {len(request.order)} match")
    return None


def devices_fit(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """The structured allocator finds devices for all of the pod's requests, for some set of GPUs that may be free."""
    if state.table is None or (demand.requests is None and state.kubelet.order is None):
        return None
    predictions = list(_predictions(demand, state, state.table))
    if not predictions or any(found.sets or found.approximate for found in predictions):
        return None
    return Rejection(Reason.TOO_FEW_FREE, "the free GPUs do not fit the pod's requests together")


def enough_healthy(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """As many of the node's GPUs as the pod requests are healthy."""
    if demand.total <= state.healthy:
        return None
    detail = f"pod requests {demand.total}, {state.healthy} of {state.allocatable} are healthy"
    if not state.faults or demand.total > state.healthy + len(state.faults):
        return Rejection(Reason.TOO_FEW_HEALTHY, detail)
    return Rejection(fault_reason(state.faults), f"{detail}; {faults_text(state.faults)}")


def enough_memory(demand: Demand, state: NodeState, policy: Policy) -> Rejection | None:
    """Each GPU has the memory the pod demands. Unknown memory is not rejected; it gives a neutral score."""
    need, have = demand.wishes.min_gpu_memory_bytes, state.gpu_memory_bytes
    if policy.enforce_inferred and demand.inferred_memory_bytes is not None:
        need = max(need or 0, demand.inferred_memory_bytes)
    if not demand.total or need is None or have is None or need <= have:
        return None
    return Rejection(
        Reason.TOO_SMALL_MEMORY, f"pod demands {need / 2**30:.1f} GiB per GPU, {state.product or 'GPU'} has {have / 2**30:.1f}"
    )


def of_a_memory_class(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """The node's GPUs have a memory class that the pod allows. Unknown memory is not rejected."""
    allowed, have = demand.wishes.gpu_memory_classes_gb, state.gpu_memory_bytes
    if not demand.total or allowed is None or have is None or memory_class(have) in allowed:
        return None
    detail = f"pod allows {', '.join(map(str, allowed))} GB, {state.product or 'GPU'} is of the {memory_class(have)} GB class"
    return Rejection(Reason.WRONG_MEMORY_CLASS, detail)


def new_enough(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """Compute capability, driver and CUDA version are at least what the pod demands. An unknown version is not rejected."""
    wishes, facts = demand.wishes, state.facts
    for name, need, have, reason in (
        ("compute capability", wishes.min_compute_capability, facts.compute_capability, Reason.COMPUTE_CAPABILITY),
        ("driver", wishes.min_driver, facts.driver, Reason.DRIVER_TOO_OLD),
        ("CUDA", wishes.min_cuda, facts.cuda, Reason.CUDA_TOO_OLD),
    ):
        if need is not None and have is not None and have < need:
            return Rejection(reason, f"pod demands {name} {_version(need)}, the node has {_version(have)}")
    return None


def _version(parts: tuple[int, ...]) -> str:
    return ".".join(map(str, parts))


def shares_as_allowed(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """The node's way of sharing GPUs is one the pod allows. By default a container with several GPUs allows whole GPUs only."""
    for sharing, most in sharing_of_requests(demand, state):
        allowed = demand.wishes.sharing
        if sharing is None or sharing in (("none",) if allowed is None and most > 1 else SHARING if allowed is None else allowed):
            continue
        if allowed is None:
            return Rejection(Reason.SPREADS_OVER_SHARED, f"{most} in one container, the node's are shared by {sharing}")
        return Rejection(Reason.SHARING_NOT_ALLOWED, f"pod allows {', '.join(allowed)}, the node's are {sharing}")
    return None


def sharing_of_requests(demand: Demand, state: NodeState) -> list[tuple[Sharing | None, int]]:
    """Return for each resource the pod requests: (how the node shares it, the highest request of one container)."""
    requests = [(state.sharing, max(demand.groups, default=demand.total))] if demand.total else []
    sharing_of = {resource_slice.resource: resource_slice.sharing for resource_slice in state.slices}
    for resource, _, most in demand.slices:
        requests.append((sharing_of.get(resource), most))
    return requests


def on_distinct_gpus(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """The node has as many GPUs as one container requests replicas: two replicas of one GPU are not two GPUs."""
    for sharing, most in sharing_of_requests(demand, state):
        if sharing is not None and sharing.replicated and most > 1 and state.physical is not None and most > state.physical:
            return Rejection(Reason.ONE_GPU_MANY_TIMES, f"{most} replicas in one container, the node has {state.physical} GPUs")
    return None


def on_distinct_replicas(demand: Demand, state: NodeState, policy: Policy) -> Rejection | None:
    """The replicas of one container come from different GPUs. NVIDIA's plugin takes each replica from the GPU with the fewest allocated.

    The allocated replicas count as spread evenly, because the same rule placed them.
    """
    most, gpus = max(demand.groups, default=0), state.physical
    if state.sharing is None or not state.sharing.replicated or most < 2 or not gpus or state.allocatable % gpus:
        return None
    each, taken = state.allocatable // gpus, state.requested
    free = [each - min(each, taken // gpus + (gpu < taken % gpus)) for gpu in range(gpus)]
    chance = sum(probability for shares, probability in share_out([each] * gpus, free, most).items() if max(shares) > 1)
    if chance <= policy.tolerated_chance:
        return None
    return Rejection(Reason.REPLICAS_MAY_COINCIDE, f"with {chance:.0%} two of its {most} replicas come from one GPU")


def enough_slices(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """The node offers the slices the pod requests, and each is large enough. kube-scheduler counts the free slices."""
    slices = {resource_slice.resource: resource_slice for resource_slice in state.slices}
    need = demand.wishes.min_gpu_memory_bytes
    for resource, count, _ in demand.slices:
        offered = slices.get(resource)
        if offered is None or offered.allocatable < count:
            return Rejection(Reason.TOO_FEW_GPUS, f"pod requests {count} {resource}, node offers {offered.allocatable if offered else 0}")
        if need is not None and offered.memory_bytes is not None and offered.memory_bytes < need:
            detail = f"pod demands {need / 2**30:.1f} GiB, one {resource} has {offered.memory_bytes / 2**30:.1f}"
            return Rejection(Reason.TOO_SMALL_MEMORY, detail)
    return None


def of_its_class(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """The node is in a pool of the pod's workload class, and the class allows the node's GPU product."""
    workload_class = demand.workload
    if workload_class is None:
        return None
    if workload_class.name not in state.pools:
        return Rejection(Reason.NOT_IN_POOL, f"class {workload_class.name}")
    if workload_class.takes_product(state.product) is False:
        products = ", ".join(workload_class.products)
        return Rejection(Reason.WRONG_PRODUCT, f"class {workload_class.name} takes {products}, not {state.product}")
    return None


def reaches_link(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """On an empty node, some set of healthy GPUs has the demanded link class. An unknown topology is rejected."""
    most = demand.wishes.min_link
    if most is None or not demand.needs_links:
        return None
    if state.table is None:
        return Rejection(Reason.LINK_CLASS_MISSING, f"pod demands {LINKS[most]}, topology unknown")
    joined = link_classes.largest(state.table, most, state.usable)
    if max(demand.groups) <= joined:
        return None
    return Rejection(Reason.LINK_CLASS_MISSING, f"pod demands {LINKS[most]} between {max(demand.groups)} GPUs, here it joins {joined}")


def keeps_link(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """Every set of GPUs the pod may get now has the demanded link class."""
    most, table = demand.wishes.min_link, state.table
    if most is None or table is None or not demand.needs_links:
        return None
    for prediction in _predictions(demand, state, table):
        for links in prediction.likeliest_links:
            worst = max((rank for mask in links if (rank := link_classes.worst(table, mask)) is not None), default=0)
            if worst > most:
                return Rejection(Reason.LINK_CLASS_TAKEN, f"pod demands {LINKS[most]}, it may get GPUs joined by {LINKS[worst]}")
    return None


def _predictions(demand: Demand, state: NodeState, table: PlacementTable) -> Iterator[SetPrediction]:
    """Yield a prediction of what the pod may get for each set of GPUs that may be free."""
    return (table.predictor.predict_sets(free, demand.asks, state.kubelet) for free, _ in state.free_sets)


def enough_free(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """As many GPUs as the pod requests are free, by Kubernetes' count and by the agent's allocations."""
    if demand.total <= state.free_count:
        return None
    return Rejection(Reason.TOO_FEW_FREE, f"pod requests {demand.total}, {state.free_count} of {state.allocatable} are free")


def admitted(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """The kubelet's Topology Manager admits the pod for some set of GPUs that may be free."""
    if state.kubelet.topology_manager is TopologyManager.NONE or state.table is None:
        return None
    predictions = list(_predictions(demand, state, state.table))
    if not predictions or any(prediction.sets for prediction in predictions):
        return None
    if not any(prediction.rejected for prediction in predictions):
        return None
    return Rejection(Reason.NUMA_ALIGNMENT, f"topology manager policy is {state.kubelet.topology_manager.value}")


def no_hazard(demand: Demand, state: NodeState, policy: Policy) -> Rejection | None:
    """The request cannot crash the device plugin, if the policy rejects that hazard."""
    if not policy.refuse_hazards or state.table is None:
        return None
    if any(prediction.hazard for prediction in _predictions(demand, state, state.table)):
        return Rejection(Reason.HAZARD, "the plugin may return a nil device for this request (go-gpuallocator PR 80)")
    return None


def reaches_floor(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """On an empty node, some set of healthy GPUs reaches the pod's lowest bandwidth. An unknown topology is rejected."""
    floor = demand.wishes.min_busbw_gbps
    if floor is None or not demand.needs_links:
        return None
    if state.table is None:
        return Rejection(Reason.LINK_TOO_SLOW, f"pod demands {floor:g} GB/s, topology unknown")
    for size in {size for size in demand.groups if size > 1}:
        extremes = state.table.extremes(state.usable, size)
        best = extremes[0].busbw_gbps if extremes else None
        if best is None or best < floor:
            return Rejection(Reason.LINK_TOO_SLOW, f"pod demands {floor:g} GB/s, the best {size} GPUs here give {best or 0:g}")
    return None


def keeps_floor(demand: Demand, state: NodeState, _policy: Policy) -> Rejection | None:
    """Every set of GPUs the pod may get now reaches its lowest bandwidth, however improbable the set is."""
    floor, table = demand.wishes.min_busbw_gbps, state.table
    if floor is None or table is None or not demand.needs_links:
        return None
    for prediction in _predictions(demand, state, table):
        for links in prediction.likeliest_links:
            speeds = [speed for mask in links if (speed := table.busbw_gbps(mask)) is not None]
            if speeds and min(speeds) < floor:
                return Rejection(Reason.LINK_TAKEN, f"pod demands {floor:g} GB/s, it may get {min(speeds):g}")
    return None


def fault_reason(faults: Sequence[tuple[int, str, bool]]) -> Reason:
    """Return the reason for several faults of `NodeState.faults` together: an XID takes precedence over memory errors."""
    return Reason.FATAL_XID if any(xid for _, _, xid in faults) else Reason.GPU_MEMORY_ERRORS


def faults_text(faults: Sequence[tuple[int, str, bool]]) -> str:
    """Return the faults as text, GPU by GPU."""
    return "; ".join(f"GPU {index}: {text}" for index, text, _ in faults)


FILTERS: tuple[Filter, ...] = (
    enough_gpus,
    matching_devices,
    enough_healthy,
    of_its_class,
    enough_slices,
    shares_as_allowed,
    on_distinct_gpus,
    enough_memory,
    of_a_memory_class,
    new_enough,
    reaches_link,
    reaches_floor,
    enough_free,
    devices_fit,
    on_distinct_replicas,
    admitted,
    keeps_link,
    keeps_floor,
    no_hazard,
)


def refuse(demand: Demand, state: NodeState, policy: Policy = DEFAULT_POLICY) -> Rejection | None:
    """Return the first rejection, or None if the node meets all requirements. A pod without GPUs has none."""
    if not demand.total and not demand.slices:
        return None
    if state.unjudged is not None and demand.requests is None:
        return None
    for check in FILTERS:
        rejection = check(demand, state, policy)
        if rejection is not None:
            return rejection
    return None
