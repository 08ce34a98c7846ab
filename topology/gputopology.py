"""Machine <-> the custom resource GpuTopology (fabricwise.dev/v1alpha1): one object per node, with the node's name.

`spec` is hardware and changes rarely. `status` states which GPUs are free, allocated or unhealthy, and when that was observed.
GPUs are named by their nvidia-smi index. Decoding is strict: an object that contradicts itself is a TopologyError with
the field, never a partly decoded machine.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from topology.bandwidth.fabric import fabric_name
from topology.machine.hardware import (
    MAX_GPUS,
    MAX_LINKS,
    MAX_NICS,
    FabricDomain,
    Gpu,
    Machine,
    MigInstance,
    Nic,
    PciePath,
    TopologyError,
    mask_of,
    with_uuids,
)
from topology.placement import table_for

GROUP, VERSION, KIND, PLURAL = "fabricwise.dev", "v1alpha1", "GpuTopology", "gputopologies"
API_VERSION = f"{GROUP}/{VERSION}"
MAX_REASON_LENGTH = 512
"""Most characters of `status.allocationsUnknown`; the CRD has the same bound."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """An allocated GPU, and the pod that has it where that is known."""

    index: int
    pod_uid: str | None = None
    pod_namespace: str | None = None
    pod_name: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What the driver reports about the health of a GPU. None = it does not report it."""

    index: int
    ecc_volatile: int | None = None
    """Double-bit errors since the driver was loaded."""
    ecc_aggregate: int | None = None
    """Double-bit errors over the life of the GPU."""
    retirement_pending: bool | None = None
    """Whether memory pages or rows are retired at the next reset."""
    remap_failed: bool | None = None
    """Whether a row could not be remapped: the memory has no spare row left."""
    throttle_reasons: tuple[str, ...] = ()


MAX_STEERING_RESOURCES, MAX_STEERING_REASONS = 32, 32
"""Most resources of one steerer, and most reasons for which it forwards answers; the CRD has the same bounds."""


STEERING_REASONS = frozenset(
    ["mig", "shared", "no_facts", "old_facts", "unknown_device", "too_many_sets", "several_containers", "impossible", "timeout", "error"]
)
"""Reasons for which a steerer forwards an answer; one of another version may have others."""


