"""What each missing slot of one node is lost to.

The ideal is what the idle GPUs of a node could make if only their number counted. Obstacles are removed one after another, in the order of
the fields of `NodeSlots`, and what each removal adds was lost to that obstacle. So the parts add up, and a slot that two obstacles prevent
counts for the later one. Where a removal makes the device plugin choose less well, it adds nothing: no part is negative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import combinations

from msgspec.structs import replace as replaced

from extender.decision.evaluate import link_classes
from extender.decision.evaluate.policy import Policy
from extender.decision.node.devices.device_load import NO_TELEMETRY
from extender.decision.node.node_state import NodeState
from extender.decision.request.pod_request import Demand
from extender.decision.slots.node_idleness import NodeIdleness
from extender.decision.slots.slot_counter import SlotCounter
from topology.machine.hardware import mask_of, positions_of
from topology.placement.placement_table import PlacementTable
from topology.placement.set_table import MOST_LISTED_GPUS


@dataclass(frozen=True, slots=True)
class NodeSlots:
    """Slots of one node: now, and after each removal of an obstacle. No number is smaller than the one before it."""

    now: int
    schedulable: int
    """If the node were ready and not cordoned."""
    healthy: int
    """If, besides, all its GPUs were healthy."""
    unobstructed: int
    """If, besides, no idle GPU were in use by what Kubernetes does not show, and no telemetry were required."""
    arranged: int
    """If, besides, the pods on the node were arranged in the best way, as far as its links reach the floor."""
    ideal: int
    """The number of its idle GPUs, divided by the size."""


NO_SLOTS = NodeSlots(0, 0, 0, 0, 0, 0)


class LostSlots:
    """Counts the slots of nodes for one demand, and what the missing ones are lost to."""

    def __init__(self, demand: Demand, policy: Policy) -> None:
        self.counter = SlotCounter(demand, policy)
        self._without_telemetry = SlotCounter(_telemetry_ignored(demand), replace(policy, telemetry_required_for=frozenset()))

    def of(self, node: NodeIdleness) -> NodeSlots:
        """Return the slots of a node that is suitable for the demand."""
        demand, state = self.counter.demand, node.state
        ideal = node.idle // demand.total
        if not ideal:
            return NO_SLOTS
        schedulable = healthy = min(ideal, self.counter.count(state))
        if healthy < ideal:
            state = _with_all_healthy(node)
            healthy = max(healthy, min(ideal, self.counter.count(state)))
        unobstructed = healthy
        if unobstructed < ideal:
            unobstructed = max(healthy, min(ideal, self._without_telemetry.count(_unobstructed(node, state))))
        arranged = unobstructed
        if arranged < ideal:
            arranged = max(unobstructed, min(ideal, _most_slots(node, demand)))
        now = schedulable if node.is_schedulable else 0
        return NodeSlots(now, schedulable, healthy, unobstructed, arranged, ideal)


def _telemetry_ignored(demand: Demand) -> Demand:
    workload = demand.workload
    return demand if workload is None else replace(demand, workload=replaced(workload, telemetry_required=False))


def _with_all_healthy(node: NodeIdleness) -> NodeState:
    """Return the state as if no GPU were unhealthy or fenced: those that no pod holds are free."""
    state = node.state
    if state.healthy >= node.gpus and not state.faults and not state.device_telemetry.fenced_but_offered:
        return state
    recovered = node.offered & ~state.usable & ~node.held
    return replace(
        state,
        allocatable=node.gpus,
        healthy=node.gpus,
        usable=node.offered,
        faults=(),
        free_sets=tuple((free | recovered, chance) for free, chance in state.free_sets),
        device_telemetry=replaced(state.device_telemetry, fenced_but_offered=0),
    )


def _unobstructed(node: NodeIdleness, state: NodeState) -> NodeState:
    """Return the state with every idle GPU free, without telemetry. `state`: with all GPUs healthy.

    Where the devices of a pod are only predicted, its most probable ones are not idle.
    """
    if state.table is None:
        return replace(state, device_telemetry=NO_TELEMETRY)
    free = state.free_sets[0][0] if state.free_sets else 0
    others = positions_of(node.offered & ~free & ~node.held)
    missing = max(0, node.idle - free.bit_count())
    return replace(state, device_telemetry=NO_TELEMETRY, free_sets=((free | mask_of(others[:missing]), 1.0),))


def _most_slots(node: NodeIdleness, demand: Demand) -> int:
    """Return how many such pods the node could hold if it were empty and its GPUs were given in the best way."""
    wishes = demand.wishes
    if not demand.needs_links or (wishes.min_busbw_gbps is None and wishes.min_link is None):
        return node.gpus // demand.total
    if node.state.table is None:
        return 0
    return _most_disjoint(node.state.table, node.offered, demand.total, wishes.min_busbw_gbps, wishes.min_link)


@lru_cache(maxsize=1_024)
def _most_disjoint(table: PlacementTable, among: int, size: int, floor_gbps: float | None, min_link: int | None) -> int:
    """Return how many disjoint sets of `size` GPUs reach the floor and the link class. `among`: mask of positions.

    Exact for machines of up to eight GPUs; for larger ones the best sets are taken one after another.
    """

    def reaches(mask: int) -> bool:
        rank = link_classes.worst(table, mask) if min_link is not None else None
        return (floor_gbps is None or (table.busbw_gbps(mask) or 0.0) >= floor_gbps) and (rank is None or rank <= (min_link or 0))

    if table.size > MOST_LISTED_GPUS:
        return _best_first(table, among, size, reaches)
    good = [mask for mask in _subsets(among, size) if reaches(mask)]
    return _most_of(tuple(good), among)


def _subsets(among: int, size: int) -> list[int]:
    return [mask_of(positions) for positions in combinations(positions_of(among), size)]


def _most_of(sets: tuple[int, ...], free: int) -> int:
    """Return the largest number of disjoint ones of the sets within the mask `free`."""

    @cache
    def most(left: int) -> int:
        if not left:
            return 0
        lowest = left & -left
        used = (1 + most(left & ~mask) for mask in sets if mask & lowest and not mask & ~left)
        return max(most(left & ~lowest), max(used, default=0))

    return most(free)


def _best_first(table: PlacementTable, among: int, size: int, reaches: Callable[[int], bool]) -> int:
    """Return how many disjoint sets are found if the fastest one is taken first, until one does not reach what is asked for."""
    count, found = 0, table.extremes(among, size)
    while found is not None and reaches(found[0].mask):
        count, among = count + 1, among & ~found[0].mask
        found = table.extremes(among, size)
    return count
