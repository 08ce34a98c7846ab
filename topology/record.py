"""Machine <-> the custom resource GpuTopology (fabricwise.dev/v1alpha1), one object per node, named as it.

`spec` is hardware and changes rarely; `status` says which GPUs are free, held or unhealthy, and when that was seen.
GPUs are named by their nvidia-smi index. Decoding is strict: what contradicts itself is a TopologyError naming
the field, never a half-read machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from topology.fabric import fabric_name
from topology.hardware import FabricDomain, Gpu, Machine, MigInstance, Nic, PciePath, TopologyError, mask_of
from topology.placement import table_for

GROUP, VERSION, KIND, PLURAL = "fabricwise.dev", "v1alpha1", "GpuTopology", "gputopologies"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True, slots=True)
class Allocation:
    """A GPU that is held, and by whom where that is known."""

    index: int
    pod_uid: str | None = None
    pod_namespace: str | None = None
    pod_name: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What a GPU's driver counts. None = the driver does not say."""

    index: int
    ecc_volatile: int | None = None
    """Double-bit errors since the driver was loaded."""
    ecc_aggregate: int | None = None
    """Double-bit errors ever."""
    retirement_pending: bool | None = None
    """Memory pages or rows wait for a reset to be taken out of use."""
    remap_failed: bool | None = None
    """A row could not be remapped: the memory has no spare left."""
    throttle_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What the node's agent saw. `free` None = it did not say; then all but held and unhealthy GPUs count as free."""

    free: tuple[int, ...] | None = None
    allocated: tuple[Allocation, ...] = ()
    unhealthy: tuple[tuple[int, str], ...] = ()
    """(index, reason) per GPU that must not be used."""
    observed_at_seconds: float | None = None
    """Unix time."""
    health: tuple[Health, ...] = ()


@dataclass(frozen=True, slots=True)
class TopologyRecord:
    """A decoded GpuTopology."""

    node: str
    machine: Machine
    status: DeviceStatus | None = None


