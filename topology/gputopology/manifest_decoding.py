"""A GpuTopology manifest -> its record.

Decoding is strict: an object that contradicts itself is a TopologyError with the field, never a partly decoded machine.
"""

from __future__ import annotations

import re
import sys
from datetime import datetime
from functools import lru_cache

import msgspec

from topology.gputopology.manifest_fields import (
    LINK_COUNT,
    LINK_ROW,
    OBSERVED_AT,
    PATH_ROW,
    WireAllocation,
    WireGpu,
    WireSpec,
    WireStatus,
    WireSteering,
    WireTopology,
)
from topology.gputopology.topology_record import Allocation, DeviceStatus, Health, SteeringStatus, TopologyRecord
from topology.machine.hardware import MAX_LINKS, FabricDomain, Gpu, Machine, MigInstance, Nic, PciePath, TopologyError, with_uuids

_MOST_SHARED = 1_024
"""Machines without uuids that are remembered; each takes about 10 KB."""


def decode(manifest: object) -> TopologyRecord:
    """Return the record of a GpuTopology that was parsed from JSON or YAML. Raises TopologyError with object and field."""
    name = "?"
    try:
        wire = msgspec.convert(manifest, WireTopology)
        name = wire.metadata.name
        machine = _machine(wire.spec)
        status = _status(wire.status, machine) if wire.status is not None else None
    except (msgspec.ValidationError, TopologyError, ValueError) as error:
        if isinstance(manifest, dict):
            metadata = manifest.get("metadata")
            stated_name = metadata.get("name") if isinstance(metadata, dict) else None
            name = stated_name[:253] if isinstance(stated_name, str) else name
        raise TopologyError(f"GpuTopology {name}: {error}") from error
    return TopologyRecord(name, machine, status)


def _machine(spec: WireSpec) -> Machine:
    """Return the machine. Machines that differ only in the uuids of their GPUs share all else: most nodes of a cluster are alike."""
    anonymous = msgspec.structs.replace(spec, gpus=[msgspec.structs.replace(gpu, uuid=None) for gpu in spec.gpus])
    machine = _machine_without_uuids(msgspec.msgpack.encode(anonymous))
    uuids = [gpu.uuid for gpu in spec.gpus]
    return with_uuids(machine, uuids) if any(uuid is not None for uuid in uuids) else machine


@lru_cache(maxsize=_MOST_SHARED)
def _machine_without_uuids(encoded: bytes) -> Machine:
    """Return the machine of a spec, encoded as MessagePack, that has no uuids of GPUs."""
    spec = msgspec.msgpack.decode(encoded, type=WireSpec)
    if spec.gpu_count is not None and spec.gpu_count != len(spec.gpus):
        raise TopologyError(f"spec.gpuCount is {spec.gpu_count} but spec.gpus lists {len(spec.gpus)}")
    gpus = tuple(_gpu(gpu) for gpu in spec.gpus)
    nics = tuple(Nic(nic.name, nic.device, nic.numa_node) for nic in spec.nics)
    total = len(gpus) + len(nics)
    paths = tuple(_path_row(row, place) for place, row in enumerate(spec.pcie_paths)) or tuple((None,) * total for _ in range(total))
    links = tuple(_link_row(row, place) for place, row in enumerate(spec.nvlinks)) or tuple((0,) * len(gpus) for _ in gpus)
    return Machine(
        gpus=gpus,
        nics=nics,
        pcie_paths=paths,
        nvlinks=links,
        cpu_model=spec.cpu_model,
        peer_to_peer=spec.peer_to_peer,
        driver_version=spec.driver_version,
        cuda_version=spec.cuda_version,
    )


def _gpu(wire: WireGpu) -> Gpu:
    plain = {name: getattr(wire, name) for name in wire.__struct_fields__ if name not in ("mig_instances", "fabric_domain")}
    domain = wire.fabric_domain
    return Gpu(
        **plain,
        mig_instances=tuple(MigInstance(mig.uuid, mig.profile, mig.memory_bytes) for mig in wire.mig_instances),
        fabric_domain=FabricDomain(domain.cluster_uuid, domain.clique_id, domain.state) if domain else None,
    )


