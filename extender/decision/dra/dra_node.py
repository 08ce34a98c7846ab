"""The GPUs of one node with ResourceSlices: devices as positions of its machine, which pod holds which, and the allocator's order."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from extender.decision.dra.held_devices import HeldDevices
from extender.decision.dra.inventory import DeviceId, NodeDevice, NodeDevices
from extender.decision.dra.resource_objects import DeviceClass
from extender.decision.dra.selectors import Unevaluated, matches
from topology.machine.hardware import MAX_GPUS, Gpu, Machine, mask_of, with_gpus
from topology.platforms import fallback_platform, machine_of

MOST_MATCHES = 32
"""Sets of selectors per node of which the matching devices are kept."""


@dataclass(frozen=True, slots=True)
class Match:
    """The devices of a node that a class or request selects; `unknown` states why they are not known."""

    devices: tuple[NodeDevice, ...] = ()
    unknown: str | None = None


def selected(devices: NodeDevices, expressions: tuple[str | None, ...], class_name: str) -> Match:
    """Return the devices that match all CEL expressions, in the order given. An expression of None is a selector of another kind."""
    match = devices.matched.get(expressions)
    if match is None:
        while len(devices.matched) >= MOST_MATCHES:
            devices.matched.pop(next(iter(devices.matched)), None)
        match = devices.matched[expressions] = _selected(devices.devices, expressions)
    if match.unknown is None:
        return match
    return Match((), f"DeviceClass {class_name}, {match.unknown}")


def _selected(devices: Iterable[NodeDevice], expressions: tuple[str | None, ...]) -> Match:
    chosen = []
    for device in devices:
        answer = matches(expressions, device.variables)
        if isinstance(answer, Unevaluated):
            return Match((), f"device {device.name}: {answer.why}")
        if answer:
            chosen.append(device)
    return Match(tuple(chosen))


def in_doubt(devices: NodeDevices, expressions: tuple[str | None, ...] | None) -> str | None:
    """Return the problems of pools whose devices the expressions may select; None where there are none. No expressions: those of GPUs."""
    problems = [problem for problem, named in devices.doubtful if not named or _may_select(named, expressions)]
    return "; ".join(problems) or None


def _may_select(named: tuple[NodeDevice, ...], expressions: tuple[str | None, ...] | None) -> bool:
    if expressions is None:
        return any(device.is_gpu for device in named)
    match = _selected(named, expressions)
    return match.unknown is not None or bool(match.devices)


def _expressions_of(device_class: DeviceClass | None) -> tuple[str | None, ...] | None:
    """Return the selectors of a class, None for those of a kind other than CEL; None where there is no class."""
    if device_class is None:
        return None
    return tuple(selector.cel.expression if selector.cel is not None else None for selector in device_class.spec.selectors or ())


def _match_of_class(devices: NodeDevices, device_class: DeviceClass | None) -> Match:
    """Return the devices that a class selects; none where there is no class."""
    expressions = _expressions_of(device_class)
    return Match() if expressions is None or device_class is None else selected(devices, expressions, device_class.metadata.name)


@dataclass(frozen=True, slots=True)
class DraNode:
    """A node's GPUs as Dynamic Resource Allocation sees them, in positions of `machine`."""

    machine: Machine
    """By the GpuTopology, a platform that the product stands for, or the devices' attributes alone."""
    source: str
    """Where the links of `machine` are from: "GpuTopology", a platform's name, or empty where they are not known."""
    devices: NodeDevices
    bits: Mapping[DeviceId, int]
    """Device -> its bit: a position of `machine` for whole GPUs, and above `MAX_GPUS` for other devices."""
    order: tuple[int, ...]
    """Positions of the GPUs that the class of the extended resource selects, in the allocator's order."""
    unknown: str | None = None
    """Why it is not known which GPUs the extended resource stands for."""
    tainted: int = 0
    """Mask of positions whose device is tainted."""
    held: int = 0
    """Mask of positions that claims hold, in whole or in part."""
    by_pod: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Uid of a pod -> masks of positions, one per claim. A claim that is reserved for no pod counts under `claim namespace/name`."""
    ending: tuple[int, ...] = ()
    """Masks of positions that claims hold whose pods are gone or end now: kube-scheduler may have seen them freed already."""
    others: int = 0
    """Mask of free devices that are no whole GPUs."""
    notes: tuple[str, ...] = ()
    mapped: frozenset[str] = frozenset()
    """Extended resources that DeviceClasses stand for."""


def dra_node(
    devices: NodeDevices,
    held: Iterable[HeldDevices],
    device_class: DeviceClass | None,
    machine: Machine | None = None,
    leaving: Collection[str] = (),
    ended: Collection[str] = (),
    mapped: frozenset[str] = frozenset(),
) -> DraNode:
    """Return a node's GPUs. `machine`: of its GpuTopology. `leaving`: uids of pods that are taken as gone; claims for them alone are free.

    `ended`: uids of pods that are gone or end now, whose claims are not seen deallocated yet.
    """
    held = tuple(held)
    match = _match_of_class(devices, device_class)
    unknown = match.unknown or in_doubt(devices, _expressions_of(device_class))
    chosen = {device.id for device in match.devices if not device.is_partial}
    gpus = [device for device in devices.devices if device.is_gpu or device.id in chosen]
    notes = list(devices.problems)
    if len(gpus) > MAX_GPUS:
        unknown = unknown or f"the slices name {len(gpus)} GPUs, {MAX_GPUS} are the most"
        gpus = gpus[:MAX_GPUS]
    joined, problem = _joined(gpus, machine)
    if problem is not None:
        notes.append(problem)
    if joined is None:
        source, machine, joined = _built(gpus)
    else:
        source = "GpuTopology"
    assert machine is not None
    bits = dict(joined)
    for number, device in enumerate(each for each in devices.devices if each.id not in joined):
        bits[device.id] = MAX_GPUS + number
    whole = mask_of(range(len(machine.gpus)))
    used, by_pod = _use(devices, held, bits, machine, leaving, notes)
    ended_claims = [claim for claim in held if claim.pods and all(pod[0] in ended for pod in claim.pods)]
    ending = [_use(devices, (claim,), bits, machine, leaving, [])[0] for claim in ended_claims]
    free_others = mask_of([bit for bit in bits.values() if bit >= MAX_GPUS]) & ~used
    blocked = mask_of([bits[device.id] for device in devices.devices if device.taints])
    return DraNode(
        machine,
        source,
        devices,
        bits,
        tuple(bits[device.id] for device in match.devices if device.id in joined),
        unknown,
        blocked & whole,
        used & whole,
        by_pod,
        tuple(mask & whole for mask in ending if mask & whole),
        free_others & ~blocked,
        tuple(notes),
        mapped,
    )


def _joined(gpus: list[NodeDevice], machine: Machine | None) -> tuple[dict[DeviceId, int] | None, str | None]:
    """Return (device -> position by UUID in the GpuTopology's machine, why not).

    Both are None where there is no GpuTopology; the second states where it contradicts the slices.
    """
    if machine is None:
        return None, None
    place: dict[str | None, int] = {gpu.uuid: position for position, gpu in enumerate(machine.gpus) if gpu.uuid}
    missing = [device.name for device in gpus if device.uuid not in place]
    if missing:
        return None, f"GpuTopology has no GPU with the UUID of device {missing[0]}: its links are not used"
    return {device.id: place[device.uuid] for device in gpus if device.uuid in place}, None


_NUMBERED = re.compile(r"gpu-(\d{1,4})$", re.ASCII)


def _built(gpus: list[NodeDevice]) -> tuple[str, Machine, dict[DeviceId, int]]:
    """Return (platform or "", machine, positions) of GPUs that are known by their attributes alone, in the order of their PCI bus ids."""
    listed = sorted(gpus, key=lambda device: (device.pci_bus_id or "", device.pool, _natural(device.name)))
    numbers = [int(match[1]) if (match := _NUMBERED.match(device.name)) else None for device in listed]
    indices = list(range(len(listed))) if None in numbers or len(set(numbers)) < len(numbers) else numbers
    facts = [
        Gpu(
            index or 0,
            device.uuid,
            device.product,
            device.memory_bytes,
            device.pci_bus_id,
            device.numa_node,
            compute_capability=device.compute_capability,
        )
        for index, device in zip(indices, listed, strict=True)
    ]
    positions = {device.id: position for position, device in enumerate(listed)}
    products = {device.product for device in listed}
    product = next(iter(products)) if len(products) == 1 else None
    name = fallback_platform(product, len(listed)) if product else None
    driver = next((device.driver_version for device in listed if device.driver_version), None)
    if name is None:
        nothing = tuple((None,) * len(facts) for _ in facts)
        flat = tuple((0,) * len(facts) for _ in facts)
        return "", Machine(tuple(facts), (), nothing, flat, driver_version=driver), positions
    known = with_gpus(machine_of(name), product=product)
    gpus_there = tuple(
        replace(
            gpu,
            index=fact.index,
            uuid=fact.uuid,
            memory_bytes=fact.memory_bytes,
            pci_bus_id=fact.pci_bus_id or gpu.pci_bus_id,
            compute_capability=fact.compute_capability or gpu.compute_capability,
        )
        for gpu, fact in zip(known.gpus, facts, strict=True)
    )
    return name, replace(known, gpus=gpus_there, driver_version=driver), positions


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts gpu-2 before gpu-10."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d{1,9})", name) if part)


def _use(
    devices: NodeDevices,
    held: Iterable[HeldDevices],
    bits: Mapping[DeviceId, int],
    machine: Machine,
    leaving: Collection[str],
    notes: list[str],
) -> tuple[int, dict[str, tuple[int, ...]]]:
    """Return (mask of bits in use, masks of positions per pod). A part of a GPU in use counts against the whole GPU."""
    known = {device.id: device for device in devices.devices}
    place: dict[str | None, int] = {gpu.uuid: position for position, gpu in enumerate(machine.gpus) if gpu.uuid}
    gpus = [device for device in devices.devices if device.counter_sets and bits[device.id] < MAX_GPUS]
    used, by_pod = 0, dict[str, tuple[int, ...]]()
    for claim in held:
        if claim.pods and all(uid in leaving for uid, _, _ in claim.pods):
            continue
        mask = 0
        for device_id in claim.devices:
            device = known.get(device_id)
            if device is None:
                notes.append(f"claim {claim.claim} holds {device_id[2]} of pool {device_id[1]}, which no current slice names")
                continue
            mask |= 1 << bits[device_id]
            if device.parent_uuid in place:
                mask |= 1 << place[device.parent_uuid]
            mask |= _sharing_counters(device, gpus, bits)
        used |= mask
        on_gpus = mask & mask_of(range(len(machine.gpus)))
        for uid in [pod[0] for pod in claim.pods] or [f"claim {claim.claim}"]:
            if on_gpus:
                by_pod[uid] = (*by_pod.get(uid, ()), on_gpus)
    return used, by_pod


def _sharing_counters(device: NodeDevice, gpus: Iterable[NodeDevice], bits: Mapping[DeviceId, int]) -> int:
    """Return the mask of the GPUs that consume the same counters as a device: while that is held, they cannot be allocated."""
    return mask_of(
        [bits[gpu.id] for gpu in gpus if (gpu.driver, gpu.pool) == (device.driver, device.pool) and gpu.counter_sets & device.counter_sets]
    )
