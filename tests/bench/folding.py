"""What one change of the cluster costs: the time to fold it into a state of many nodes and pods, without decoding and verdicts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from msgspec.structs import replace as struct_replace

from extender.decision.state.changes import Change, ClockTicked, Listed, PodGone, TelemetrySeen, TopologySeen
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.kube.objects.decode import Seen, seen
from extender.sources.simulated import node_manifest
from extender.telemetry.readings import DeviceReading
from tests.objects import GPU, pod
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.machine.hardware import Machine
from topology.platforms import machine_of

PODS = (0, 5_000, 50_000)
"""Numbers of other pods with which the events of pods are measured."""
NODES = 20_000
"""Nodes with which telemetry and the tick of the clock are measured."""
ROUNDS = 30
"""Folds of one change into the same state; the fastest counts, because other processes only add time."""
_NODES_OF_PODS = 2_001
"""With 50,000 pods each node but one has five pods with a GPU; the events concern that one."""
_NOW_SECONDS, _MONOTONIC_SECONDS = 1.7e9, 1_000.0


def fold_costs() -> list[tuple[int, str, float]]:
    """Return (number of other pods, event, seconds to fold it): pod events for each of `PODS`, then events of nodes with `NODES` nodes.

    One fifth of the other pods hold GPUs. Takes about half a minute, most of it to make the states. Uses one thread and no other process.
    """
    return [*_pod_costs(), *_node_costs()]


def _pod_costs() -> Iterator[tuple[int, str, float]]:
    machine = machine_of("hgx-h100")
    nodes = [f"node-{number:05d}" for number in range(_NODES_OF_PODS)]
    others = nodes[1:]
    for count in PODS:
        state = _state(nodes, machine, [_pod_seen(number, others[number // 5 % len(others)], number % 5 == 0) for number in range(count)])
        waiting = fold_all(state, [_pod_seen(count, None, True)], GPU)
        bound = fold_all(state, [_pod_seen(count, nodes[0], False)], GPU)
        yield count, "pod without GPUs is bound", _seconds(state, _pod_seen(count, nodes[0], False))
        yield count, "pod without GPUs is deleted", _seconds(bound, PodGone(f"uid-pod-{count}", 10_000_000))
        yield count, "pod with a GPU is bound", _seconds(waiting, _pod_seen(count, nodes[0], True))


def _node_costs() -> Iterator[tuple[int, str, float]]:
    nodes = [f"node-{number:05d}" for number in range(NODES)]
    machine = machine_of("hgx-h100")
    readings = tuple(
        DeviceReading(gpu.uuid or str(gpu.index), index=gpu.index, fb_used_bytes=1 << 30, fb_free_bytes=79 << 30) for gpu in machine.gpus
    )
    state = _state(nodes, machine, [])
    state = fold_all(state, [TelemetrySeen(name, _MONOTONIC_SECONDS + number % 15, readings) for number, name in enumerate(nodes)], GPU)
    fuller = tuple(struct_replace(reading, fb_used_bytes=70 << 30, fb_free_bytes=10 << 30) for reading in readings)
    yield 0, f"telemetry of one of {NODES} nodes arrives", _seconds(state, TelemetrySeen(nodes[0], _MONOTONIC_SECONDS + 15.0, fuller))
    record = TopologyRecord(nodes[0], machine, DeviceStatus(observed_at_seconds=_NOW_SECONDS + 30.0))
    yield 0, f"GpuTopology of one of {NODES} nodes arrives", _seconds(state, TopologySeen(nodes[0], record))
    yield 0, f"clock ticks with {NODES} nodes", _seconds(state, ClockTicked(_NOW_SECONDS + 5.0, _MONOTONIC_SECONDS + 5.0))


def _state(nodes: list[str], machine: Machine, pods: list[Seen]) -> Snapshot:
    """Return the state after all kinds have been listed; every node has the same machine and a fresh status."""
    status = DeviceStatus(observed_at_seconds=_NOW_SECONDS)
    changes: list[Change] = [
        ClockTicked(_NOW_SECONDS, _MONOTONIC_SECONDS),
        Listed("nodes", tuple(seen("Node", node_manifest(name, machine)) for name in nodes)),
        Listed("pods", tuple(pods)),
        Listed("topologies", tuple(TopologySeen(name, TopologyRecord(name, machine, status)) for name in nodes)),
    ]
    return fold_all(Snapshot(), changes, GPU)


def _pod_seen(number: int, node: str | None, has_gpu: bool) -> Seen:
    manifest: dict[str, Any] = pod(*([1] if has_gpu else []), name=f"pod-{number}", node=node)
    manifest["metadata"]["resourceVersion"] = str(2 * number + (1 if node else 0))
    return seen("Pod", manifest)


def _seconds(state: Snapshot, change: Change) -> float:
    """Return the shortest time of `ROUNDS` folds of the change into the state. Raises AssertionError where the change changes nothing."""
    fold = partial(fold_all, state, (change,), GPU)
    assert fold() is not state
    return min(_timed(fold) for _ in range(ROUNDS))


def _timed(fold: partial[Snapshot]) -> float:
    started = time.perf_counter()
    fold()
    return time.perf_counter() - started
