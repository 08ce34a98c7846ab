"""What the node's agent tells the node's steerer, as one bounded JSON document: devices, their state, and the values of all sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from topology.devices.size_mix import SIZES
from topology.devices.steering import KnownDevices, Steering
from topology.devices.steering_table import Entry, ValueTable
from topology.machine.hardware import MAX_GPUS, Machine, mask_of, positions_of

FORMAT = 2
MOST_BYTES = 1 << 20
"""Largest document that is read: 4,096 entries are some 400 KiB."""


class _Device(msgspec.Struct, frozen=True, rename="camel"):
    index: Annotated[int, Meta(ge=0, le=255)]
    uuid: Annotated[str, Meta(max_length=256)] | None = None
    excluded: bool = False
    unknown_memory_bytes: Annotated[int, Meta(ge=0, le=1 << 50)] = 0
    pressure: Annotated[float, Meta(ge=0, le=1)] = 0.0


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    format: int
    written_at_seconds: float
    devices: Annotated[list[_Device], Meta(max_length=MAX_GPUS)]
    messages: Annotated[str, Meta(max_length=64)]
    size_mix: Annotated[
        list[tuple[Annotated[int, Meta(ge=1, le=MAX_GPUS)], Annotated[float, Meta(ge=0, le=1e6)]]], Meta(max_length=MAX_GPUS)
    ]
    interchangeable: Annotated[list[list[Annotated[int, Meta(ge=0, lt=MAX_GPUS)]]], Meta(max_length=MAX_GPUS)]
    values: Annotated[list[Entry], Meta(max_length=4096)]


class FactsError(ValueError):
    """A document that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a steerer knows of its node."""

    positions: dict[str, int]
    """Device id -> position: by uuid and, for plugins that name devices so, by nvidia-smi index."""
    indices: tuple[int, ...]
    """nvidia-smi index per position."""
    table: ValueTable
    steering: Steering
    written_at_seconds: float
    """Unix time."""


def encode_facts(machine: Machine, table: ValueTable, steering: Steering, now_seconds: float) -> bytes:
    """The document about a machine. `table` is made with the same `steering`."""
    known = steering.known
    memory = known.unknown_memory_bytes
    devices = [
        _Device(
            gpu.index,
            gpu.uuid,
            bool(known.excluded >> position & 1),
            memory[position] if position < len(memory) else 0,
            known.pressure_of(position),
        )
        for position, gpu in enumerate(machine.gpus)
    ]
    classes = [list(positions_of(members)) for members in table.interchangeable]
    return msgspec.json.encode(
        _Document(FORMAT, now_seconds, devices, steering.messages, list(steering.size_mix), classes, list(table.entries))
    )


def decode_facts(document: bytes) -> DeviceFacts:
    """The facts in a document. Raises FactsError."""
    if len(document) > MOST_BYTES:
        raise FactsError(f"the document has more than {MOST_BYTES} bytes")
    try:
        wire = msgspec.json.decode(document, type=_Document)
        table = ValueTable(tuple(mask_of(members) for members in wire.interchangeable), tuple(wire.values))
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise FactsError(str(error)) from error
    if wire.format != FORMAT:
        raise FactsError(f"it has format {wire.format}, this version reads {FORMAT}: run agent and steerer of one version")
    if sorted(position for members in wire.interchangeable for position in members) != list(range(len(wire.devices))):
        raise FactsError("the classes of interchangeable devices are not those of the listed devices")
    if not {size for size, _ in wire.size_mix} <= set(SIZES):
        raise FactsError(f"its mix of sizes has others than {SIZES}")
    known = KnownDevices(
        mask_of([position for position, device in enumerate(wire.devices) if device.excluded]),
        tuple(device.unknown_memory_bytes for device in wire.devices),
        tuple(device.pressure for device in wire.devices),
    )
    positions = {str(device.index): position for position, device in enumerate(wire.devices)}
    positions |= {device.uuid: position for position, device in enumerate(wire.devices) if device.uuid}
    steering = Steering(known, wire.messages, tuple(wire.size_mix))
    return DeviceFacts(positions, tuple(device.index for device in wire.devices), table, steering, wire.written_at_seconds)
