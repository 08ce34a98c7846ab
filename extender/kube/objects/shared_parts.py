"""Parts of decoded objects that many objects have in common, one Python object per distinct content. Pure, apart from bounded caches.

The nodes of a cluster have nearly the same labels, resources, conditions and taints; decoded one by one, they take most of the memory.
"""

from __future__ import annotations

import sys
from functools import lru_cache

from extender.decision.request.kubernetes_objects import Node, NodeCondition, NodeMeta, NodeSpec, NodeStatus, Quantities, Taint

_MOST_PARTS = 4_096
"""Distinct statuses, and distinct specs of nodes, that are remembered."""

_Amounts = tuple[tuple[str, str], ...]


def with_shared_parts(node: Node) -> Node:
    """Return an equal node that shares its labels' texts, its status and its spec with other nodes."""
    meta = node.metadata
    labels = {sys.intern(key): sys.intern(value) for key, value in meta.labels.items()} if meta.labels is not None else None
    return Node(NodeMeta(sys.intern(meta.name), labels), _status_of(node.status), _spec_of(node.spec))


def _status_of(status: NodeStatus | None) -> NodeStatus | None:
    """Return the one equal status. A status with an amount that is not text is returned as it is: 1, 1.0 and True compare as equal."""
    if status is None:
        return None
    allocatable, capacity = _items(status.allocatable), _items(status.capacity)
    if (status.allocatable is not None and allocatable is None) or (status.capacity is not None and capacity is None):
        return status
    return _status(allocatable, capacity, None if status.conditions is None else tuple(status.conditions))


def _items(amounts: Quantities | None) -> _Amounts | None:
    """Return the amounts as a tuple; None where there are none, or one of them is not text."""
    if amounts is None or not all(type(amount) is str for amount in amounts.values()):
        return None
    return tuple(amounts.items())


@lru_cache(maxsize=_MOST_PARTS)
def _status(allocatable: _Amounts | None, capacity: _Amounts | None, conditions: tuple[NodeCondition, ...] | None) -> NodeStatus:
    return NodeStatus(
        None if allocatable is None else dict(allocatable),
        None if capacity is None else dict(capacity),
        None if conditions is None else list(conditions),
    )


def _spec_of(spec: NodeSpec | None) -> NodeSpec | None:
    return None if spec is None else _spec(None if spec.taints is None else tuple(spec.taints), spec.unschedulable)


@lru_cache(maxsize=_MOST_PARTS)
def _spec(taints: tuple[Taint, ...] | None, unschedulable: bool) -> NodeSpec:
    return NodeSpec(None if taints is None else list(taints), unschedulable)
