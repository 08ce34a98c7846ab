"""ResourceSlices, a DeviceClass and claims as NVIDIA's DRA driver and kube-scheduler would leave them, for simulated clusters and tests.

Source of names and attributes: NVIDIA/k8s-dra-driver-gpu `cmd/gpu-kubelet-plugin/deviceinfo.go` and its chart's DeviceClass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from topology.machine.hardware import Machine

DRIVER = "gpu.nvidia.com"
API_VERSION = "resource.k8s.io/v1"


def device_manifest(machine: Machine, position: int) -> dict[str, Any]:
    """Return one GPU of a machine as a device of a ResourceSlice. Unknown facts are left out."""
    gpu = machine.gpus[position]
    attributes: dict[str, Any] = {
        "type": {"string": "gpu"},
        "uuid": {"string": gpu.uuid} if gpu.uuid else None,
        "productName": {"string": gpu.product} if gpu.product else None,
        "cudaComputeCapability": {"version": f"{gpu.compute_capability}.0"} if gpu.compute_capability else None,
        "driverVersion": {"version": machine.driver_version} if machine.driver_version else None,
        "resource.kubernetes.io/pciBusID": {"string": gpu.pci_bus_id} if gpu.pci_bus_id else None,
        "resource.kubernetes.io/numaNode": {"int": gpu.numa_node} if gpu.numa_node is not None else None,
    }
    return {
        "name": f"gpu-{gpu.index}",
        "attributes": {name: value for name, value in attributes.items() if value is not None},
        "capacity": {"memory": {"value": str(gpu.memory_bytes)}} if gpu.memory_bytes is not None else {},
    }


def slice_manifests(
    node: str, machine: Machine, order: Sequence[int] | None = None, per_slice: int = 128, generation: int = 1
) -> list[dict[str, Any]]:
    """Return the slices of a node's pool. `order`: positions as the driver lists them; `per_slice`: devices in one slice at most."""
    positions = list(range(len(machine.gpus)) if order is None else order)
    parts = [positions[start : start + per_slice] for start in range(0, len(positions), per_slice)] or [[]]
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "ResourceSlice",
            "metadata": {"name": f"{node}-{DRIVER}-{generation}-{number}"},
            "spec": {
                "driver": DRIVER,
                "nodeName": node,
                "pool": {"name": node, "generation": generation, "resourceSliceCount": len(parts)},
                "devices": [device_manifest(machine, position) for position in part],
            },
        }
        for number, part in enumerate(parts)
    ]


def class_manifest(name: str = "gpu.nvidia.com", resource: str | None = "nvidia.com/gpu", expression: str | None = None) -> dict[str, Any]:
    """Return the DeviceClass of NVIDIA's chart; without `resource` it stands for no extended resource."""
    text = expression or f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == 'gpu'"
    spec: dict[str, Any] = {"selectors": [{"cel": {"expression": text}}]}
    if resource is not None:
        spec["extendedResourceName"] = resource
    return {"apiVersion": API_VERSION, "kind": "DeviceClass", "metadata": {"name": name}, "spec": spec}


def claim_manifest(name: str, requests: Sequence[dict[str, Any]], namespace: str = "default", **devices: Any) -> dict[str, Any]:
    """Return a ResourceClaim that is not allocated. `devices`: further fields of `spec.devices`, such as constraints."""
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": API_VERSION,
        "kind": "ResourceClaim",
        "metadata": metadata,
        "spec": {"devices": {"requests": list(requests), **devices}},
    }


def allocated(
    claim: dict[str, Any], pool: str, devices: Sequence[str], pods: Sequence[tuple[str, str]] = (), **result: Any
) -> dict[str, Any]:
    """Return the claim after kube-scheduler has allocated it. `pods`: (uid, name) of the pods that it is reserved for."""
    request = next((each["name"] for each in claim["spec"]["devices"]["requests"]), "gpus")
    results = [{"request": request, "driver": DRIVER, "pool": pool, "device": device, **result} for device in devices]
    reserved = [{"resource": "pods", "name": name, "uid": uid} for uid, name in pods]
    return claim | {"status": {"allocation": {"devices": {"results": results}}, "reservedFor": reserved}}


def exact_request(count: int = 1, name: str = "gpus", device_class: str = "gpu.nvidia.com", **more: Any) -> dict[str, Any]:
    """Return a request for `count` devices of a class. `more`: further fields, such as selectors."""
    return {"name": name, "exactly": {"deviceClassName": device_class, "allocationMode": "ExactCount", "count": count, **more}}