class _Wire(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    pass


class _WireMig(_Wire, frozen=True):
    uuid: str
    profile: str | None = None
    memory_bytes: int | None = None


class _WireDomain(_Wire, frozen=True):
    cluster_uuid: str
    clique_id: int
    state: str


class _WireGpu(_Wire, frozen=True):
    index: int
    uuid: str | None = None
    product: str | None = None
    memory_bytes: int | None = None
    pci_bus_id: str | None = None
    numa_node: int | None = None
    cpu_affinity: str | None = None
    numa_affinity: str | None = None
    mig_enabled: bool | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    nvlink_generation: int | None = None
    switch_links: int | None = None
    dead_links: int | None = None
    compute_capability: str | None = None
    ecc_enabled: bool | None = None
    persistence_mode: bool | None = None
    mig_instances: list[_WireMig] = []
    fabric_domain: _WireDomain | None = None


class _WireNic(_Wire, frozen=True):
    name: str
    device: str | None = None
    numa_node: int | None = None


class _WireSpec(_Wire, frozen=True):
    gpus: list[_WireGpu]
    nics: list[_WireNic] = []
    pcie_paths: list[str] = []
    nvlinks: list[str] = []
    cpu_model: str | None = None
    peer_to_peer: bool | None = None
    driver_version: str | None = None
    cuda_version: str | None = None
    gpu_count: int | None = None
    product: str | None = None
    fabric: str | None = None


class _WireAllocation(_Wire, frozen=True):
    index: int
    pod_uid: str | None = None
    pod_namespace: str | None = None
    pod_name: str | None = None


class _WireUnhealthy(_Wire, frozen=True):
    index: int
    reason: str = ""


class _WireHealth(_Wire, frozen=True):
    index: int
    ecc_volatile: int | None = None
    ecc_aggregate: int | None = None
    retirement_pending: bool | None = None
    remap_failed: bool | None = None
    throttle_reasons: list[str] = []


class _WireStatus(_Wire, frozen=True):
    observed_at: str | None = None
    free: list[int] | None = None
    allocated: list[_WireAllocation] = []
    unhealthy: list[_WireUnhealthy] = []
    health: list[_WireHealth] = []
    free_count: int | None = None
    best2_gbps: float | None = msgspec.field(default=None, name="best2Gbps")
    best4_gbps: float | None = msgspec.field(default=None, name="best4Gbps")


class _WireMeta(msgspec.Struct, frozen=True):
    name: str


class _WireTopology(_Wire, frozen=True):
    metadata: _WireMeta
    spec: _WireSpec
    status: _WireStatus | None = None


def decode(manifest: object) -> TopologyRecord:
    """A GpuTopology as parsed JSON or YAML -> record. Raises TopologyError naming object and field."""
    name = "?"
    try:
        wire = msgspec.convert(manifest, _WireTopology, strict=False)
        name = wire.metadata.name
        machine = _machine(wire.spec)
        status = _status(wire.status, machine) if wire.status is not None else None
    except (msgspec.ValidationError, TopologyError, ValueError) as error:
        if isinstance(manifest, dict):
            metadata = manifest.get("metadata")
            name = str(metadata.get("name", name)) if isinstance(metadata, dict) else name
        raise TopologyError(f"GpuTopology {name}: {error}") from error
    return TopologyRecord(name, machine, status)


def _machine(spec: _WireSpec) -> Machine:
    if spec.gpu_count is not None and spec.gpu_count != len(spec.gpus):
        raise TopologyError(f"spec.gpuCount is {spec.gpu_count} but spec.gpus lists {len(spec.gpus)}")
    gpus = tuple(_gpu(gpu) for gpu in spec.gpus)
    nics = tuple(Nic(nic.name, nic.device, nic.numa_node) for nic in spec.nics)
    total = len(gpus) + len(nics)
    paths = tuple(_path_row(row, place) for place, row in enumerate(spec.pcie_paths)) or tuple((None,) * total for _ in range(total))
    links = tuple(_link_row(row, place) for place, row in enumerate(spec.nvlinks)) or tuple((0,) * len(gpus) for _ in gpus)
    return Machine(gpus, nics, paths, links, spec.cpu_model, spec.peer_to_peer, spec.driver_version, spec.cuda_version)


def _gpu(wire: _WireGpu) -> Gpu:
    plain = {name: getattr(wire, name) for name in wire.__struct_fields__ if name not in ("mig_instances", "fabric_domain")}
    domain = wire.fabric_domain
    return Gpu(
        **plain,
        mig_instances=tuple(MigInstance(mig.uuid, mig.profile, mig.memory_bytes) for mig in wire.mig_instances),
        fabric_domain=FabricDomain(domain.cluster_uuid, domain.clique_id, domain.state) if domain else None,
    )


def _wire_gpu(gpu: Gpu) -> _WireGpu:
    plain = {name: getattr(gpu, name) for name in _WireGpu.__struct_fields__ if name not in ("mig_instances", "fabric_domain")}
    domain = gpu.fabric_domain
    return _WireGpu(
        **plain,
        mig_instances=[_WireMig(mig.uuid, mig.profile, mig.memory_bytes) for mig in gpu.mig_instances],
        fabric_domain=_WireDomain(domain.cluster_uuid, domain.clique_id, domain.state) if domain else None,
    )


def _path_row(row: str, place: int) -> tuple[PciePath | None, ...]:
    cells = row.split()
    for column, cell in enumerate(cells):
        if cell not in ("X", "?") and cell not in PciePath.__members__:
            raise TopologyError(f"spec.pciePaths[{place}], column {column}: {cell!r} is none of X, ?, {', '.join(PciePath)}")
    return tuple(None if cell in ("X", "?") else PciePath(cell) for cell in cells)


def _link_row(row: str, place: int) -> tuple[int, ...]:
    cells = row.split()
    for column, cell in enumerate(cells):
        if not cell.isdigit():
            raise TopologyError(f"spec.nvlinks[{place}], column {column}: {cell!r} is not a number of links")
    return tuple(int(cell) for cell in cells)


def _status(status: _WireStatus, machine: Machine) -> DeviceStatus:
    known = {gpu.index for gpu in machine.gpus}
    held = [allocation.index for allocation in status.allocated]
    named = {
        "free": status.free or [],
        "allocated": held,
        "unhealthy": [entry.index for entry in status.unhealthy],
        "health": [entry.index for entry in status.health],
    }
    for where, indices in named.items():
        for index in indices:
            if index not in known:
                raise TopologyError(f"status.{where} names GPU {index}, which spec.gpus does not have")
    both = sorted(set(status.free or []) & set(held))
    if both:
        raise TopologyError(f"GPU {both[0]} is both in status.free and in status.allocated")
    return DeviceStatus(
        free=tuple(status.free) if status.free is not None else None,
        allocated=tuple(Allocation(a.index, a.pod_uid, a.pod_namespace, a.pod_name) for a in status.allocated),
        unhealthy=tuple((u.index, u.reason) for u in status.unhealthy),
        health=tuple(
            Health(h.index, h.ecc_volatile, h.ecc_aggregate, h.retirement_pending, h.remap_failed, tuple(h.throttle_reasons))
            for h in status.health
        ),
        observed_at_seconds=_seconds(status.observed_at),
    )


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise TopologyError(f"status.observedAt {text!r} is not an RFC 3339 time") from error


def encode(record: TopologyRecord) -> dict[str, Any]:
    """Record -> manifest, ready for YAML or JSON. `decode(encode(record)) == record`."""
    machine = record.machine
    products = {gpu.product for gpu in machine.gpus}
    names = [["X" if i == j else (path.value if path else "?") for j, path in enumerate(row)] for i, row in enumerate(machine.pcie_paths)]
    spec = _WireSpec(
        gpus=[_wire_gpu(gpu) for gpu in machine.gpus],
        nics=[_WireNic(nic.name, nic.device, nic.numa_node) for nic in machine.nics],
        pcie_paths=[" ".join(row) for row in names],
        nvlinks=[" ".join(map(str, row)) for row in machine.nvlinks],
        cpu_model=machine.cpu_model,
        peer_to_peer=machine.peer_to_peer,
        driver_version=machine.driver_version,
        cuda_version=machine.cuda_version,
        gpu_count=len(machine.gpus),
        product=products.pop() if len(products) == 1 else None,
        fabric=fabric_name(machine),
    )
    manifest: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": record.node},
        "spec": msgspec.to_builtins(spec),
    }
    if record.status is not None:
        manifest["status"] = msgspec.to_builtins(_wire_status(machine, record.status))
    return manifest


