"""The fields of a GpuTopology manifest with their bounds, as JSON has them.

`spec` is hardware and changes rarely. `status` states which GPUs are free, allocated or unhealthy, and when that was observed.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from topology.machine.hardware import MAX_GPUS, MAX_LINKS, MAX_NICS

GROUP, VERSION, KIND, PLURAL = "fabricwise.dev", "v1alpha1", "GpuTopology", "gputopologies"
API_VERSION = f"{GROUP}/{VERSION}"
MAX_REASON_LENGTH = 512
"""Most characters of `status.allocationsUnknown`; the CRD has the same bound."""

MAX_STEERING_RESOURCES, MAX_STEERING_REASONS = 32, 32
"""Most resources of one steerer, and most reasons for which it forwards answers; the CRD has the same bounds."""

GENERATIONS = 16
"""Highest generation of PCIe or NVLink that is accepted: PCIe 7 and NVLink 6 are announced; both bounds leave room."""

MAX_MEMORY_BYTES = 1 << 50
"""Largest memory of one GPU that is accepted: 1 PiB."""

MAX_COUNT = 1 << 53
"""Largest error count that is accepted: a JSON number above it is not exact in every reader."""

OBSERVED_AT = r"[12][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
"""RFC 3339 with a zone. A time without a zone means a different moment on each machine."""

LINK_COUNT = r"([0-9]|[12][0-9]|3[0-6])"
LINK_ROW = rf"{LINK_COUNT}( {LINK_COUNT})*"
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


class Wire(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    pass


class WireMig(Wire, frozen=True):
    uuid: _Name
    profile: _Name | None = None
    memory_bytes: _Bytes | None = None


class WireDomain(Wire, frozen=True):
    cluster_uuid: _Name
    clique_id: _Clique
    state: _Name


class WireGpu(Wire, frozen=True):
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
    mig_instances: Annotated[list[WireMig], Meta(max_length=16)] = []
    fabric_domain: WireDomain | None = None


class WireNic(Wire, frozen=True):
    name: _Name
    device: _Name | None = None
    numa_node: _Numa | None = None


class WireSpec(Wire, frozen=True):
    gpus: Annotated[list[WireGpu], Meta(max_length=MAX_GPUS)]
    nics: Annotated[list[WireNic], Meta(max_length=MAX_NICS)] = []
    pcie_paths: Annotated[list[_PathRow], Meta(max_length=MAX_GPUS + MAX_NICS)] = []
    nvlinks: Annotated[list[_LinkRow], Meta(max_length=MAX_GPUS)] = []
    cpu_model: _Name | None = None
    peer_to_peer: bool | None = None
    driver_version: _Name | None = None
    cuda_version: _Name | None = None
    gpu_count: _Number | None = None
    product: _Name | None = None
    fabric: _Name | None = None


class WireAllocation(Wire, frozen=True):
    index: _Index
    pod_uid: _Name | None = None
    pod_namespace: _Name | None = None
    pod_name: _Name | None = None


class WireUnhealthy(Wire, frozen=True):
    index: _Index
    reason: _Text = ""


class WireHealth(Wire, frozen=True):
    index: _Index
    ecc_volatile: _Count | None = None
    ecc_aggregate: _Count | None = None
    retirement_pending: bool | None = None
    remap_failed: bool | None = None
    throttle_reasons: Annotated[list[_Name], Meta(max_length=64)] = []


class WireUnknownMemory(Wire, frozen=True):
    index: _Index
    bytes: _Bytes


class WirePressure(Wire, frozen=True):
    index: _Index
    level: Annotated[float, Meta(ge=0, le=1)]


class WireForwarded(Wire, frozen=True):
    reason: _Name
    count: _Count


class WireSteering(Wire, frozen=True):
    version: Annotated[str, Meta(max_length=64)]
    resources: Annotated[list[_Name], Meta(max_length=MAX_STEERING_RESOURCES)]
    messages: Annotated[str, Meta(max_length=64)]
    unknown_memory: Annotated[list[WireUnknownMemory], Meta(max_length=MAX_GPUS)] = []
    pressure: Annotated[list[WirePressure], Meta(max_length=MAX_GPUS)] = []
    steered: _Count = 0
    forwarded: Annotated[list[WireForwarded], Meta(max_length=MAX_STEERING_REASONS)] = []
    differing: _Count = 0


class WireStatus(Wire, frozen=True):
    observed_at: _Time | None = None
    free: Annotated[list[_Index], Meta(max_length=MAX_GPUS)] | None = None
    allocated: Annotated[list[WireAllocation], Meta(max_length=1024)] = []
    unhealthy: Annotated[list[WireUnhealthy], Meta(max_length=64)] = []
    health: Annotated[list[WireHealth], Meta(max_length=MAX_GPUS)] = []
    allocations_unknown: Annotated[str, Meta(max_length=MAX_REASON_LENGTH)] | None = None
    free_count: _Number | None = None
    best2_gbps: _Gbps | None = msgspec.field(default=None, name="best2Gbps")
    best4_gbps: _Gbps | None = msgspec.field(default=None, name="best4Gbps")
    steering: WireSteering | None = None


class WireMeta(msgspec.Struct, frozen=True):
    name: Annotated[str, Meta(max_length=253)]


class WireTopology(Wire, frozen=True):
    metadata: WireMeta
    spec: WireSpec
    status: WireStatus | None = None
