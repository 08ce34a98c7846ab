"""Clusters of any size as JSON texts of Nodes, GpuTopologies and Pods, with a chosen number of distinct node states.

The text of an object is a template in which only names and numbers are replaced: twenty thousand nodes take less than a second. The
objects have the bulk of real ones (managed fields, conditions, images, environment), because reading them is part of what is measured.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from extender.sources.simulated import node_manifest
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.platforms import machine_of, platforms

GPU = "nvidia.com/gpu"
DRIVERS = ("550.163.01", "570.172.08", "580.95.05")
LIST_VERSION = 10_000_000
"""resourceVersion of the lists; every listed object has a smaller one, every event a larger one."""


@dataclass(frozen=True, slots=True)
class NodeKind:
    """What makes the state of a node distinct."""

    platform: str
    held: tuple[int, ...]
    """Indices of the GPUs that are allocated."""
    driver: str

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return _size(self.platform)


@cache
def _size(platform: str) -> int:
    return len(machine_of(platform).gpus)


@cache
def node_kinds(count: int, of: tuple[str, ...] = ()) -> tuple[NodeKind, ...]:
    """Return `count` distinct kinds of node: every platform in turn, random GPUs held, never all of them. The same at every call.

    `of`: the platforms; empty: all.
    """
    chance, names = random.Random(3), of or tuple(platforms())
    kinds: dict[NodeKind, None] = {}
    while len(kinds) < count:
        platform = names[len(kinds) % len(names)] if len(kinds) < len(names) else chance.choice(names)
        size = _size(platform)
        held = tuple(sorted(chance.sample(range(size), chance.randrange(size))))
        kinds[NodeKind(platform, held, chance.choice(DRIVERS))] = None
    return tuple(kinds)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster of numbered objects; each is made when it is asked for."""

    nodes: int
    states: int
    """Distinct node states (at most: nodes that differ may still be equal for a decision)."""
    pods: int = 0
    gpu_pod_share: float = 0.3
    """Largest share of the pods that are GPU pods; the others request no GPU.

    Without GPU pods the few pods that come and go would change the mix of sizes that Fabricwise learns, and with it every verdict.
    """

    platforms: Sequence[str] = ()
    """Platforms of the nodes; empty: all."""

    @property
    def gpu_pods(self) -> int:
        """Number of pods that hold the GPUs of the first nodes, one per node."""
        return min(self.nodes, round(self.pods * self.gpu_pod_share))

    def names(self) -> list[str]:
        """Return the names of all nodes."""
        return [node_name(number) for number in range(self.nodes)]

    def kind(self, node: int) -> NodeKind:
        """Return what kind of node the node with this number is."""
        kinds = node_kinds(self.states, tuple(self.platforms))
        return kinds[node % len(kinds)]

    def node(self, number: int) -> bytes:
        """Return a Node as JSON."""
        kind = self.kind(number)
        return _filled(_node_template(kind.platform, kind.driver), node_name(number), number)

    def topology(self, number: int) -> bytes:
        """Return a GpuTopology as JSON; the pod that holds its GPUs is named where that pod exists."""
        return _filled(_topology_template(self.kind(number), number < self.gpu_pods), node_name(number), number)

    def pod(self, number: int) -> bytes:
        """Return a running Pod as JSON: first the GPU pods, one per node, then pods without GPUs."""
        node = number % self.nodes
        if number < self.gpu_pods and (held := self.kind(number).held):
            return running_pod(f"gpu-{node_name(number)}", node_name(node), len(held), number)
        return running_pod(f"web-{number:06d}", node_name(node), 0, number)

    def dump(self) -> str:
        """Return nodes, GpuTopologies and pods as one List, as `fabricwise dump` writes it."""
        items = [
            make(n) for make, count in ((self.node, self.nodes), (self.topology, self.nodes), (self.pod, self.pods)) for n in range(count)
        ]
        return '{"kind": "List", "apiVersion": "v1", "items": [' + b",\n".join(items).decode() + "]}"


def node_name(number: int) -> str:
    """Return the name of a node: as long as a cloud's."""
    return f"gpu-node-{number:05d}.cluster.local"


def running_pod(name: str, node: str, gpus: int, version: int) -> bytes:
    """Return a bound, running Pod as JSON. Its uid is `uid-` and its name."""
    return _pod_text(name, gpus, version, node, "Running")