def _wire_status(machine: Machine, status: DeviceStatus) -> _WireStatus:
    free = free_mask(machine, status)
    table = table_for(machine)
    pair, four = table.extremes(free, 2), table.extremes(free, 4)
    seconds = status.observed_at_seconds
    return _WireStatus(
        observed_at=datetime.fromtimestamp(seconds, UTC).isoformat() if seconds is not None else None,
        free=list(status.free) if status.free is not None else None,
        allocated=[_WireAllocation(a.index, a.pod_uid, a.pod_namespace, a.pod_name) for a in status.allocated],
        unhealthy=[_WireUnhealthy(index, reason) for index, reason in status.unhealthy],
        health=[
            _WireHealth(h.index, h.ecc_volatile, h.ecc_aggregate, h.retirement_pending, h.remap_failed, list(h.throttle_reasons))
            for h in status.health
        ],
        free_count=free.bit_count(),
        best2_gbps=pair[0].busbw_gbps if pair else None,
        best4_gbps=four[0].busbw_gbps if four else None,
    )


def free_mask(machine: Machine, status: DeviceStatus | None) -> int:
    """Positions that the status leaves free; all of them where there is no status."""
    whole = mask_of(range(len(machine.gpus)))
    if status is None:
        return whole
    gone = {index for index, _ in status.unhealthy} | {a.index for a in status.allocated}
    free = whole if status.free is None else mask_of(machine.positions(sorted(set(status.free))))
    return free & ~mask_of(machine.positions(sorted(gone)))
