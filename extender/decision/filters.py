"""FILTERS: may this pod go to this node? The first that refuses decides; order matters to what people read.

Hard facts no eviction can change come first, so that an unresolvable node is never reported as curable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from extender.decision import links
from extender.decision.annotations import LINKS, SHARING
from extender.decision.cluster import NodeState
from extender.decision.demand import Demand
from extender.decision.reasons import Reason, Rejection
from extender.decision.rules import RULES, Rules
from extender.decision.sharing import Sharing
from extender.workload.memory import memory_class
from topology.numa_alignment import TopologyManager
from topology.placement import PlacementTable
from topology.prediction import Prediction
from topology.sharing import share_out

Filter = Callable[[Demand, NodeState, Rules], Rejection | None]


def enough_gpus(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """The node offers as many GPUs as the pod asks for, free or not."""
    order = state.kubelet.order
    offered = state.allocatable if order is None or demand.requests is not None else len(order)
    if demand.total <= offered:
        return None
    return Rejection(Reason.TOO_FEW_GPUS, f"pod requests {demand.total}, node offers {offered}")


def matching_devices(demand: Demand, _state: NodeState, _rules: Rules) -> Rejection | None:
    """As many of the node's devices match each of the pod's requests as it asks for, free or not."""
    for request in demand.requests.requests if demand.requests is not None else ():
        if request.group is not None and request.count > len(request.order):
            return Rejection(Reason.TOO_FEW_GPUS, f"a request of the pod's claims asks for {request.count}, {len(request.order)} match")
    return None


def devices_fit(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """The structured allocator finds devices for all of the pod's requests, for some set of GPUs that may be free."""
    if state.table is None or (demand.requests is None and state.kubelet.order is None):
        return None
    predictions = list(_predictions(demand, state, state.table))
    if not predictions or any(found.outcomes or found.approximate for found in predictions):
        return None
    return Rejection(Reason.TOO_FEW_FREE, "the free GPUs do not fit the pod's requests together")


