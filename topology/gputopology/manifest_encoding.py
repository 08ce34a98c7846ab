"""A record -> the manifest of its GpuTopology."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from topology.bandwidth.fabric import fabric_name
from topology.gputopology.manifest_fields import (
    API_VERSION,
    KIND,
    WireAllocation,
    WireDomain,
    WireForwarded,
    WireGpu,
    WireHealth,
    WireMig,
    WireNic,
    WirePressure,
    WireSpec,
    WireStatus,
    WireSteering,
    WireUnhealthy,
    WireUnknownMemory,
)
from topology.gputopology.topology_record import DeviceStatus, SteeringStatus, TopologyRecord, free_mask
from topology.machine.hardware import Gpu, Machine
from topology.placement.shared_tables import table_for


def encode(record: TopologyRecord) -> dict[str, Any]:
    """Return the manifest of a record, ready for YAML or JSON. `decode(encode(record)) == record`."""
    machine = record.machine
    products = {gpu.product for gpu in machine.gpus}
    names = [["X" if i == j else (path.value if path else "?") for j, path in enumerate(row)] for i, row in enumerate(machine.pcie_paths)]
    spec = WireSpec(
        gpus=[_wire_gpu(gpu) for gpu in machine.gpus],
        nics=[WireNic(nic.name, nic.device, nic.numa_node) for nic in machine.nics],
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


def _wire_gpu(gpu: Gpu) -> WireGpu:
    plain = {name: getattr(gpu, name) for name in WireGpu.__struct_fields__ if name not in ("mig_instances", "fabric_domain")}
    domain = gpu.fabric_domain
    return WireGpu(
        **plain,
        mig_instances=[WireMig(mig.uuid, mig.profile, mig.memory_bytes) for mig in gpu.mig_instances],
        fabric_domain=WireDomain(domain.cluster_uuid, domain.clique_id, domain.state) if domain else None,
    )


def _wire_status(machine: Machine, status: DeviceStatus) -> WireStatus:
    free = free_mask(machine, status) if status.free is not None else None
    table = table_for(machine)
    pair, four = (table.extremes(free, size) if free is not None else None for size in (2, 4))
    seconds = status.observed_at_seconds
    return WireStatus(
        observed_at=datetime.fromtimestamp(seconds, UTC).isoformat() if seconds is not None else None,
        free=list(status.free) if status.free is not None else None,
        allocated=[WireAllocation(a.index, a.pod_uid, a.pod_namespace, a.pod_name) for a in status.allocated],
        unhealthy=[WireUnhealthy(index, reason) for index, reason in status.unhealthy],
        health=[
            WireHealth(h.index, h.ecc_volatile, h.ecc_aggregate, h.retirement_pending, h.remap_failed, list(h.throttle_reasons))
            for h in status.health
        ],
        allocations_unknown=status.allocations_unknown,
        free_count=free.bit_count() if free is not None else None,
        best2_gbps=pair[0].busbw_gbps if pair else None,
        best4_gbps=four[0].busbw_gbps if four else None,
        steering=_wire_steering(status.steering) if status.steering else None,
    )


def _wire_steering(steering: SteeringStatus) -> WireSteering:
    return WireSteering(
        steering.version,
        list(steering.resources),
        steering.messages,
        [WireUnknownMemory(index, held) for index, held in steering.unknown_memory],
        [WirePressure(index, level) for index, level in steering.pressure],
        steering.steered,
        [WireForwarded(reason, count) for reason, count in steering.forwarded],
        steering.differing,
    )