def pending_pod(name: str, gpus: int | tuple[int, ...], version: int) -> bytes:
    """Return a Pod that is not bound as JSON; `gpus`: per container, or of one container."""
    return _pod_text(name, gpus, version, None, "Pending")


def _pod_text(name: str, gpus: int | tuple[int, ...], version: int, node: str | None, phase: str) -> bytes:
    sizes = gpus if isinstance(gpus, tuple) else (gpus,)
    template = _pod_template(sizes, node is not None, phase)
    return template.replace(b"@POD@", name.encode()).replace(b"@NODE@", (node or "").encode()).replace(b"@VERSION@", str(version).encode())


def _filled(template: bytes, name: str, version: int) -> bytes:
    return template.replace(b"@NODE@", name.encode()).replace(b"@VERSION@", str(version).encode())


def _managed(manager: str, *paths: str) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {f"f:{path}": {".": {}, "f:value": {}, "f:resources": {".": {}, "f:limits": {}}} for path in paths},
    }


@cache
def _node_template(platform: str, driver: str) -> bytes:
    node = node_manifest("@NODE@", machine_of(platform))
    labels = {f"feature.node.kubernetes.io/cpu-cpuid.F{n}": "true" for n in range(30)} | {"nvidia.com/cuda.driver-version.full": driver}
    node["metadata"] |= {"labels": node["metadata"]["labels"] | labels, "uid": "uid-@NODE@", "resourceVersion": "@VERSION@"}
    node["metadata"]["managedFields"] = [_managed("kubelet", "capacity", "conditions", "images"), _managed("nfd-master", *labels)]
    kinds = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    times = {"lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    node["status"]["conditions"] = [{"type": kind, "status": str(kind == "Ready"), "reason": "Kubelet", **times} for kind in kinds]
    node["status"]["images"] = [{"names": [f"registry/image-{n}@sha256:{n:064x}"], "sizeBytes": 1 << 30} for n in range(20)]
    return json.dumps(node).encode()


@cache
def _topology_template(kind: NodeKind, named: bool) -> bytes:
    machine, holder = machine_of(kind.platform), ("uid-gpu-@NODE@", "bench", "gpu-@NODE@") if named else (None, None, None)
    free = tuple(gpu.index for gpu in machine.gpus if gpu.index not in kind.held)
    status = DeviceStatus(free, tuple(Allocation(index, *holder) for index in kind.held))
    manifest = encode(TopologyRecord("@NODE@", machine, status))
    manifest["metadata"] |= {"resourceVersion": "@VERSION@", "uid": "uid-topology-@NODE@"}
    return json.dumps(manifest).encode()


@cache
def _pod_template(sizes: tuple[int, ...], bound: bool, phase: str) -> bytes:
    containers = [
        {
            "name": f"c{position}",
            "image": "registry/server:1.0",
            "env": [{"name": f"VARIABLE_{n}", "value": f"value {n}"} for n in range(8)],
            "resources": {"limits": {"cpu": "4", **({GPU: str(gpus)} if gpus else {})}, "requests": {"cpu": "4"}},
            "volumeMounts": [{"name": "token", "readOnly": True, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "terminationMessagePath": "/dev/termination-log",
            "imagePullPolicy": "IfNotPresent",
        }
        for position, gpus in enumerate(sizes)
    ]
    tolerations = [
        {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute"} for why in ("not-ready", "unreachable")
    ]
    sources = [{"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}, {"configMap": {"name": "kube-root-ca.crt"}}]
    metadata = {
        "name": "@POD@",
        "namespace": "bench",
        "uid": "uid-@POD@",
        "resourceVersion": "@VERSION@",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": "server", "pod-template-hash": "5d9c7b8f6"},
        "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "server-5d9c7b8f6", "uid": "uid-rs", "controller": True}
        ],
        "managedFields": [_managed("kube-controller-manager", "labels", "containers"), _managed("kubelet", "status", "podIPs")],
    }
    spec = {
        "containers": containers,
        "volumes": [{"name": "token", "projected": {"sources": sources}}],
        "restartPolicy": "Always",
        "serviceAccountName": "default",
        "schedulerName": "gpu-scheduler",
        "tolerations": tolerations,
        "priority": 0,
        **({"nodeName": "@NODE@"} if bound else {}),
    }
    conditions = [{"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"} for kind in ("PodScheduled", "Ready")]
    status = {"phase": phase, "qosClass": "Burstable", **({"conditions": conditions, "podIP": "10.0.0.1"} if bound else {})}
    return json.dumps({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec, "status": status}).encode()
