"""Node states, one object per distinct content, so that equal nodes share one verdict.

The functions are pure; their caches are bounded, and a dropped entry costs time but never changes an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from operator import attrgetter
from typing import Any

from extender.decision.node.allocation.free_sets import taken
from extender.decision.node.devices.device_load import NO_TELEMETRY, DeviceTelemetry
from extender.decision.node.devices.pressure import NO_LOAD, load_by_gpu
from extender.decision.node.node_state import NodeState
from extender.decision.request.pod_request import Demand
from topology.devices.prediction import Asks
from topology.devices.size_mix import SizeMix
from topology.devices.steering import DecidedFor


@dataclass(frozen=True, slots=True)
class _ByContent:
    """A cache key: the content of a state, which itself compares by identity."""

    content: tuple[Any, ...]
    state: NodeState = field(compare=False)


_content = attrgetter(*(each.name for each in fields(NodeState)))


def interned(state: NodeState) -> NodeState:
    """Return the one object with the content of `state`."""
    return _interned(_ByContent(_content(state), state))


@lru_cache(maxsize=16_384)
def _interned(key: _ByContent) -> NodeState:
    return key.state


@lru_cache(maxsize=65_536)
def with_device_telemetry(without_telemetry: NodeState, telemetry: DeviceTelemetry) -> NodeState:
    """Return the state with telemetry added: one object per distinct content."""
    if telemetry is NO_TELEMETRY:
        return without_telemetry
    load = (
        load_by_gpu(without_telemetry.table, _held_probabilities(without_telemetry), telemetry.device_loads)
        if without_telemetry.table is not None
        else NO_LOAD
    )
    return replace(without_telemetry, device_telemetry=telemetry, load_by_gpu=load, without_telemetry=without_telemetry)


def _held_probabilities(state: NodeState) -> tuple[float, ...]:
    """Return the probability per position that a pod holds it."""
    return tuple(sum(chance for free, chance in state.free_sets if not free >> position & 1) for position in range(len(state.indices)))


@lru_cache(maxsize=4_096)
def with_extra_pods(state: NodeState, extra_pods: tuple[Demand, ...], decided_mix: SizeMix | None = None) -> NodeState:
    """Return the state with further pods whose devices are unknown: the same object as if they were bound to the node.

    `decided_mix`: as for `as_decided`.
    """
    placed = tuple((demand.asks, DecidedFor(demand.wishes.messages, decided_mix), demand.total) for demand in extra_pods if demand.total)
    if not placed:
        return state
    return with_device_telemetry(_with_extra_pods(state.without_telemetry or state, placed), state.device_telemetry)


@lru_cache(maxsize=16_384)
def _with_extra_pods(without_telemetry: NodeState, placed: tuple[tuple[Asks, DecidedFor, int], ...]) -> NodeState:
    state = without_telemetry
    free_sets = state.free_sets
    if state.table is not None:
        free_sets = taken(dict(free_sets), state.table, [(asks, decided_for) for asks, decided_for, _ in placed], state.kubelet)
    return interned(replace(state, requested=state.requested + sum(total for _, _, total in placed), free_sets=free_sets))