@dataclass(frozen=True, slots=True)
class SteeringStatus:
    """The steerer that answers for the node's devices; see `topology.devices.steering`."""

    version: str
    resources: tuple[str, ...]
    """Resources that the kubelet asks it about, such as nvidia.com/gpu."""
    messages: str
    """The mix of messages that it weighs bandwidth over."""
    unknown_memory: tuple[tuple[int, int], ...] = ()
    """(index, bytes) per GPU on which processes of no known pod hold memory."""
    pressure: tuple[tuple[int, float], ...] = ()
    """(index, load 0..1) per GPU that no pod holds and that is busy all the same."""
    steered: int = 0
    """Answers of its own since it started."""
    forwarded: tuple[tuple[str, int], ...] = ()
    """(reason, answers of NVIDIA's plugin)."""
    differing: int = 0
    """Allocations of other devices than it answered."""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What the node's agent observed.

    `free` None = the agent does not know which GPUs are free. Then no free count is published, and the devices of bound pods that
    `allocated` does not name are predicted.
    """

    free: tuple[int, ...] | None = None
    allocated: tuple[Allocation, ...] = ()
    unhealthy: tuple[tuple[int, str], ...] = ()
    """(index, reason) per GPU that must not be used."""
    observed_at_seconds: float | None = None
    """Unix time."""
    health: tuple[Health, ...] = ()
    allocations_unknown: str | None = None
    """Why the agent does not know which pod has which GPU. `free` is then None and `allocated` is empty; neither is evidence."""
    steering: SteeringStatus | None = None
    """None = no steerer is known to run."""


@dataclass(frozen=True, slots=True)
class TopologyRecord:
    """A decoded GpuTopology."""

    node: str
    machine: Machine
    status: DeviceStatus | None = None


GENERATIONS = 16
"""Highest generation of PCIe or NVLink that is accepted: PCIe 7 and NVLink 6 are announced; both bounds leave room."""

MAX_MEMORY_BYTES = 1 << 50
"""Largest memory of one GPU that is accepted: 1 PiB."""

MAX_COUNT = 1 << 53
"""Largest error count that is accepted: a JSON number above it is not exact in every reader."""

OBSERVED_AT = r"[12][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
"""RFC 3339 with a zone. A time without a zone means a different moment on each machine."""

_LINK_COUNT = r"([0-9]|[12][0-9]|3[0-6])"
LINK_ROW = rf"{_LINK_COUNT}( {_LINK_COUNT})*"
PATH_ROW = r"([X?]|PIX|PXB|PHB|NODE|SYS)( ([X?]|PIX|PXB|PHB|NODE|SYS))*"

# The bounds of every field. manifests/crd/gputopologies.yaml states the same ones, and a test compares the two: an object that the API
# server accepts is an object that can be read, and costs a bounded amount of memory and time.
_Index = Annotated[int, Meta(ge=0, le=255)]
_Numa = Annotated[int, Meta(ge=0, le=1023)]
_Links = Annotated[int, Meta(ge=0, le=MAX_LINKS)]
_Generation = Annotated[int, Meta(ge=1, le=GENERATIONS)]
_Width = Annotated[int, Meta(ge=1, le=32)]
_Bytes = Annotated[int, Meta(ge=1, le=MAX_MEMORY_BYTES)]
_Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
_Number = Annotated[int, Meta(ge=0, le=MAX_GPUS)]
_Gbps = Annotated[float, Meta(ge=0, le=1_000_000)]
_Clique = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
_Name = Annotated[str, Meta(max_length=256)]
_Text = Annotated[str, Meta(max_length=1024)]
_PathRow = Annotated[str, Meta(max_length=400, extra_json_schema={"pattern": f"^{PATH_ROW}$"})]
_LinkRow = Annotated[str, Meta(max_length=64, extra_json_schema={"pattern": f"^{LINK_ROW}$"})]
_Time = Annotated[str, Meta(max_length=64, extra_json_schema={"pattern": f"^{OBSERVED_AT}$"})]
_CpuList = Annotated[str, Meta(max_length=4096)]
_Capability = Annotated[str, Meta(max_length=16)]


_MOST_SHARED = 1_024
"""Machines without uuids that are remembered; each takes about 10 KB."""


class _Wire(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    pass


class _WireMig(_Wire, frozen=True):
    uuid: _Name
    profile: _Name | None = None
    memory_bytes: _Bytes | None = None


class _WireDomain(_Wire, frozen=True):
    cluster_uuid: _Name
    clique_id: _Clique
    state: _Name


class _WireGpu(_Wire, frozen=True):
    index: _Index
    uuid: _Name | None = None
    product: _Name | None = None
    memory_bytes: _Bytes | None = None
    pci_bus_id: _Name | None = None
    numa_node: _Numa | None = None
    cpu_affinity: _CpuList | None = None
    numa_affinity: _CpuList | None = None
    mig_enabled: bool | None = None
    pcie_generation: _Generation | None = None
    pcie_width: _Width | None = None
    nvlink_generation: _Generation | None = None
    switch_links: _Links | None = None
    dead_links: _Links | None = None
    compute_capability: _Capability | None = None
    ecc_enabled: bool | None = None
    persistence_mode: bool | None = None
    one_sided_links: _Links | None = None
    mig_instances: Annotated[list[_WireMig], Meta(max_length=16)] = []
    fabric_domain: _WireDomain | None = None


class _WireNic(_Wire, frozen=True):
    name: _Name
    device: _Name | None = None
    numa_node: _Numa | None = None


class _WireSpec(_Wire, frozen=True):
    gpus: Annotated[list[_WireGpu], Meta(max_length=MAX_GPUS)]
    nics: Annotated[list[_WireNic], Meta(max_length=MAX_NICS)] = []
    pcie_paths: Annotated[list[_PathRow], Meta(max_length=MAX_GPUS + MAX_NICS)] = []
    nvlinks: Annotated[list[_LinkRow], Meta(max_length=MAX_GPUS)] = []
    cpu_model: _Name | None = None
    peer_to_peer: bool | None = None
    driver_version: _Name | None = None
    cuda_version: _Name | None = None
    gpu_count: _Number | None = None
    product: _Name | None = None
    fabric: _Name | None = None


class _WireAllocation(_Wire, frozen=True):
    index: _Index
    pod_uid: _Name | None = None
    pod_namespace: _Name | None = None
    pod_name: _Name | None = None


class _WireUnhealthy(_Wire, frozen=True):
    index: _Index
    reason: _Text = ""


class _WireHealth(_Wire, frozen=True):
    index: _Index
    ecc_volatile: _Count | None = None
    ecc_aggregate: _Count | None = None
    retirement_pending: bool | None = None
    remap_failed: bool | None = None
    throttle_reasons: Annotated[list[_Name], Meta(max_length=64)] = []


class _WireUnknownMemory(_Wire, frozen=True):
    index: _Index
    bytes: _Bytes


class _WirePressure(_Wire, frozen=True):
    index: _Index
    level: Annotated[float, Meta(ge=0, le=1)]


class _WireForwarded(_Wire, frozen=True):
    reason: _Name
    count: _Count


class _WireSteering(_Wire, frozen=True):
    version: Annotated[str, Meta(max_length=64)]
    resources: Annotated[list[_Name], Meta(max_length=MAX_STEERING_RESOURCES)]
    messages: Annotated[str, Meta(max_length=64)]
    unknown_memory: Annotated[list[_WireUnknownMemory], Meta(max_length=MAX_GPUS)] = []
    pressure: Annotated[list[_WirePressure], Meta(max_length=MAX_GPUS)] = []
    steered: _Count = 0
    forwarded: Annotated[list[_WireForwarded], Meta(max_length=MAX_STEERING_REASONS)] = []
    differing: _Count = 0


class _WireStatus(_Wire, frozen=True):
    observed_at: _Time | None = None
    free: Annotated[list[_Index], Meta(max_length=MAX_GPUS)] | None = None
    allocated: Annotated[list[_WireAllocation], Meta(max_length=1024)] = []
    unhealthy: Annotated[list[_WireUnhealthy], Meta(max_length=64)] = []
    health: Annotated[list[_WireHealth], Meta(max_length=MAX_GPUS)] = []
    allocations_unknown: Annotated[str, Meta(max_length=MAX_REASON_LENGTH)] | None = None
    free_count: _Number | None = None
    best2_gbps: _Gbps | None = msgspec.field(default=None, name="best2Gbps")
    best4_gbps: _Gbps | None = msgspec.field(default=None, name="best4Gbps")
    steering: _WireSteering | None = None


class _WireMeta(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(max_length=253)]


class _WireTopology(_Wire, frozen=True):
    metadata: _WireMeta
    spec: _WireSpec
    status: _WireStatus | None = None


def decode(manifest: object) -> TopologyRecord:
    """Return the record of a GpuTopology that was parsed from JSON or YAML. Raises TopologyError with object and field."""
    name = "?"
    try:
        wire = msgspec.convert(manifest, _WireTopology)
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


def _machine(spec: _WireSpec) -> Machine:
    """Return the machine. Machines that differ only in the uuids of their GPUs share all else: most nodes of a cluster are alike."""
    anonymous = msgspec.structs.replace(spec, gpus=[msgspec.structs.replace(gpu, uuid=None) for gpu in spec.gpus])
    machine = _machine_without_uuids(msgspec.msgpack.encode(anonymous))
    uuids = [gpu.uuid for gpu in spec.gpus]
    return with_uuids(machine, uuids) if any(uuid is not None for uuid in uuids) else machine


@lru_cache(maxsize=_MOST_SHARED)
def _machine_without_uuids(encoded: bytes) -> Machine:
    """Return the machine of a spec, encoded as MessagePack, that has no uuids of GPUs."""
    spec = msgspec.msgpack.decode(encoded, type=_WireSpec)
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
            raise TopologyError(f"spec.pciePaths[{place}], column {column}: {cell[:40]!r} is none of X, ?, {', '.join(PciePath)}")
    _check_spaces(row, PATH_ROW, f"spec.pciePaths[{place}]")
    return tuple(None if cell in ("X", "?") else PciePath(cell) for cell in cells)


def _link_row(row: str, place: int) -> tuple[int, ...]:
    cells = row.split()
    for column, cell in enumerate(cells):
        if not re.fullmatch(_LINK_COUNT, cell):
            raise TopologyError(f"spec.nvlinks[{place}], column {column}: {cell[:40]!r} is not a number of links from 0 to {MAX_LINKS}")
    _check_spaces(row, LINK_ROW, f"spec.nvlinks[{place}]")
    return tuple(int(cell) for cell in cells)


def _check_spaces(row: str, pattern: str, where: str) -> None:
    """Raise TopologyError where the cells of a row, each valid, are not separated by single spaces."""
    if not re.fullmatch(pattern, row):
        raise TopologyError(f"{where}: cells are not separated by one space each")


def _status(status: _WireStatus, machine: Machine) -> DeviceStatus:
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


def _allocations(wires: list[_WireAllocation]) -> tuple[Allocation, ...]:
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


def _steering(wire: _WireSteering) -> SteeringStatus:
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


def _wire_steering(steering: SteeringStatus) -> _WireSteering:
    return _WireSteering(
        steering.version,
        list(steering.resources),
        steering.messages,
        [_WireUnknownMemory(index, held) for index, held in steering.unknown_memory],
        [_WirePressure(index, level) for index, level in steering.pressure],
        steering.steered,
        [_WireForwarded(reason, count) for reason, count in steering.forwarded],
        steering.differing,
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


def encode(record: TopologyRecord) -> dict[str, Any]:
    """Return the manifest of a record, ready for YAML or JSON. `decode(encode(record)) == record`."""
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
    free = free_mask(machine, status) if status.free is not None else None
    table = table_for(machine)
    pair, four = (table.extremes(free, size) if free is not None else None for size in (2, 4))
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
        allocations_unknown=status.allocations_unknown,
        free_count=free.bit_count() if free is not None else None,
        best2_gbps=pair[0].busbw_gbps if pair else None,
        best4_gbps=four[0].busbw_gbps if four else None,
        steering=_wire_steering(status.steering) if status.steering else None,
    )


def free_mask(machine: Machine, status: DeviceStatus | None) -> int:
    """Return the mask of positions that the status leaves free; all of them without a status."""
    whole = mask_of(range(len(machine.gpus)))
    if status is None:
        return whole
    unavailable = {index for index, _ in status.unhealthy} | {allocation.index for allocation in status.allocated}
    free = whole if status.free is None else mask_of(machine.positions(sorted(set(status.free))))
    return free & ~mask_of(machine.positions(sorted(unavailable)))
