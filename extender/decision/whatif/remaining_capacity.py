"""What is left of a cluster: free GPUs per product, and nodes with every GPU free."""

from __future__ import annotations

from dataclasses import dataclass

from extender.decision.node.devices.gpu_sharing import Sharing
from extender.decision.node.node_state import NodeView
from extender.decision.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class RemainingCapacity:
    """The nodes of one product. GPUs that are shared or divided are not counted."""

    product: str | None
    """As GPU Feature Discovery labels it, such as NVIDIA-H100-80GB-HBM3; None = unknown."""
    nodes: int
    gpus: int
    """GPUs on offer."""
    free_gpus: int
    """On nodes that take pods."""
    cordoned_free_gpus: int
    """Free, but on cordoned nodes."""
    whole_nodes_free: int
    """Nodes that take pods and whose GPUs are all free and healthy."""


def remaining_capacity(snapshot: Snapshot) -> tuple[RemainingCapacity, ...]:
    """Return the capacity per product, the largest free one first."""
    rows: dict[str | None, RemainingCapacity] = {}
    for name, view in snapshot.views.items():
        state, node = view.state, snapshot.nodes.get(name)
        if not state.allocatable or state.sharing not in (None, Sharing.NONE) or node is None:
            continue
        cordoned = node.spec is not None and node.spec.unschedulable
        product = state.product.replace(" ", "-") if state.product else None
        row = rows.get(product) or RemainingCapacity(product, 0, 0, 0, 0, 0)
        rows[product] = RemainingCapacity(
            product=product,
            nodes=row.nodes + 1,
            gpus=row.gpus + state.allocatable,
            free_gpus=row.free_gpus + (0 if cordoned else state.free_count),
            cordoned_free_gpus=row.cordoned_free_gpus + (state.free_count if cordoned else 0),
            whole_nodes_free=row.whole_nodes_free + (not cordoned and _is_whole(view)),
        )
    return tuple(sorted(rows.values(), key=lambda row: (-row.free_gpus, row.product or "")))


def _is_whole(view: NodeView) -> bool:
    """Whether all GPUs of a node are free: as many as the machine has, where that is known."""
    state = view.state
    return state.free_count == max(len(state.indices), state.allocatable)