def enough_healthy(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """So many of them are healthy."""
    if demand.total <= state.healthy:
        return None
    said = f"pod requests {demand.total}, {state.healthy} of {state.allocatable} are healthy"
    if not state.faults or demand.total > state.healthy + len(state.faults):
        return Rejection(Reason.TOO_FEW_HEALTHY, said)
    return Rejection(fault_reason(state.faults), f"{said}; {faults_said(state.faults)}")


def enough_memory(demand: Demand, state: NodeState, rules: Rules) -> Rejection | None:
    """Each GPU has the memory the pod demands. Unknown memory is not refused; the score says it is unknown."""
    need, have = demand.wishes.min_gpu_memory_bytes, state.gpu_memory_bytes
    if rules.enforce_inferred and demand.inferred_memory_bytes is not None:
        need = max(need or 0, demand.inferred_memory_bytes)
    if not demand.total or need is None or have is None or need <= have:
        return None
    return Rejection(
        Reason.TOO_SMALL_MEMORY, f"pod demands {need / 2**30:.1f} GiB per GPU, {state.product or 'GPU'} has {have / 2**30:.1f}"
    )


def of_a_memory_class(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """Its GPUs are of a memory class that the pod allows."""
    allowed, have = demand.wishes.gpu_memory_classes_gb, state.gpu_memory_bytes
    if not demand.total or allowed is None or have is None or memory_class(have) in allowed:
        return None
    said = f"pod allows {', '.join(map(str, allowed))} GB, {state.product or 'GPU'} is of the {memory_class(have)} GB class"
    return Rejection(Reason.WRONG_MEMORY_CLASS, said)


def new_enough(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """Compute capability, driver and CUDA are at least what the pod demands. What is unknown is not refused."""
    asked, facts = demand.wishes, state.facts
    for name, need, have, reason in (
        ("compute capability", asked.min_compute_capability, facts.compute_capability, Reason.COMPUTE_CAPABILITY),
        ("driver", asked.min_driver, facts.driver, Reason.DRIVER_TOO_OLD),
        ("CUDA", asked.min_cuda, facts.cuda, Reason.CUDA_TOO_OLD),
    ):
        if need is not None and have is not None and have < need:
            return Rejection(reason, f"pod demands {name} {_version(need)}, the node has {_version(have)}")
    return None


def _version(parts: tuple[int, ...]) -> str:
    return ".".join(map(str, parts))


def shares_as_allowed(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """What it gets is of a kind it takes: by default whole GPUs where several work together, anything where each works alone."""
    for kind, most in kinds_of(demand, state):
        allowed = demand.wishes.sharing
        if kind is None or kind in (("none",) if allowed is None and most > 1 else SHARING if allowed is None else allowed):
            continue
        if allowed is None:
            return Rejection(Reason.SPREADS_OVER_SHARED, f"{most} in one container, the node's are shared by {kind}")
        return Rejection(Reason.SHARING_NOT_ALLOWED, f"pod allows {', '.join(allowed)}, the node's are {kind}")
    return None


def kinds_of(demand: Demand, state: NodeState) -> list[tuple[Sharing | None, int]]:
    """(what a unit is, most of them in one container) of each resource the pod asks for."""
    found = [(state.sharing, max(demand.groups, default=demand.total))] if demand.total else []
    offered = {one.resource: one.sharing for one in state.slices}
    for resource, _, most in demand.slices:
        found.append((offered.get(resource), most))
    return found


def on_distinct_gpus(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """A container that takes several replicas finds so many GPUs: two replicas of one GPU are not two GPUs."""
    for kind, most in kinds_of(demand, state):
        if kind is not None and kind.replicated and most > 1 and state.physical is not None and most > state.physical:
            return Rejection(Reason.ONE_GPU_MANY_TIMES, f"{most} replicas in one container, the node has {state.physical} GPUs")
    return None


def on_distinct_replicas(demand: Demand, state: NodeState, rules: Rules) -> Rejection | None:
    """The replicas of one container come from different GPUs, as NVIDIA's plugin shares out: each from the GPU of which least is taken.

    What is taken counts as spread evenly, as the same policy leaves it.
    """
    most, gpus = max(demand.groups, default=0), state.physical
    if state.sharing is None or not state.sharing.replicated or most < 2 or not gpus or state.allocatable % gpus:
        return None
    each, taken = state.allocatable // gpus, state.requested
    free = [each - min(each, taken // gpus + (place < taken % gpus)) for place in range(gpus)]
    chance = sum(one for shares, one in share_out([each] * gpus, free, most).items() if max(shares) > 1)
    if chance <= rules.tolerated_chance:
        return None
    return Rejection(Reason.REPLICAS_MAY_COINCIDE, f"with {chance:.0%} two of its {most} replicas come from one GPU")


def enough_slices(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """The node offers the slices the pod asks for, and each is large enough. kube-scheduler counts the free ones."""
    offered = {one.resource: one for one in state.slices}
    need = demand.wishes.min_gpu_memory_bytes
    for resource, count, _ in demand.slices:
        one = offered.get(resource)
        if one is None or one.allocatable < count:
            return Rejection(Reason.TOO_FEW_GPUS, f"pod requests {count} {resource}, node offers {one.allocatable if one else 0}")
        if need is not None and one.memory_bytes is not None and one.memory_bytes < need:
            said = f"pod demands {need / 2**30:.1f} GiB, one {resource} has {one.memory_bytes / 2**30:.1f}"
            return Rejection(Reason.TOO_SMALL_MEMORY, said)
    return None


def of_its_class(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """The node is in a pool of the pod's workload class, and its product is one the class allows."""
    found = demand.workload
    if found is None:
        return None
    if found.name not in state.pools:
        return Rejection(Reason.NOT_IN_POOL, f"class {found.name}")
    if found.takes_product(state.product) is False:
        return Rejection(Reason.WRONG_PRODUCT, f"class {found.name} takes {', '.join(found.products)}, not {state.product}")
    return None


def reaches_link(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """With every pod gone, the node's sound GPUs have sets joined by links of the class demanded. An unknown topology promises nothing."""
    most = demand.wishes.min_link
    if most is None or not demand.needs_links:
        return None
    if state.table is None:
        return Rejection(Reason.LINK_CLASS_MISSING, f"pod demands {LINKS[most]}, topology unknown")
    joined = links.largest(state.table, most, state.usable)
    if max(demand.groups) <= joined:
        return None
    return Rejection(Reason.LINK_CLASS_MISSING, f"pod demands {LINKS[most]} between {max(demand.groups)} GPUs, here it joins {joined}")


def keeps_link(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """Every set the pod may get is joined by links of that class."""
    most, table = demand.wishes.min_link, state.table
    if most is None or table is None or not demand.needs_links:
        return None
    for prediction in _predictions(demand, state, table):
        for outcome in prediction.outcomes:
            found = max((worst for mask in outcome.group_masks if (worst := links.worst(table, mask)) is not None), default=0)
            if found > most:
                return Rejection(Reason.LINK_CLASS_TAKEN, f"pod demands {LINKS[most]}, it may get GPUs joined by {LINKS[found]}")
    return None


def _predictions(demand: Demand, state: NodeState, table: PlacementTable) -> Iterator[Prediction]:
    """What the pod may get, for each set of GPUs that may be free."""
    return (table.predictor.predict(free, demand.asks, state.kubelet) for free, _ in state.beliefs)


def enough_free(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """So many are free, by Kubernetes' count and by what the agent saw."""
    if demand.total <= state.free_count:
        return None
    return Rejection(Reason.TOO_FEW_FREE, f"pod requests {demand.total}, {state.free_count} of {state.allocatable} are free")


def admitted(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """The kubelet's Topology Manager admits the pod for some set of GPUs that may be free."""
    if state.kubelet.topology_manager is TopologyManager.NONE or state.table is None:
        return None
    predictions = list(_predictions(demand, state, state.table))
    if not predictions or any(found.outcomes for found in predictions) or not any(found.rejected for found in predictions):
        return None
    return Rejection(Reason.NUMA_ALIGNMENT, f"topology manager policy is {state.kubelet.topology_manager.value}")


def no_hazard(demand: Demand, state: NodeState, rules: Rules) -> Rejection | None:
    """The device plugin cannot crash over the request, if the operator wants that ruled out."""
    if not rules.refuse_hazards or state.table is None:
        return None
    if any(prediction.hazard for prediction in _predictions(demand, state, state.table)):
        return Rejection(Reason.HAZARD, "the plugin may return a nil device for this request (go-gpuallocator PR 80)")
    return None


def reaches_floor(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """With every pod gone, the node's sound GPUs have sets that reach the pod's bandwidth floor. An unknown topology promises nothing."""
    floor = demand.wishes.min_busbw_gbps
    if floor is None or not demand.needs_links:
        return None
    if state.table is None:
        return Rejection(Reason.LINK_TOO_SLOW, f"pod demands {floor:g} GB/s, topology unknown")
    for size in {size for size in demand.groups if size > 1}:
        found = state.table.extremes(state.usable, size)
        best = found[0].busbw_gbps if found else None
        if best is None or best < floor:
            return Rejection(Reason.LINK_TOO_SLOW, f"pod demands {floor:g} GB/s, the best {size} GPUs here give {best or 0:g}")
    return None


def keeps_floor(demand: Demand, state: NodeState, _rules: Rules) -> Rejection | None:
    """Every set the pod may get reaches its bandwidth floor: a floor that holds by luck is none."""
    floor, table = demand.wishes.min_busbw_gbps, state.table
    if floor is None or table is None or not demand.needs_links:
        return None
    for prediction in _predictions(demand, state, table):
        for outcome in prediction.outcomes:
            speeds = [speed for mask in outcome.group_masks if (speed := table.busbw_gbps(mask)) is not None]
            if speeds and min(speeds) < floor:
                return Rejection(Reason.LINK_TAKEN, f"pod demands {floor:g} GB/s, it may get {min(speeds):g}")
    return None


def fault_reason(faults: Sequence[tuple[int, str, bool]]) -> Reason:
    """What to call faults of `NodeState.faults` together."""
    return Reason.FATAL_XID if any(xid for _, _, xid in faults) else Reason.GPU_MEMORY_ERRORS


def faults_said(faults: Sequence[tuple[int, str, bool]]) -> str:
    """The same in words, GPU by GPU."""
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


def refuse(demand: Demand, state: NodeState, rules: Rules = RULES) -> Rejection | None:
    """The first refusal, or None: the pod may go there. A pod without GPUs may go anywhere."""
    if not demand.total and not demand.slices:
        return None
    if state.unjudged is not None and demand.requests is None:
        return None
    for check in FILTERS:
        rejection = check(demand, state, rules)
        if rejection is not None:
            return rejection
    return None
