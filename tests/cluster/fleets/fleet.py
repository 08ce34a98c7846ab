"""A fleet of GPU nodes on a real control plane; the test acts as their kubelets and agents."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from extender.sources.simulated import node_manifest
from tests.cluster.processes.control_plane import ControlPlane, wait_for
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord, free_mask
from topology.machine.hardware import Machine
from topology.placement.shared_tables import table_for


def pod(name: str, gpus: int, scheduler: str = "gpu-scheduler", **annotations: str) -> dict[str, Any]:
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {"requests": {"cpu": "100m"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"schedulerName": scheduler, "containers": [{"name": "server", "image": "none", "resources": resources}]},
    }


@dataclass
class Fleet:
    """Nodes of several platforms, and the GpuTopologies of their agents."""

    plane: ControlPlane
    machines: dict[str, Machine]
    held: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Node -> GPUs that are allocated from the start."""
    labels: dict[str, str] = field(default_factory=dict)
    status: dict[str, DeviceStatus] = field(default_factory=dict)
    random: random.Random = field(default_factory=lambda: random.Random(11))

    def create(self) -> None:
        for name, machine in self.machines.items():
            node = node_manifest(name, machine)
            node["metadata"]["labels"] |= self.labels
            self.plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": node["metadata"]})
            self.plane.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": node["status"]}, "status")
            self.status[name] = DeviceStatus(None, self._hold(name, self.held.get(name, ())), (), time.time())
            self.publish(name)

    def remove(self) -> None:
        """Delete the nodes and GpuTopologies, because other tests follow."""
        for name in self.machines:
            self.plane.client.delete(f"/api/v1/nodes/{name}")
            self.plane.client.delete(f"/apis/fabricwise.dev/v1alpha1/gputopologies/{name}")

    def _hold(self, node: str, indices: tuple[int, ...]) -> tuple[Allocation, ...]:
        """A pod already running there, which both schedulers count, on just these GPUs."""
        if not indices:
            return ()
        holder = pod(f"holder-{node}", len(indices))
        holder["spec"]["nodeName"] = node
        meta = self.plane.apply(holder)["metadata"]
        return tuple(Allocation(index, meta["uid"], meta["namespace"], meta["name"]) for index in indices)

    def publish(self, name: str) -> None:
        manifest = encode(TopologyRecord(name, self.machines[name], self.status[name]))
        self.plane.apply({key: manifest[key] for key in ("apiVersion", "kind", "metadata", "spec")})
        self.plane.apply({key: manifest[key] for key in ("apiVersion", "kind", "metadata", "status")}, "status")

    def free(self, name: str) -> int:
        return free_mask(self.machines[name], self.status[name])

    def allocate(self, name: str, bound: dict[str, Any], gpus: int) -> float:
        """The kubelet's choice, published as the agent would; the bandwidth the pod got."""
        table = table_for(self.machines[name])
        outcomes = table.predictor.predict(self.free(name), ((gpus, False),)).outcomes
        taken = self.random.choices([o.taken for o in outcomes], [o.probability for o in outcomes])[0]
        meta = bound["metadata"]
        held = tuple(Allocation(i, meta["uid"], meta["namespace"], meta["name"]) for i in self.machines[name].indices(taken))
        before = self.status[name]
        self.status[name] = DeviceStatus(None, before.allocated + held, (), time.time())
        self.publish(name)
        return table.busbw_gbps(taken) or 0.0

    def best_left(self, gpus: int) -> float:
        """The bandwidth of the best set left anywhere."""
        found = [table_for(machine).extremes(self.free(name), gpus) for name, machine in self.machines.items()]
        return max((best[0].busbw_gbps or 0.0 for best in found if best), default=0.0)


def delete_pods(plane: ControlPlane) -> None:
    plane.client.request("DELETE", "/api/v1/namespaces/default/pods", params={"gracePeriodSeconds": "0"})
    wait_for("all pods gone", lambda: not plane.pods())


def scheduled(plane: ControlPlane, prefix: str) -> dict[str, dict[str, Any]]:
    """The bound pods whose names begin so."""
    return {name: found for name, found in plane.pods().items() if name.startswith(prefix) and found["spec"].get("nodeName")}


class Kubelets:
    """Gives bound pods their devices, in the order their bindings were written, and publishes that as the agents would."""

    def __init__(self, fleet: Fleet, prefix: str) -> None:
        self.fleet, self.speeds, self.devices = fleet, dict[str, float](), dict[str, tuple[str, int]]()
        self.order: list[tuple[float, str]] = []
        """(seconds, pod), as they were seen bound."""
        self._prefix, self._stop = prefix, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Kubelets:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.round()
            except Exception:  # the API server is down, in a drill
                time.sleep(0.2)
            self._stop.wait(0.1)

    def round(self) -> None:
        """Serve the pods that were bound since the last call."""
        bound = scheduled(self.fleet.plane, self._prefix)
        fresh = [found for name, found in bound.items() if name not in self.devices]
        fresh.sort(key=lambda found: int(found["metadata"]["resourceVersion"]))
        touched = set()
        for found in fresh:
            touched.add(self._admit(found))
        for name in touched:
            self.fleet.publish(name)

    def _admit(self, found: dict[str, Any]) -> str:
        meta, node = found["metadata"], found["spec"]["nodeName"]
        gpus = sum(int(c["resources"]["limits"]["nvidia.com/gpu"]) for c in found["spec"]["containers"])
        fleet, name = self.fleet, meta["name"]
        machine, table = fleet.machines[node], table_for(fleet.machines[node])
        outcomes = table.predictor.predict(fleet.free(node), ((gpus, False),)).outcomes
        assert outcomes, f"{name} cannot be admitted on {node}: its devices were promised to others"
        generator = random.Random(name)  # the same draw in every run
        taken = generator.choices([o.taken for o in outcomes], [o.probability for o in outcomes])[0]
        entries = tuple(Allocation(i, meta["uid"], meta["namespace"], name) for i in machine.indices(taken))
        fleet.status[node] = DeviceStatus(None, fleet.status[node].allocated + entries, (), time.time())
        self.devices[name], self.speeds[name] = (node, taken), table.busbw_gbps(taken) or 0.0
        self.order.append((time.monotonic(), name))
        return str(node)

    def forget(self, names: Sequence[str]) -> None:
        """Free the devices of pods that have ended, and publish that as the agents would."""
        nodes = set()
        for name in names:
            node, _ = self.devices.pop(name)
            self.speeds.pop(name)
            status = self.fleet.status[node]
            left = tuple(entry for entry in status.allocated if entry.pod_name != name)
            self.fleet.status[node] = DeviceStatus(None, left, (), time.time())
            nodes.add(node)
        for node in nodes:
            self.fleet.publish(node)