def _path_row(row: str, place: int) -> tuple[PciePath | None, ...]:
    cells = row.split()
    for column, cell in enumerate(cells):
        if cell not in ("X", "?") and cell not in PciePath.__members__:
            raise TopologyError(f"spec.pciePaths[{place}], column {column}: {cell[:40]!r} is none of X, ?, {', '.join(PciePath)}")
    _check_spaces(row, PATH_ROW, f"spec.pciePaths[{place}]")
    return tuple(None if cell in ("X", "?") else PciePath(cell) for cell in cells)


def _link_row(row: str, place: int) -> tuple[int, ...]:
    cells = row.split()
    for column, cell in enumerate(cells):
        if not re.fullmatch(LINK_COUNT, cell):
            raise TopologyError(f"spec.nvlinks[{place}], column {column}: {cell[:40]!r} is not a number of links from 0 to {MAX_LINKS}")
    _check_spaces(row, LINK_ROW, f"spec.nvlinks[{place}]")
    return tuple(int(cell) for cell in cells)


def _check_spaces(row: str, pattern: str, where: str) -> None:
    """Raise TopologyError where the cells of a row, each valid, are not separated by single spaces."""
    if not re.fullmatch(pattern, row):
        raise TopologyError(f"{where}: cells are not separated by one space each")


def _status(status: WireStatus, machine: Machine) -> DeviceStatus:
    known = {gpu.index for gpu in machine.gpus}
    allocated = [allocation.index for allocation in status.allocated]
    named = {
        "free": status.free or [],
        "allocated": allocated,
        "unhealthy": [entry.index for entry in status.unhealthy],
        "health": [entry.index for entry in status.health],
        "steering.unknownMemory": [entry.index for entry in status.steering.unknown_memory] if status.steering else [],
        "steering.pressure": [entry.index for entry in status.steering.pressure] if status.steering else [],
    }
    for where, indices in named.items():
        for index in indices:
            if index not in known:
                raise TopologyError(f"status.{where} names GPU {index}, which spec.gpus does not have")
    both = sorted(set(status.free or []) & set(allocated))
    if both:
        raise TopologyError(f"GPU {both[0]} is both in status.free and in status.allocated")
    return DeviceStatus(
        free=tuple(status.free) if status.free is not None else None,
        allocated=_allocations(status.allocated),
        unhealthy=tuple((u.index, u.reason) for u in status.unhealthy),
        health=tuple(
            Health(h.index, h.ecc_volatile, h.ecc_aggregate, h.retirement_pending, h.remap_failed, tuple(h.throttle_reasons))
            for h in status.health
        ),
        observed_at_seconds=_seconds(status.observed_at),
        allocations_unknown=status.allocations_unknown,
        steering=_steering(status.steering) if status.steering else None,
    )


def _allocations(wires: list[WireAllocation]) -> tuple[Allocation, ...]:
    """Return the allocations; those of one pod share its texts."""
    shared: dict[str | None, str | None] = {}
    return tuple(
        Allocation(
            wire.index,
            shared.setdefault(wire.pod_uid, wire.pod_uid),
            sys.intern(wire.pod_namespace) if wire.pod_namespace is not None else None,
            shared.setdefault(wire.pod_name, wire.pod_name),
        )
        for wire in wires
    )


def _steering(wire: WireSteering) -> SteeringStatus:
    return SteeringStatus(
        wire.version,
        tuple(wire.resources),
        wire.messages,
        tuple((entry.index, entry.bytes) for entry in wire.unknown_memory),
        tuple((entry.index, entry.level) for entry in wire.pressure),
        wire.steered,
        tuple((entry.reason, entry.count) for entry in wire.forwarded),
        wire.differing,
    )


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        if not re.fullmatch(OBSERVED_AT, text):
            raise ValueError
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError) as error:
        raise TopologyError(f"status.observedAt {text!r} is not an RFC 3339 time with a zone, such as 2026-05-01T08:00:00Z") from error
