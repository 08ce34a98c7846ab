"""A simulated cluster of the bundled platforms, for the demo and for a first try. It acts as kubelet and agent when a pod is bound.

The devices of a pod are drawn from the same distribution that predictions use, with a fixed seed, so that every run is the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from extender.decision.dra.resource_objects import PLURALS
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand, demand_of
from extender.decision.state.changes import Listed, TelemetrySeen, TopologySeen
from extender.errors import ClusterSourceError
from extender.kube.objects.decode import Seen, seen
from extender.scheduling.cluster_store import ClusterStore
from extender.sources.simulated_dra import allocated, claim_manifest, class_manifest, exact_request, slice_manifests
from extender.telemetry import xids
from extender.telemetry.readings import DeviceReading
from topology.devices.prediction import USUAL, Kubelet, Steps
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord, free_mask
from topology.machine.hardware import Machine, TopologyError
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of, platforms

DEMO_CLUSTER: dict[str, int] = {
    "dgx-1v": 2,
    "dgx-a100": 1,
    "hgx-h100": 1,
    "hgx-b200": 1,
    "a100-pcie-bridge-pairs": 2,
    "a40-bridge-pairs": 1,
    "l40s": 2,
    "rtx4090": 1,
    "l4": 1,
    "t4": 2,
}
"""Platform -> nodes: fourteen nodes, ten platforms, 92 GPUs, few of them with fast links."""


def node_manifest(name: str, machine: Machine, resource: str = "nvidia.com/gpu") -> dict[str, Any]:
    """Return a v1 Node with the labels of GPU feature discovery and the resources of the device plugin."""
    gpu = machine.gpus[0]
    labels = {
        "kubernetes.io/hostname": name,
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": str(len(machine.gpus)),
        "nvidia.com/gpu.product": (gpu.product or "unknown").replace(" ", "-"),
        "nvidia.com/gpu.memory": str((gpu.memory_bytes or 0) >> 20),
    }
    amounts = {"cpu": "192", "memory": "2000Gi", "pods": "110", resource: str(len(machine.gpus))}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def cluster_machines(counts: dict[str, int]) -> dict[str, Machine]:
    """Return node name -> machine for platform -> nodes; the names are like `hgx-h100-0`."""
    return {f"{name}-{n}": machine_of(name, f"{name}-{n}") for name, count in counts.items() for n in range(count)}


class SimulatedCluster:
    """Machines with free and allocated devices; its state changes only through its methods."""

    def __init__(
        self, machines: dict[str, Machine], resource: str = "nvidia.com/gpu", seed: int = 7, dra: frozenset[str] = frozenset()
    ) -> None:
        """`dra`: nodes whose GPUs Dynamic Resource Allocation serves, by ResourceSlices and claims."""
        self.machines, self._resource, self._dra = machines, resource, dra
        self._claims: list[dict[str, Any]] = []
        self._random, self._random_load = random.Random(seed), random.Random(seed)
        self._status = {name: DeviceStatus(free=tuple(g.index for g in m.gpus)) for name, m in machines.items()}
        self._strays: dict[tuple[str, int], int] = {}
        self._xids: dict[tuple[str, int], int] = {}

    def listing(self) -> Iterator[Listed]:
        """Yield the whole cluster as listings of nodes, pods and topologies."""
        if self._dra:
            for kind, plural in PLURALS.items():
                yield Listed(plural, tuple(seen(kind, each) for each in self._dra_manifests() if each["kind"] == kind))
        yield Listed("nodes", tuple(seen("Node", self._node(name)) for name in self.machines))
        yield Listed("pods", ())
        yield Listed("topologies", tuple(TopologySeen(name, self.record(name)) for name in self.machines))

    def record(self, node: str) -> TopologyRecord:
        """Return the node's GpuTopology as its agent would publish it now."""
        return TopologyRecord(node, self.machines[node], self._status[node])

    def manifests(self) -> Iterator[dict[str, Any]]:
        """Yield the manifests of all nodes, GpuTopologies and objects of resource.k8s.io, for a dump."""
        for name in self.machines:
            yield self._node(name)
            yield encode(self.record(name))
        yield from self._dra_manifests()

    def _node(self, name: str) -> dict[str, Any]:
        node = node_manifest(name, self.machines[name], self._resource)
        if name in self._dra:
            amounts = {key: value for key, value in node["status"]["allocatable"].items() if key != self._resource}
            node["status"] = {"capacity": amounts, "allocatable": amounts}
        return node

    def _dra_manifests(self) -> Iterator[dict[str, Any]]:
        if self._dra:
            yield class_manifest(resource=self._resource)
        for name in sorted(self._dra):
            yield from slice_manifests(name, self.machines[name])
        yield from self._claims

    def free(self, node: str) -> int:
        """Return the mask of the node's free positions."""
        return free_mask(self.machines[node], self._status[node])

    def faulty(self, node: str) -> int:
        """Return the mask of the node's positions whose GPU reports a fatal XID."""
        machine = self.machines[node]
        codes = {index: code for (name, index), code in self._xids.items() if name == node}
        return sum(1 << p for p, gpu in enumerate(machine.gpus) if xids.severity(codes.get(gpu.index, 0)) is xids.Severity.FATAL)

    def usable(self, node: str) -> int:
        """Return the mask of the node's free positions that are neither faulty nor used by a process unknown to Kubernetes."""
        held = sum(1 << p for p, gpu in enumerate(self.machines[node].gpus) if self._strays.get((node, gpu.index)))
        return self.free(node) & ~held & ~self.faulty(node)

    def bind(self, manifest: dict[str, Any], node: str, store: ClusterStore | None = None) -> tuple[int, ...]:
        """Bind a pod: the kubelet allocates devices, the agent publishes them. Returns the GPU indices.

        Raises ClusterSourceError if the pod does not fit.
        """
        bound = {**manifest, "spec": {**manifest["spec"], "nodeName": node}}
        change = seen("Pod", bound)
        pod: Pod = change.pod  # type: ignore[union-attr]
        demand = demand_of(pod, self._resource)
        if not isinstance(demand, Demand):
            raise ClusterSourceError(f"pod {pod.metadata.name}: {demand.detail}")
        taken = self._draw(node, demand.steps)
        if node in self._dra:
            return self._allocate(bound, node, taken, change, store)
        machine, status = self.machines[node], self._status[node]
        indices = machine.indices(taken)
        held = tuple(Allocation(i, pod.metadata.uid, pod.metadata.namespace or "default", pod.metadata.name) for i in indices)
        self._status[node] = DeviceStatus(machine.indices(self.free(node) & ~taken), status.allocated + held, status.unhealthy)
        if store is not None:
            store.apply((change, TopologySeen(node, self.record(node))))
        return indices

    def _allocate(self, bound: dict[str, Any], node: str, taken: int, change: Seen, store: ClusterStore | None) -> tuple[int, ...]:
        """A claim as kube-scheduler makes it for an extended resource, then the binding."""
        machine, status, meta = self.machines[node], self._status[node], bound["metadata"]
        indices, namespace = machine.indices(taken), meta.get("namespace") or "default"
        claim = claim_manifest(f"{meta['name']}-extended-resources", [exact_request(len(indices))], namespace)
        claim = allocated(claim, node, [f"gpu-{index}" for index in indices], [(meta.get("uid", ""), meta["name"])])
        self._claims.append(claim)
        self._status[node] = DeviceStatus(machine.indices(self.free(node) & ~taken), status.allocated, status.unhealthy)
        if store is not None:
            store.apply((seen("ResourceClaim", claim), change))
        return indices

    def stray(self, node: str, index: int, used_bytes: int) -> None:
        """Let a process unknown to Kubernetes use memory of a GPU; 0 ends the process.

        Raises ClusterSourceError if the GPU has less memory.
        """
        total = next((gpu.memory_bytes or 0 for gpu in self.machines[node].gpus if gpu.index == index), 0)
        if used_bytes > total:
            raise ClusterSourceError(f"GPU {index} of {node} has {total >> 30} GiB: give the process less than {used_bytes >> 30} GiB")
        self._strays[node, index] = used_bytes

    def xid(self, node: str, index: int, code: int) -> None:
        """Let the driver report an error of a GPU."""
        self._xids[node, index] = code

    def telemetry(self, monotonic_seconds: float) -> list[TelemetrySeen]:
        """Return the telemetry of all nodes now: allocated GPUs are busy, free ones idle, except for strays and errors."""
        return [TelemetrySeen(name, monotonic_seconds, self._readings(name), (), (), "simulated") for name in self.machines]

    def _readings(self, node: str) -> tuple[DeviceReading, ...]:
        machine, free = self.machines[node], self.free(node)
        readings = []
        for position, gpu in enumerate(machine.gpus):
            total, idle = gpu.memory_bytes or 0, bool(free >> position & 1)
            used = self._strays.get((node, gpu.index), 0) if idle else int(0.9 * total)
            busy = 0.0 if idle else self._random_load.uniform(0.6, 1.0)
            readings.append(
                DeviceReading(
                    gpu.uuid or f"{node}-{gpu.index}",
                    index=gpu.index,
                    fb_used_bytes=used,
                    fb_free_bytes=total - used,
                    utilization=busy,
                    memory_utilization=busy / 2,
                    temperature_celsius=35.0 + 35.0 * busy,
                    xid=self._xids.get((node, gpu.index), 0),
                )
            )
        return tuple(readings)

    def _draw(self, node: str, steps: Steps) -> int:
        kubelet = Kubelet(order=tuple(range(len(self.machines[node].gpus)))) if node in self._dra else USUAL
        outcomes = table_for(self.machines[node]).predictor.predict(self.free(node), steps, kubelet).outcomes
        if not outcomes:
            raise ClusterSourceError(f"node {node} has too few free GPUs: choose another node, or a smaller pod")
        return self._random.choices([o.taken for o in outcomes], [o.probability for o in outcomes])[0]


def simulated(resource: str, counts: dict[str, int] | None = None) -> SimulatedCluster:
    """Return the demo cluster, or one of the given platforms. Raises ClusterSourceError naming an unknown platform."""
    try:
        return SimulatedCluster(cluster_machines(counts or DEMO_CLUSTER), resource)
    except TopologyError as error:
        raise ClusterSourceError(f"{error} (bundled: {', '.join(platforms())})") from error
