"""A fleet whose GPUs Dynamic Resource Allocation serves, on a real control plane.

Drivers and the claim controller are played by the test.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from extender.sources.simulated import cluster_machines, node_manifest
from extender.sources.simulated_dra import claim_manifest, class_manifest, exact_request, slice_manifests
from tests.cluster.fleets.fleet import pod
from tests.cluster.processes.control_plane import ControlPlane, wait_for
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import Machine, mask_of

CLAIMS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"


@dataclass
class DraFleet:
    """Nodes without GPUs in their allocatable, their slices, and their GpuTopologies."""

    plane: ControlPlane
    machines: dict[str, Machine]
    plugin: frozenset[str] = frozenset()
    """Nodes whose GPUs a device plugin serves."""
    without_topology: frozenset[str] = frozenset()
    labels: dict[str, str] = field(default_factory=dict)
    random: random.Random = field(default_factory=lambda: random.Random(23))
    orders: dict[str, list[int]] = field(default_factory=dict)

    def create(self) -> None:
        """Nodes, slices in a random order of devices, GpuTopologies, and NVIDIA's DeviceClass."""
        self.plane.apply(class_manifest())
        for name, machine in self.machines.items():
            node = node_manifest(name, machine)
            node["metadata"]["labels"] |= self.labels
            amounts = dict(node["status"]["allocatable"])
            if name not in self.plugin:
                del amounts["nvidia.com/gpu"]
            self.plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": node["metadata"]})
            status = {"capacity": amounts, "allocatable": amounts}
            self.plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}, "status")
            if name not in self.without_topology:
                manifest = encode(TopologyRecord(name, machine, None))
                self.plane.apply({key: manifest[key] for key in ("apiVersion", "kind", "metadata", "spec")})
            if name not in self.plugin:
                self._publish(name, machine)

    def _publish(self, name: str, machine: Machine) -> None:
        order = list(range(len(machine.gpus)))
        self.random.shuffle(order)
        self.orders[name] = order
        for one in slice_manifests(name, machine, order, self.random.choice((3, 128))):
            self.plane.apply(one)

    def remove(self) -> None:
        """Delete all of it."""
        client = self.plane.client
        for name in self.machines:
            client.delete(f"/api/v1/nodes/{name}")
            client.delete(f"/apis/fabricwise.dev/v1alpha1/gputopologies/{name}")
        client.delete("/apis/resource.k8s.io/v1/resourceslices")
        client.delete("/apis/resource.k8s.io/v1/deviceclasses/gpu.nvidia.com")

    def devices_of(self, claim: dict[str, Any]) -> tuple[str, int] | None:
        """(node, mask of positions) that an allocated claim holds."""
        results = (claim.get("status", {}).get("allocation") or {}).get("devices", {}).get("results", [])
        if not results:
            return None
        node = results[0]["pool"]
        indices = [int(one["device"].removeprefix("gpu-")) for one in results]
        return node, mask_of(self.machines[node].positions(indices))

    def claims(self) -> dict[str, dict[str, Any]]:
        """All claims of the default namespace by name."""
        return {one["metadata"]["name"]: one for one in self.plane.client.get(CLAIMS).json()["items"]}

    def claim_of(self, found: dict[str, Any]) -> str | None:
        """Name of the claim of a pod with one claim."""
        extended = found.get("status", {}).get("extendedResourceClaimStatus") or {}
        own: dict[str, Any] = next(iter(found["spec"].get("resourceClaims") or ()), {})
        name: str | None = own.get("resourceClaimName") or extended.get("resourceClaimName")
        return name

    def delete(self, names: list[str]) -> None:
        """Delete pods, then their claims, as the claim controller does once they are gone."""
        pods = self.plane.pods()
        for name in names:
            self.plane.client.request("DELETE", f"/api/v1/namespaces/default/pods/{name}", params={"gracePeriodSeconds": "0"})
        for name in names:
            claim = self.claim_of(pods[name]) if name in pods else None
            if claim is not None:
                self._merge(f"{CLAIMS}/{claim}/status", {"status": {"allocation": None, "reservedFor": None}})
                self._merge(f"{CLAIMS}/{claim}", {"metadata": {"finalizers": None}})
                self.plane.client.delete(f"{CLAIMS}/{claim}")
        wait_for("pods and claims gone", lambda: not set(names) & set(self.plane.pods()))

    def _merge(self, path: str, patch: dict[str, Any]) -> None:
        self.plane.client.patch(path, content=json.dumps(patch), headers={"Content-Type": "application/merge-patch+json"})


@contextmanager
def dra_fleet(plane: ControlPlane, name: str, counts: dict[str, int], **more: Any) -> Iterator[DraFleet]:
    """A fleet with names of its own, taken down at the end."""
    machines = {f"{name}-{node}": machine for node, machine in cluster_machines(counts).items()}
    fleet = DraFleet(plane, machines, labels={"fleet": name}, **more)
    fleet.create()
    try:
        yield fleet
    finally:
        fleet.delete([pod for pod in plane.pods() if pod.startswith(name)])
        fleet.remove()


def dra_pod(name: str, fleet: str, gpus: int, scheduler: str, as_claim: bool = False) -> list[dict[str, Any]]:
    """The objects of a pod for a fleet: as extended resource, or with a claim of its own beside it."""
    manifest = pod(name, 0 if as_claim else gpus, scheduler)
    manifest["spec"] |= {"nodeSelector": {"fleet": fleet}, "terminationGracePeriodSeconds": 0}
    if not as_claim:
        return [manifest]
    manifest["spec"]["resourceClaims"] = [{"name": "gpus", "resourceClaimName": f"{name}-claim"}]
    manifest["spec"]["containers"][0]["resources"] = {"claims": [{"name": "gpus"}]}
    return [claim_manifest(f"{name}-claim", [exact_request(gpus)]), manifest]


def create(plane: ControlPlane, manifests: list[dict[str, Any]]) -> None:
    """POST objects: quicker than applying them."""
    for manifest in manifests:
        path = CLAIMS if manifest["kind"] == "ResourceClaim" else "/api/v1/namespaces/default/pods"
        response = plane.client.post(path, json=manifest)
        assert response.status_code == 201, response.text
