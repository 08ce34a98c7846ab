"""The true state: machines, pods and their devices; and the API server's log, which all other components read."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from extender.decision.state.changes import Change
from extender.kube.objects.decode import gone, seen
from extender.sources.simulated import node_manifest
from tests.objects import GPU
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.machine.hardware import Machine
from topology.placement.shared_tables import table_for


def timestamp(seconds: float) -> str:
    """Return a time as the API server writes it, in whole seconds."""
    return f"2026-01-01T{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}Z"


@dataclass(eq=False)
class SimPod:
    """The true state of a pod."""

    uid: str
    gpus: int
    priority: int = 0
    floor_gbps: float | None = None
    scheduler: str = "gpu-scheduler"
    created: float = 0.0
    node: str | None = None
    nominated: str | None = None
    bound_at: float | None = None
    terminating: bool = False
    devices: int | None = None
    """Mask of its positions after the kubelet has admitted it."""
    served: int = 0
    """Number of pods that the kubelets admitted before it."""

    @property
    def steps(self) -> tuple[tuple[int, bool], ...]:
        """Return the pod as predictions need it."""
        return ((self.gpus, False),)

    @property
    def rank(self) -> tuple[int, int, str]:
        """Return the pod's rank among pending pods."""
        return -self.priority, int(self.created), self.uid

    def manifest(self) -> dict[str, Any]:
        """Return the pod as the API server has it."""
        annotations = {"fabricwise.dev/min-busbw": f"{self.floor_gbps:g}"} if self.floor_gbps is not None else {}
        meta: dict[str, Any] = {"name": f"pod-{self.uid}", "namespace": "sim", "uid": self.uid, "annotations": annotations}
        meta["creationTimestamp"] = timestamp(self.created)
        if self.terminating:
            meta["deletionTimestamp"] = "2026-01-01T01:00:00Z"
        container = {"name": "server", "resources": {"limits": {GPU: str(self.gpus)}}}
        spec: dict[str, Any] = {"containers": [container], "priority": self.priority, "schedulerName": self.scheduler}
        if self.node:
            spec["nodeName"] = self.node
        status: dict[str, Any] = {"nominatedNodeName": self.nominated} if self.nominated else {}
        if self.bound_at is not None:
            status["conditions"] = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": timestamp(self.bound_at)}]
        return {"kind": "Pod", "apiVersion": "v1", "metadata": meta, "spec": spec, "status": status}


@dataclass(frozen=True)
class Event:
    """One entry of the log."""

    version: int
    kind: str
    manifest: dict[str, Any]
    deleted: bool
    node: str | None
    """The pod that the entry is about, if any."""
    uid: str | None = None

    def change(self) -> Change:
        """Return the entry as the extender reads it."""
        return gone(self.kind, self.manifest) if self.deleted else seen(self.kind, self.manifest)


@dataclass
class World:
    """Nodes with their kubelets and agents, pods, and the log."""

    machines: dict[str, Machine]
    dice: random.Random
    pods: dict[str, SimPod] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)
    down: bool = False
    """Whether the API server is unreachable."""
    admitted: int = 0
    failed: list[str] = field(default_factory=list)
    """Pods that a kubelet did not admit."""
    published: dict[str, dict[str, int]] = field(default_factory=dict)
    """Node -> pod uid -> mask, by the last report of the node's agent."""

    def start(self) -> None:
        """Log all nodes and the reports of their agents."""
        for name, machine in self.machines.items():
            self._write("Node", node_manifest(name, machine), False, name)
            self.publish(name)

    def _write(self, kind: str, manifest: dict[str, Any], deleted: bool, node: str | None, uid: str | None = None) -> None:
        version = len(self.log) + 1
        stamped = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}
        self.log.append(Event(version, kind, stamped, deleted, node, uid))

    def write_pod(self, pod: SimPod, deleted: bool = False) -> None:
        """Log a change of a pod."""
        self._write("Pod", pod.manifest(), deleted, pod.node, pod.uid)

    def create(self, pod: SimPod) -> None:
        """Create a pod."""
        self.pods[pod.uid] = pod
        self.write_pod(pod)

    def bind(self, uid: str, node: str, now: float) -> bool:
        """POST pods/binding with the uid as precondition."""
        pod = self.pods.get(uid)
        if self.down or pod is None or pod.node is not None or pod.terminating:
            return False
        pod.node, pod.nominated, pod.bound_at = node, None, now
        self.write_pod(pod)
        return True

    def evict(self, uid: str) -> None:
        """Start the pod's termination; it occupies its devices until `remove`."""
        pod = self.pods.get(uid)
        if pod is not None and not pod.terminating:
            pod.terminating = True
            self.write_pod(pod)

    def remove(self, uid: str) -> None:
        """Remove a pod that has ended; its devices become free."""
        pod = self.pods.pop(uid, None)
        if pod is not None:
            self.write_pod(pod, deleted=True)

    def on(self, node: str) -> list[SimPod]:
        """Return the pods bound to the node, in the order of their bindings."""
        return sorted((pod for pod in self.pods.values() if pod.node == node), key=lambda pod: pod.bound_at or 0.0)

    def allocatable(self, node: str) -> int:
        """Return the number of GPUs that the node offers."""
        return len(self.machines[node].gpus)

    def free(self, node: str) -> int:
        """Return the mask of unallocated positions."""
        mask = (1 << self.allocatable(node)) - 1
        for pod in self.on(node):
            mask &= ~(pod.devices or 0)
        return mask

    def admit(self, pod: SimPod) -> None:
        """Let the kubelet allocate devices to a bound pod; a pod that does not fit fails with an admission error."""
        assert pod.node is not None
        outcomes = table_for(self.machines[pod.node]).predictor.predict(self.free(pod.node), pod.steps).outcomes
        if not outcomes:
            self.failed.append(pod.uid)
            self.remove(pod.uid)
            return
        self.admitted += 1
        pod.served = self.admitted
        pod.devices = self.dice.choices([o.taken for o in outcomes], [o.probability for o in outcomes])[0]

    def publish(self, node: str) -> None:
        """Report the node's allocations, as its agent does."""
        machine = self.machines[node]
        self.published[node] = {pod.uid: pod.devices for pod in self.on(node) if pod.devices}
        held = tuple(Allocation(i, uid) for uid, mask in self.published[node].items() for i in machine.indices(mask))
        self._write("GpuTopology", encode(TopologyRecord(node, machine, DeviceStatus(allocated=held))), False, node)

    def speed(self, pod: SimPod) -> float | None:
        """Return the bandwidth of the pod's devices in GB/s; None if it has none, or one GPU."""
        return table_for(self.machines[pod.node]).busbw_gbps(pod.devices) if pod.node and pod.devices else None
