"""How many more pods of one demand a node takes, one after another, with the filters of live requests.

After each pod its most probable GPUs are taken: as if it had been bound and its devices had been seen before the next pod comes.
"""

from __future__ import annotations

from dataclasses import replace

from extender.decision.evaluate.filters import (
    Filter,
    enough_memory,
    new_enough,
    of_a_memory_class,
    of_its_class,
    on_distinct_gpus,
    refuse,
    shares_as_allowed,
)
from extender.decision.evaluate.policy import Policy
from extender.decision.evaluate.telemetry_filters import refuse_by_telemetry
from extender.decision.node.node_state import NodeState
from extender.decision.node.steered_kubelet import as_decided
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Rejection
from topology.devices.numa_alignment import TopologyManager
from topology.machine.hardware import positions_of
from topology.placement.placement_table import PlacementTable

MOST_REPLICAS = 1_024
"""Pods counted on one node whose GPUs are replicated, where each pod needs several."""

NODE_FILTERS: tuple[Filter, ...] = (of_its_class, shares_as_allowed, on_distinct_gpus, enough_memory, of_a_memory_class, new_enough)
"""Filters that ask what kind of node it is. A node that they reject is none for the demand, whatever is free on it."""


class SlotCounter:
    """Counts slots for one demand. States that differ in nothing that the filters read share the work."""

    def __init__(self, demand: Demand, policy: Policy) -> None:
        self.demand, self._policy = demand, policy
        self._counts: dict[tuple[object, ...], int] = {}
        """What the filters read of a state of a suitable node -> its slots."""

    def unsuitable(self, state: NodeState) -> Rejection | None:
        """Return why the node is none for this demand; None where it is one."""
        rejections = (check(self.demand, state, self._policy) for check in NODE_FILTERS)
        return next((rejection for rejection in rejections if rejection is not None), None)

    def count(self, state: NodeState) -> int:
        """Return how many more such pods fit on a node that is suitable."""
        key = _read_by_filters(state)
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = self._counted(state)
        return count

    def _counted(self, state: NodeState) -> int:
        size, table = self.demand.total, state.table
        if not self.fits(state):
            return 0
        if table is None:
            return self._on_counted_gpus(state)
        free = self._likeliest_free(state, table)
        if self._takes_any(state, free):
            return max(1, min(state.allocatable - state.requested, free.bit_count()) // size)
        return 1 + self.count(self._with_one_more(state, table, free))

    def fits(self, state: NodeState) -> bool:
        """Return whether the next pod fits, as the evaluator finds it."""
        if refuse(self.demand, as_decided(state, self.demand, None), self._policy) is not None:
            return False
        return refuse_by_telemetry(self.demand, state, self._marginals(state), self._policy) is None

    def _on_counted_gpus(self, state: NodeState) -> int:
        """Return the slots of a node of unknown topology, on which one pod fits."""
        size = self.demand.total
        is_replicated = state.sharing is not None and state.sharing.replicated
        if not is_replicated or size == 1:
            return state.free_count // size
        count = 1
        while count < MOST_REPLICAS and self.fits(replace(state, requested=state.requested + count * size)):
            count += 1
        return count

    def _likeliest_free(self, state: NodeState, table: PlacementTable) -> int:
        """Return the most probable mask of free positions in which the pod finds a place."""
        size = self.demand.total
        large_enough = [free for free, _ in state.free_sets if free.bit_count() >= size]
        return next((free for free in large_enough if len(large_enough) == 1 or self._chances(state, table, free)), 0)

    def _takes_any(self, state: NodeState, free: int) -> bool:
        """Return whether any GPUs of `free` will do for every pod, so that only their number counts."""
        wishes, kubelet = self.demand.wishes, state.kubelet
        needs_links = self.demand.needs_links and (wishes.min_busbw_gbps is not None or wishes.min_link is not None)
        is_choosy = kubelet.topology_manager is not TopologyManager.NONE or kubelet.order is not None or self._policy.refuse_hazards
        if needs_links or is_choosy:
            return False
        any_of_free = tuple(float(free >> position & 1) for position in range(len(state.indices)))
        return refuse_by_telemetry(self.demand, state, any_of_free, self._policy) is None

    def _with_one_more(self, state: NodeState, table: PlacementTable, free: int) -> NodeState:
        """Return the state after the pod has got its most probable GPUs."""
        chances = self._chances(state, table, free)
        taken = min(chances, key=lambda mask: (-chances[mask], mask)) if chances else free
        return replace(state, free_sets=((free & ~taken, 1.0),), requested=state.requested + self.demand.total)

    def _chances(self, state: NodeState, table: PlacementTable, free: int) -> dict[int, float]:
        """Return the probability of each mask of GPUs that the pod may get of `free`; empty where it finds no place."""
        kubelet = as_decided(state, self.demand, None).kubelet
        chances: dict[int, float] = {}
        for (mask, _), chance in table.predictor.predict_sets(free, self.demand.asks, kubelet).sets.items():
            chances[mask] = chances.get(mask, 0.0) + chance
        return chances

    def _marginals(self, state: NodeState) -> tuple[float, ...]:
        """Return the probability per position that the next pod gets it, as in the evidence; empty where the topology is unknown."""
        table = state.table
        if table is None:
            return ()
        if not self._reads_marginals(state):
            return (0.0,) * len(state.indices)
        marginals, total = [0.0] * len(state.indices), 0.0
        for free, weight in state.free_sets:
            chances = self._chances(state, table, free)
            total += weight if chances else 0.0
            for mask, chance in chances.items():
                for position in positions_of(mask):
                    marginals[position] += weight * chance
        return tuple(round(marginal / (total or 1.0), 9) for marginal in marginals)

    def _reads_marginals(self, state: NodeState) -> bool:
        """Return whether some set of the free GPUs can be refused by telemetry."""
        may_be_free = 0
        for free, _ in state.free_sets:
            may_be_free |= free
        any_of_free = tuple(float(may_be_free >> position & 1) for position in range(len(state.indices)))
        return refuse_by_telemetry(self.demand, state, any_of_free, self._policy) is not None


def _read_by_filters(state: NodeState) -> tuple[object, ...]:
    """Return what the filters read of the state of a suitable node."""
    return (
        state.table,
        state.kubelet,
        state.allocatable,
        state.requested,
        state.healthy,
        state.free_sets,
        state.usable,
        state.sharing,
        state.physical,
        state.faults,
        state.device_telemetry,
    )
