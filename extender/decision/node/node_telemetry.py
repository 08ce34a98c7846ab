"""The telemetry of a node joined with its GPUs: what the view has of it, and the view with newer telemetry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from extender.decision.node.devices.device_load import NO_TELEMETRY, DeviceTelemetry, Joined, device_telemetry, join, unplaced_faults
from extender.decision.node.interned_states import with_device_telemetry
from extender.decision.node.node_sources import Times
from extender.decision.node.node_state import NodeDefaults, NodeView
from extender.telemetry.conditions import DeviceCondition, NodeTelemetry
from topology.machine.hardware import Machine, mask_of, positions_of, union_of


def joined_telemetry(
    machine: Machine, telemetry: NodeTelemetry | None, known: Mapping[str, tuple[int, ...]], times: Times, defaults: NodeDefaults
) -> Joined | None:
    """Return telemetry by position; None where there is none. `known`: pod key -> masks of the positions it holds."""
    return join(machine, telemetry, known, times.monotonic_seconds, defaults.tuning.max_age_seconds) if telemetry else None


def state_telemetry(joined: Joined | None, fenced_but_offered: int) -> DeviceTelemetry:
    """Return what a node's state has of its telemetry."""
    return device_telemetry(joined.device_loads, fenced_but_offered, joined.stale) if joined else NO_TELEMETRY


def with_telemetry(view: NodeView, telemetry: NodeTelemetry | None, times: Times, defaults: NodeDefaults) -> NodeView | None:
    """Return the view with newer telemetry and all else unchanged.

    None where the view must be derived anew: the set of fenced devices changes, or the topology is unknown.
    """
    if view.machine is None or telemetry is None:
        return None
    joined = join(view.machine, telemetry, view.known, times.monotonic_seconds, defaults.tuning.max_age_seconds)
    if joined.faulty != view.fenced:
        return None
    problems = joined.problems + telemetry.problems
    state = with_device_telemetry(view.state.without_telemetry or view.state, state_telemetry(joined, view.fenced_but_offered))
    if faults_of(view.machine, joined) != state.faults:
        return None
    if state is view.state and problems == view.telemetry_problems:
        return view
    return replace(view, state=state, telemetry_problems=problems)


def fenced_positions(machine: Machine, telemetry: NodeTelemetry | None) -> int:
    """Return the mask of the positions that telemetry has fenced."""
    if telemetry is None or not any(condition.fault for condition in telemetry.devices.values()):
        return 0
    return join(machine, telemetry, {}, None, 0.0).faulty


def faults_of(machine: Machine, joined: Joined | None) -> tuple[tuple[int, str, bool], ...]:
    """Return `NodeState.faults`."""
    if joined is None or not joined.faulty:
        return ()
    loads = [(machine.gpus[position].index, joined.device_loads[position]) for position in positions_of(joined.faulty)]
    return tuple((index, load.fault, load.xid) for index, load in loads if load and load.fault)


def usable_by_telemetry(allocatable: int, telemetry: NodeTelemetry | None) -> int:
    """Return the usable GPUs of a node whose devices are unknown: those that telemetry names, less the fenced ones."""
    if telemetry is None or not telemetry.devices:
        return allocatable
    seen = len({uuid for uuid, _ in telemetry.devices})
    return max(0, min(allocatable, seen - unplaced_faults(telemetry))) if seen >= allocatable else allocatable


def as_left(
    telemetry: NodeTelemetry, view: NodeView, leaving: Collection[str], then: Callable[[DeviceCondition], DeviceCondition]
) -> NodeTelemetry:
    """Return a node's telemetry after the pods with the keys `leaving` have left: `then` is applied to the devices that they held.

    For a pod whose devices are unknown, those are all devices that no remaining pod is known to hold.
    """
    if view.machine is None:
        return telemetry
    held = {key: union_of(masks) for key, masks in view.known.items()}
    left = 0
    for key in leaving:
        others = union_of(mask for other, mask in held.items() if other not in leaving)
        left |= held.get(key, mask_of(range(len(view.machine.gpus))) & ~others)
    gpus = [view.machine.gpus[position] for position in positions_of(left)]
    uuids, indices = {gpu.uuid for gpu in gpus if gpu.uuid}, {gpu.index for gpu in gpus if not gpu.uuid}
    devices = {
        device: then(condition) if device[0] in uuids or condition.reading.index in indices else condition
        for device, condition in telemetry.devices.items()
    }
    return replace(telemetry, devices=devices)
