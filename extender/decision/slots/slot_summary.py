"""The slots of a cluster, summed per product, pool or node.

Slots of one product are made of GPUs of that product. So the ideal of a row is that of each of its products, added up, and GPUs that are
left over on several nodes of one product are lost to fragmentation over nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter

import msgspec

from extender.decision.evaluate.policy import DEFAULT_POLICY, Policy
from extender.decision.node.node_state import NodeView
from extender.decision.pace import Pace, unhurried
from extender.decision.slots.lost_slots import LostSlots, NodeSlots
from extender.decision.slots.node_idleness import NodeIdleness, idleness_of
from extender.decision.slots.slot_answer import Lost, NotCounted, SizeSlots, SlotRow, SlotsAnswer, added, summary
from extender.decision.slots.slot_question import By, SlotQuestion
from extender.decision.state.pods import NO_EXTRA_PODS, ExtraPods
from extender.decision.state.snapshot import Snapshot

MOST_ROWS = 5_000
"""Rows of an answer; those with the fewest idle GPUs are left out first."""

_NODES_PER_STEP = 8
"""Nodes that are counted between two calls of the pace."""

UNKNOWN_PRODUCT = "unknown"
UNJUDGED = "it is not known which GPUs the node offers"
NOT_CHECKED = (
    "CPU, memory and other resources of the nodes",
    "taints, labels and affinities, except that a node is ready and not cordoned and is in a pool of the workload class",
    "quotas",
)
"""What may prevent a real pod from using a slot."""


@dataclass(slots=True)
class _Sums:
    """The nodes of one row and one product, added up. A node counts for a size if it has at least that many GPUs."""

    nodes: int = 0
    gpus: int = 0
    idle: int = 0
    by_size: dict[int, _SizeSums] = field(default_factory=dict)

    def add(self, node: NodeIdleness, slots: Mapping[int, NodeSlots]) -> None:
        self.nodes += 1
        self.gpus += node.gpus
        self.idle += node.idle
        for size, of_size in slots.items():
            if node.gpus >= size:
                self.by_size.setdefault(size, _SizeSums()).add(node, of_size)


@dataclass(slots=True)
class _SizeSums:
    gpus: int = 0
    idle: int = 0
    now: int = 0
    schedulable: int = 0
    healthy: int = 0
    unobstructed: int = 0
    arranged: int = 0
    node_ideal: int = 0

    def add(self, node: NodeIdleness, slots: NodeSlots) -> None:
        self.gpus += node.gpus
        self.idle += node.idle
        self.now += slots.now
        self.schedulable += slots.schedulable
        self.healthy += slots.healthy
        self.unobstructed += slots.unobstructed
        self.arranged += slots.arranged
        self.node_ideal += slots.ideal

    def slots(self, size: int) -> SizeSlots:
        ideal = self.idle // size
        lost = Lost(
            cordoned_or_not_ready=self.schedulable - self.now,
            unhealthy_gpus=self.healthy - self.schedulable,
            unknown_use=self.unobstructed - self.healthy,
            fragmentation_in_nodes=self.arranged - self.unobstructed,
            links=self.node_ideal - self.arranged,
            fragmentation_over_nodes=ideal - self.node_ideal,
        )
        return SizeSlots(size, self.now, ideal, self.gpus // size - ideal, lost)


def slots_of(
    snapshot: Snapshot,
    question: SlotQuestion,
    resource: str,
    *,
    policy: Policy = DEFAULT_POLICY,
    extra_pods: ExtraPods = NO_EXTRA_PODS,
    pace: Pace = unhurried,
) -> SlotsAnswer:
    """Return the slots of a cluster. `extra_pods`: node -> pods that are decided for it and not visible there yet."""
    counts = SlotCounts(snapshot, question, resource, policy, extra_pods)
    sums: dict[tuple[str, str], _Sums] = {}
    left_out: Counter[str] = Counter()
    names, counted = sorted(snapshot.views), 0
    for name in names:
        if counted % _NODES_PER_STEP == 0 and not pace():
            break
        counted += 1
        found = counts.of(name)
        if found is None:
            continue
        if isinstance(found, str):
            left_out[found] += 1
            continue
        idleness, slots = found
        view = snapshot.views[name]
        for row in ("", *_rows_of(view, question.by)):
            sums.setdefault((row, product_of_view(view)), _Sums()).add(idleness, slots)
    total, rows = _rows(sums, question)
    kept = sorted(rows, key=lambda row: (-row.idle_gpus, row.name))[:MOST_ROWS]
    return SlotsAnswer(
        summary=summary(total),
        by=question.by.value,
        workload_class=question.workload_class,
        floor_gbps=question.floor_gbps,
        memory_bytes=question.memory_bytes,
        total=total,
        rows=tuple(sorted(kept, key=attrgetter("name"))),
        rows_left_out=len(rows) - len(kept),
        not_counted=tuple(NotCounted(reason, count) for reason, count in sorted(left_out.items())),
        not_checked=NOT_CHECKED,
        complete=counted == len(names),
        nodes_counted=counted,
        nodes_known=len(names),
    )


class SlotCounts:
    """The slots of single nodes for every size of a question; equal nodes share the work."""

    def __init__(
        self, snapshot: Snapshot, question: SlotQuestion, resource: str, policy: Policy, extra_pods: ExtraPods = NO_EXTRA_PODS
    ) -> None:
        self._snapshot, self._resource, self._extra_pods = snapshot, resource, extra_pods
        self._by_size = {size: LostSlots(question.demand(size, snapshot.classes), policy) for size in question.sizes}
        self._known: dict[NodeIdleness, tuple[NodeIdleness, dict[int, NodeSlots]] | str] = {}

    def of(self, name: str, snapshot: Snapshot | None = None) -> tuple[NodeIdleness, dict[int, NodeSlots]] | str | None:
        """Return the GPUs of a node and its slots per size; a str states why the node is none for such pods; None where it has no GPUs.

        `snapshot`: another state of the same cluster.
        """
        snapshot = snapshot or self._snapshot
        view = snapshot.views[name]
        if view.state.unjudged is not None:
            return UNJUDGED
        idleness = idleness_of(view, snapshot.nodes.get(name), self._resource, self._extra_pods.get(name, ()))
        if not idleness.gpus:
            return None
        found = self._known.get(idleness)
        if found is None:
            found = self._known[idleness] = self._counted(idleness)
        return found

    def _counted(self, idleness: NodeIdleness) -> tuple[NodeIdleness, dict[int, NodeSlots]] | str:
        rejections = {size: lost.counter.unsuitable(idleness.state) for size, lost in self._by_size.items()}
        slots = {size: lost.of(idleness) for size, lost in self._by_size.items() if rejections[size] is None}
        refused = next((rejection.reason.value for rejection in rejections.values() if rejection is not None), None)
        return (idleness, slots) if slots or refused is None else refused


def product_of_view(view: NodeView) -> str:
    """Return the product of a node's GPUs, written as by GPU feature discovery."""
    return (view.state.product or UNKNOWN_PRODUCT).replace(" ", "-")


def _rows_of(view: NodeView, by: By) -> Iterable[str]:
    match by:
        case By.PRODUCT:
            return (product_of_view(view),)
        case By.POOL:
            return view.state.pools
        case By.NODE:
            return (view.name,)


def _rows(sums: Mapping[tuple[str, str], _Sums], question: SlotQuestion) -> tuple[SlotRow, list[SlotRow]]:
    """Return the row of all nodes, and the others."""
    by_row: dict[str, list[_Sums]] = {"": []}
    for (row, _), of_product in sums.items():
        by_row.setdefault(row, []).append(of_product)
    rows = [_row(name, parts, question.sizes) for name, parts in by_row.items()]
    return msgspec.structs.replace(rows[0], name="all nodes"), rows[1:]


def _row(name: str, parts: list[_Sums], sizes: tuple[int, ...]) -> SlotRow:
    by_size = []
    for size in sizes:
        of_products = [part.by_size[size].slots(size) for part in parts if size in part.by_size]
        by_size.append(added(size, of_products))
    nodes, gpus, idle = (sum(getattr(part, figure) for part in parts) for figure in ("nodes", "gpus", "idle"))
    return SlotRow(name, nodes, gpus, idle, tuple(by_size))
