"""Clusters drawn from a seed: nodes of bundled platforms in many states, the pods on them, telemetry, and requests.

The same seed gives the same cluster.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from extender.sources.simulated import node_manifest
from extender.telemetry.readings import DeviceReading
from tests.objects import GPU
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import Allocation, DeviceStatus, TopologyRecord
from topology.machine.hardware import Machine
from topology.placement.shared_tables import table_for
from topology.platforms import machine_of, platforms

NOW_SECONDS = 1_750_000_000.0
"""Unix time at which every recorded cluster is looked at."""

Object = dict[str, Any]

ANNOTATIONS: tuple[dict[str, str], ...] = (
    {}, {}, {}, {},
    {"min-busbw": "100"}, {"min-busbw": "200"}, {"min-link": "nvlink"}, {"min-link": "phb"}, {"preferred-link": "pix"},
    {"preferred-busbw": "150"}, {"message-size": "decode"}, {"message-size": "prefill"}, {"min-gpu-memory": "40Gi"},
    {"gpu-memory-class": "80,141"}, {"min-free-memory": "30Gi"}, {"min-compute-capability": "8.0"}, {"min-driver": "550.54"},
    {"min-cuda": "12.4"}, {"sharing": "none"}, {"sharing": "time-slicing,mig"}, {"workload-class": "batch"}, {"min-busbw": "fast"},
    {"model": '{"layers": 32, "hidden": 4096, "heads": 32}'},
)  # fmt: skip
"""What a pod may say, malformed ones included; most pods say nothing."""

NODE_LABELS: tuple[dict[str, str], ...] = (
    {}, {}, {}, {}, {},
    {"fabricwise.dev/topology-manager-policy": "single-numa-node"}, {"fabricwise.dev/topology-manager-policy": "restricted"},
    {"fabricwise.dev/device-plugin": "uniform"}, {"nvidia.com/cuda.driver-version.full": "535.104.05"},
    {"nvidia.com/gpu.compute.major": "7", "nvidia.com/gpu.compute.minor": "5"},
)  # fmt: skip


@dataclass(frozen=True)
class RecordedCluster:
    """One cluster and what is asked of it."""

    objects: tuple[Object, ...]
    """Nodes, pods and GpuTopologies as the API server has them."""
    telemetry: dict[str, tuple[DeviceReading, ...]]
    """By node name; nodes without telemetry are not in it."""
    requests: tuple[Object, ...]
    """Pods to be placed."""


def recorded_cluster(seed: int) -> RecordedCluster:
    """Return the cluster of this seed: 3 to 10 nodes, their pods, and six requests."""
    dice = random.Random(seed)
    objects: list[Object] = []
    telemetry: dict[str, tuple[DeviceReading, ...]] = {}
    for place in range(dice.randint(3, 10)):
        platform = dice.choice(sorted(platforms()))
        name = f"{platform}-{place}"
        machine = machine_of(platform, name)
        node = node_manifest(name, machine)
        node["metadata"]["labels"] |= dice.choice(NODE_LABELS)
        _disturb(dice, node, machine)
        objects.append(node)
        objects += _load(dice, name, machine)
        if dice.random() < 0.6:
            telemetry[name] = tuple(_reading(dice, name, machine, index) for index in range(len(machine.gpus)))
    requests = tuple(_request(dice, f"r{number}") for number in range(6))
    return RecordedCluster(tuple(objects), telemetry, requests)


def _disturb(dice: random.Random, node: Object, machine: Machine) -> None:
    """Some nodes offer fewer GPUs than they have, share them, are tainted or not ready."""
    amounts, kind = node["status"]["allocatable"] | {}, dice.random()
    if kind < 0.1:
        amounts[GPU] = str(max(0, len(machine.gpus) - 1))
    elif kind < 0.2:
        amounts[GPU] = str(4 * len(machine.gpus))
        node["metadata"]["labels"] |= {
            "nvidia.com/gpu.replicas": "4",
            "nvidia.com/gpu.sharing-strategy": dice.choice(["time-slicing", "mps"]),
        }
    elif kind < 0.25:
        amounts |= {GPU: "0", "nvidia.com/mig-1g.10gb": "7"}
    node["status"] = {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]}
    if dice.random() < 0.1:
        node["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    if dice.random() < 0.15:
        node["spec"] = {"taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]}


def _load(dice: random.Random, name: str, machine: Machine) -> list[Object]:
    """The pods of a node and its GpuTopology, which names all of them, some, or none."""
    table, free = table_for(machine), (1 << len(machine.gpus)) - 1
    objects: list[Object] = []
    entries: list[Allocation] = []
    for number in range(dice.randint(0, 3)):
        size = dice.choice([1, 1, 2, 2, 4])
        outcomes = table.predictor.predict(free, ((size, False),)).outcomes
        if not outcomes:
            break
        taken = dice.choices([outcome.taken for outcome in outcomes], [outcome.probability for outcome in outcomes])[0]
        free &= ~taken
        pod = _request(dice, f"{name}-p{number}", (size,), plain=True)
        pod["spec"]["nodeName"] = name
        pod["status"] = {"phase": "Running", "conditions": [_condition("PodScheduled", "2025-06-15T14:00:00Z")]}
        indices = machine.indices(taken)
        said = dice.random()
        if said < 0.4:
            ids = [{"resourceID": machine.gpus[machine.positions((index,))[0]].uuid or "", "health": "Healthy"} for index in indices]
            entry = {"name": "c0", "allocatedResourcesStatus": [{"name": GPU, "resources": ids}]}
            pod["status"]["containerStatuses"] = [entry]
        if said > 0.3:
            meta = pod["metadata"]
            entries += [Allocation(index, meta["uid"], meta["namespace"], meta["name"]) for index in indices]
        if dice.random() < 0.15:
            pod["metadata"]["deletionTimestamp"] = "2025-06-15T15:00:00Z"
        objects.append(pod)
    if dice.random() < 0.85:
        sick = ((dice.randrange(len(machine.gpus)), "XID 79"),) if dice.random() < 0.1 else ()
        age = dice.choice([1.0, 5.0, 100.0, 4000.0])
        status = DeviceStatus(None, tuple(entries), sick, NOW_SECONDS - age) if dice.random() < 0.85 else None
        objects.append(encode(TopologyRecord(name, machine, status)))
    return objects


def _condition(kind: str, time: str) -> Object:
    return {"type": kind, "status": "True", "lastTransitionTime": time}


def _request(dice: random.Random, name: str, sizes: tuple[int, ...] | None = None, plain: bool = False) -> Object:
    """A pod of one to three containers, now and then with init containers, sidecars, annotations and a command line."""
    groups = sizes or dice.choice([(1,), (2,), (2,), (4,), (4,), (8,), (3,), (2, 2), (2, 1, 1), (16,), (0,)])
    containers = [_container(f"c{place}", size) for place, size in enumerate(groups)]
    spec: Object = {"containers": containers, "priority": dice.choice([0, 0, 100])}
    if not plain and dice.random() < 0.15:
        spec["initContainers"] = [_container("i0", dice.choice([1, 2, 4])) | dice.choice([{}, {"restartPolicy": "Always"}])]
    if not plain and dice.random() < 0.25:
        containers[0] |= {"image": "vllm/vllm-openai:v0.9.0", "args": ["--tensor-parallel-size", str(dice.choice([1, 2, 4]))]}
    annotations = {} if plain else {f"fabricwise.dev/{key}": value for key, value in dice.choice(ANNOTATIONS).items()}
    meta = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-{name}",
        "annotations": annotations,
        "creationTimestamp": "2025-06-15T13:59:00Z",
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _container(name: str, gpus: int) -> Object:
    limits = {"cpu": "1", GPU: str(gpus)} if gpus else {"cpu": "1"}
    return {"name": name, "image": "server:1", "resources": {"limits": limits, "requests": limits}}


def _reading(dice: random.Random, node: str, machine: Machine, position: int) -> DeviceReading:
    gpu = machine.gpus[position]
    total = gpu.memory_bytes or 16 << 30
    used = int(total * dice.choice([0.0, 0.0, 0.02, 0.5, 0.9]))
    busy = dice.choice([0.0, 0.0, 0.4, 0.95])
    return DeviceReading(
        gpu.uuid or f"{node}-{gpu.index}",
        index=gpu.index,
        fb_used_bytes=used,
        fb_free_bytes=total - used,
        utilization=busy,
        memory_utilization=busy / 2,
        temperature_celsius=30.0 + 50.0 * busy,
        xid=79 if dice.random() < 0.03 else 0,
    )
