"""The true state: machines, pods and the devices of each pod; and the log of the API server, from which all watches read."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from extender.decision.state.changes import Change
from extender.kube.decode import gone, seen
from extender.sources.simulated import node_manifest
from tests.objects import GPU
from topology.gputopology import Allocation, DeviceStatus, TopologyRecord, encode
from topology.machine.hardware import Machine
from topology.placement import table_for


def timestamp(seconds: float) -> str:
    """Return the time as the API server writes it, to the second."""
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
    """Mask of positions, once the kubelet has admitted it."""
    served: int = 0
    """Its place in the order in which kubelets admitted pods."""

    @property
    def steps(self) -> tuple[tuple[int, bool], ...]:
        """The steps of its demand."""
        return ((self.gpus, False),)

    @property
    def rank(self) -> tuple[int, int, str]:
        """The pod's rank among pending pods; the smaller comes first."""
        return -self.priority, int(self.created), self.uid

    def manifest(self) -> dict[str, Any]:
        """Return the object of the API server."""
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
    """That it is about, if any."""
    uid: str | None = None

    def change(self) -> Change:
        """As the extender reads it."""
        return gone(self.kind, self.manifest) if self.deleted else seen(self.kind, self.manifest)


@dataclass
class World:
    """Nodes with their kubelets and agents, pods, and the log."""

    machines: dict[str, Machine]
    dice: random.Random
    pods: dict[str, SimPod] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)
    down: bool = False
    """Whether the API server answers nobody."""
    admitted: int = 0
    failed: list[str] = field(default_factory=list)
    """Pods that a kubelet could not admit."""
    published: dict[str, dict[str, int]] = field(default_factory=dict)
    """Node -> pod uid -> mask, as its agent last said."""

    def start(self) -> None:
        """All nodes, and what their agents say."""
        for name, machine in self.machines.items():
            self._write("Node", node_manifest(name, machine), False, name)
            self.publish(name)

    def _write(self, kind: str, manifest: dict[str, Any], deleted: bool, node: str | None, uid: str | None = None) -> None:
        version = len(self.log) + 1
        stamped = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(version)}}
        self.log.append(Event(version, kind, stamped, deleted, node, uid))

    def write_pod(self, pod: SimPod, deleted: bool = False) -> None:
        """A pod has changed."""
        self._write("Pod", pod.manifest(), deleted, pod.node, pod.uid)

    def create(self, pod: SimPod) -> None:
        """A new pod."""
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
        """Told to end; it holds its devices until `remove`."""
        pod = self.pods.get(uid)
        if pod is not None and not pod.terminating:
            pod.terminating = True
            self.write_pod(pod)

    def remove(self, uid: str) -> None:
        """It has ended: its devices are free."""
        pod = self.pods.pop(uid, None)
        if pod is not None:
            self.write_pod(pod, deleted=True)

    def on(self, node: str) -> list[SimPod]:
        """Pods bound there, in the order they were bound."""
        return sorted((pod for pod in self.pods.values() if pod.node == node), key=lambda pod: pod.bound_at or 0.0)

    def allocatable(self, node: str) -> int:
        """GPUs on offer."""
        return len(self.machines[node].gpus)

    def free(self, node: str) -> int:
        """Mask of positions nobody holds."""
        mask = (1 << self.allocatable(node)) - 1
        for pod in self.on(node):
            mask &= ~(pod.devices or 0)
        return mask

    def admit(self, pod: SimPod) -> None:
        """The kubelet gives a bound pod its devices; a pod it cannot serve fails, as an admission error does."""
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
        """The agent says who holds what."""
        machine = self.machines[node]
        self.published[node] = {pod.uid: pod.devices for pod in self.on(node) if pod.devices}
        held = tuple(Allocation(i, uid) for uid, mask in self.published[node].items() for i in machine.indices(mask))
        self._write("GpuTopology", encode(TopologyRecord(node, machine, DeviceStatus(allocated=held))), False, node)

    def speed(self, pod: SimPod) -> float | None:
        """What the pod got, GB/s; None while it has nothing, or one GPU."""
        return table_for(self.machines[pod.node]).busbw_gbps(pod.devices) if pod.node and pod.devices else None
