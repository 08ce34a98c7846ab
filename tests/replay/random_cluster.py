"""A random cluster behind a real service: nodes of every kind, churn, telemetry, claims; pods are filtered and prioritized meanwhile."""

from __future__ import annotations

import random
from itertools import count
from typing import Any

from extender.decision.dra.dra_state import DRA_KINDS
from extender.decision.request.kubernetes_objects import Node
from extender.decision.request.workload_classes import read_classes
from extender.decision.state.changes import (
    Change,
    ClassesSeen,
    ClockTicked,
    Listed,
    NodeGone,
    NodeSeen,
    PodGone,
    TelemetrySeen,
    TopologySeen,
)
from extender.kube.objects.decode import seen
from extender.server.service import Service, build_service
from extender.settings import Settings, Telemetry
from extender.sources.simulated import node_manifest
from extender.sources.simulated_dra import class_manifest, slice_manifests
from extender.telemetry.readings import DeviceReading
from tests.objects import GPU, pod, pod_struct
from topology.gputopology.topology_record import Allocation, DeviceStatus, SteeringStatus, TopologyRecord
from topology.machine.hardware import Machine
from topology.platforms import machine_of

PLATFORMS = ("hgx-h100", "dgx-1v", "a100-pcie-bridge-pairs", "t4", "l40s", "rtx4090")
START_SECONDS = 1_800_000_000.0
CLASSES = {
    "classes": [
        {"name": "batch", "description": "secret plan", "pools": [{"team.example.com/pool": "acme-red"}], "min_link": "sys"},
        {"name": "serving", "products": ["H100", "L40S"], "telemetry": "required", "weights": {"link": 2}},
    ]
}
SECRET = "hunter2"
"""In environments and arguments of every pod: no journal may contain it."""
NAMES = ("acme", "train-", '"team"', "GPU-")
"""Parts of names and uuids: no journal with hidden names may contain them."""


class RandomCluster:
    """One run; two runs with the same seed make the same decisions."""

    def __init__(self, seed: int, nodes: int = 8, settings: Settings | None = None) -> None:
        self.dice, self.numbers = random.Random(seed), count()
        self.service: Service = build_service(settings or Settings(telemetry=Telemetry(source="off")))
        self.machines: dict[str, Machine] = {}
        self.dra_nodes: set[str] = set()
        self.silent: set[str] = set()
        """Nodes without an agent: their topology is assumed from the product."""
        self.bound: dict[str, dict[str, Any]] = {}
        self.pending: dict[str, dict[str, Any]] = {}
        self.now_seconds = START_SECONDS
        self.monotonic_seconds = 1_000_000.0
        self._start(nodes)

    def _start(self, nodes: int) -> None:
        manifests = [manifest for number in range(nodes) for manifest in self._new_node(f"gpu-node-{number}.acme.example.com")]
        kinds = {"Node": "nodes", "Pod": "pods", "GpuTopology": "topologies"}
        changes: list[Change] = [ClockTicked(self.now_seconds, self.monotonic_seconds), ClassesSeen(read_classes(CLASSES))]
        changes += [Listed(listed, tuple(seen(kind, m) for m in manifests if m["kind"] == kind)) for kind, listed in kinds.items()]
        changes += [Listed(kind, (), 1) for kind in DRA_KINDS]
        for manifest in [*manifests, class_manifest()]:
            if manifest["kind"] in ("ResourceSlice", "DeviceClass"):
                changes.append(seen(manifest["kind"], manifest))
        self.service.store.apply(changes)
        for name in self.machines:
            self._report(name)

    def _new_node(self, name: str) -> list[dict[str, Any]]:
        machine = machine_of(self.dice.choice(PLATFORMS), name)
        self.machines[name] = machine
        node = node_manifest(name, machine)
        node["metadata"]["labels"] |= {"team.example.com/pool": self.dice.choice(["acme-red", "acme-blue"]), "owner": f"owner-{SECRET}"}
        kind = self.dice.random()
        if kind < 0.08:
            node["metadata"]["labels"] |= {"nvidia.com/gpu.replicas": "4", "nvidia.com/gpu.sharing-strategy": "time-slicing"}
            amount = str(4 * len(machine.gpus))
            node["status"] = {"allocatable": {GPU: amount}, "capacity": {GPU: amount}}
        elif kind < 0.16:
            node["metadata"]["labels"] |= {"nvidia.com/mig.strategy": "mixed", "nvidia.com/mig-1g.10gb.memory": "9856"}
            node["status"]["allocatable"] |= {"nvidia.com/mig-1g.10gb": "7"}
        elif kind < 0.26:
            self.silent.add(name)
        elif kind < 0.46:
            self.dra_nodes.add(name)
            for amounts in (node["status"]["allocatable"], node["status"].get("capacity", {})):
                amounts.pop(GPU, None)
            return [node, *slice_manifests(name, machine)]
        return [node]

    def step(self) -> None:
        """Change something."""
        change = self.dice.choice(
            [
                self._report,
                self._report,
                self._measure,
                self._measure,
                self._end_one,
                self._bind_one,
                self._tick,
                self._nominate,
                self._relabel,
            ]
        )
        names = sorted(self.machines)
        change(self.dice.choice(names))
        if self.dice.random() < 0.05 and len(names) > 4:
            self._lose(self.dice.choice(names))

    def _apply(self, *changes: Change) -> None:
        self.service.store.apply(changes)

    def _tick(self, _: str) -> None:
        seconds = self.dice.choice([0.5, 2.0, 30.0, 90.0, 400.0])
        self.now_seconds, self.monotonic_seconds = self.now_seconds + seconds, self.monotonic_seconds + seconds
        self._apply(ClockTicked(self.now_seconds, self.monotonic_seconds))

    def _report(self, name: str) -> None:
        """The agent of a node reports what its pods hold, some of it."""
        if name in self.silent:
            return
        machine, free, entries = self.machines[name], [gpu.index for gpu in self.machines[name].gpus], []
        for uid, manifest in sorted(self.bound.items()):
            gpus = int(manifest["spec"]["containers"][0]["resources"].get("limits", {}).get(GPU, 0))
            if manifest["spec"]["nodeName"] == name and len(free) >= gpus and self.dice.random() < 0.7:
                held, free = free[:gpus], free[gpus:]
                by_uid = uid if self.dice.random() < 0.5 else None
                entries += [Allocation(index, by_uid, "team", manifest["metadata"]["name"]) for index in held]
        unhealthy = ((machine.gpus[0].index, f"XID on {name}"),) if self.dice.random() < 0.1 and machine.gpus[0].index in free else ()
        steering = SteeringStatus("1", (GPU,), "mixed", ((free[-1], 1 << 30),)) if free and self.dice.random() < 0.2 else None
        known = self.dice.random() < 0.9
        status = DeviceStatus(
            tuple(index for index in free if index not in dict(unhealthy)) if known else None,
            tuple(entries) if known else (),
            unhealthy,
            self.now_seconds + self.dice.choice([-1.5, 0.0, 0.25]),
            (),
            None if known else f"no kubelet on {name}",
            steering,
        )
        record: TopologyRecord | str = TopologyRecord(name, machine, status)
        self._apply(TopologySeen(name, record if self.dice.random() < 0.95 else f"GpuTopology {name} is broken"))

    def _measure(self, name: str) -> None:
        readings = tuple(
            DeviceReading(
                gpu.uuid or "",
                index=gpu.index,
                node=name,
                pods=(f"team/{SECRET}",),
                fb_used_bytes=self.dice.choice([0, 2 << 30, 30 << 30]),
                fb_free_bytes=40 << 30,
                utilization=self.dice.random(),
                temperature_celsius=self.dice.choice([40.0, 80.0]),
                xid=79 if self.dice.random() < 0.02 else 0,
            )
            for gpu in self.machines[name].gpus
            if self.dice.random() < 0.9
        )
        self._apply(TelemetrySeen(name, self.monotonic_seconds, readings, (), (), f"http://{name}:9400"))

    def _relabel(self, name: str) -> None:
        node: Node = self.service.store.snapshot.nodes[name]
        labels = {**(node.metadata.labels or {}), "team.example.com/pool": self.dice.choice(["acme-red", "acme-blue"])}
        manifest = {"kind": "Node", "metadata": {"name": name, "labels": labels}, "status": {"allocatable": node.status.allocatable}}  # type: ignore[union-attr]
        self._apply(seen("Node", manifest))

    def _lose(self, name: str) -> None:
        del self.machines[name]
        self._apply(NodeGone(name))

    def _end_one(self, _: str) -> None:
        if self.bound:
            uid = self.dice.choice(sorted(self.bound))
            manifest = self.bound.pop(uid)
            if self.dice.random() < 0.4:
                self._apply(seen("Pod", {**manifest, "status": {"phase": "Succeeded"}}))
                if self.dice.random() < 0.5:
                    return
            self._apply(PodGone(uid))

    def _bind_one(self, _: str) -> None:
        """Show the binding of an assumed pod."""
        assumed = self.service.store.assumed_pods.by_pod
        for key in [key for key in assumed if key in self.pending][:1]:
            manifest = self.pending.pop(key)
            self._bind(key, {**manifest, "spec": {**manifest["spec"], "nodeName": assumed[key].node}})

    def _bind(self, key: str, manifest: dict[str, Any]) -> None:
        self.bound[key] = manifest
        machine = self.machines.get(manifest["spec"]["nodeName"])
        status: dict[str, Any] = {"phase": "Running"}
        if machine is not None and self.dice.random() < 0.3:
            held = [{"resourceID": machine.gpus[-1].uuid}]
            status["containerStatuses"] = [{"name": "c0", "allocatedResourcesStatus": [{"name": GPU, "resources": held}]}]
        self._apply(seen("Pod", {**manifest, "status": status}))

    def _nominate(self, name: str) -> None:
        """Preemption nominates a node for a pending pod."""
        if self.pending:
            manifest = self.pending[self.dice.choice(sorted(self.pending))]
            manifest["status"] = {"nominatedNodeName": name}
            self._apply(seen("Pod", manifest))

    def new_pod(self) -> dict[str, Any]:
        """Return a random pod: most request GPUs, some claims, some are malformed."""
        dice, name = self.dice, f"train-{next(self.numbers)}"
        annotations = {f"{SECRET}.example.com/x": SECRET}
        if dice.random() < 0.3:
            annotations["fabricwise.dev/min-busbw"] = dice.choice(["20", "200", "malformed acme"])
        if dice.random() < 0.2:
            annotations["fabricwise.dev/workload-class"] = dice.choice(["batch", "serving", "unknown"])
        if dice.random() < 0.2:
            annotations["fabricwise.dev/model"] = (
                '{"layers": 32, "hidden_size": 4096, "attention_heads": 32, "kv_heads": 8, "head_size": 128,'
                ' "parameters": 8000000000, "name": "acme/model"}'
            )
        manifest = pod(dice.choice([1, 1, 2, 2, 4, 8]), name=name, annotations=annotations)
        container = manifest["spec"]["containers"][0]
        container |= {
            "image": "registry.acme.example.com/vllm/vllm-openai:v1",
            "args": ["--tensor-parallel-size", "2", "--api-key", SECRET, f"--token={SECRET}", "--max-model-len=32k"],
            "env": [{"name": "TOKEN", "value": SECRET}],
        }
        if dice.random() < 0.1:
            manifest["spec"]["schedulingGroup"] = {"podGroupName": "acme-group"}
        if dice.random() < 0.1:
            container["resources"] = {"limits": {"nvidia.com/mig-1g.10gb": "1"}}
        manifest["spec"]["priority"] = dice.choice([0, 0, 10])
        manifest["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{dice.randrange(60):02d}Z"
        if dice.random() < 0.15:
            claim = f"claim-{name}"
            item = {
                "apiVersion": "resource.k8s.io/v1",
                "kind": "ResourceClaim",
                "metadata": {"name": claim, "namespace": "team", "uid": f"uid-{claim}"},
                "spec": {
                    "devices": {
                        "requests": [{"name": "gpus", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": dice.choice([1, 2])}}]
                    }
                },
            }
            if dice.random() < 0.9:
                self._apply(seen("ResourceClaim", item))
            container["resources"] = {"claims": [{"name": "gpus"}]}
            manifest["spec"]["resourceClaims"] = [{"name": "gpus", "resourceClaimName": claim}]
        return manifest

    def decide(self) -> None:
        """Filter a pod on most nodes in a random order, and prioritize it on those that are feasible, as kube-scheduler does."""
        manifest = self.new_pod()
        key = manifest["metadata"]["uid"]
        self.pending[key] = manifest
        if self.dice.random() < 0.8:
            self._apply(seen("Pod", manifest))
        if self.dice.random() < 0.2:
            manifest["status"] = {"nominatedNodeName": self.dice.choice(sorted(self.machines))}
        wanted = pod_struct(manifest)
        names = self.dice.sample(sorted(self.machines), self.dice.randint(1, len(self.machines)))
        sent = {}
        if self.dice.random() < 0.1:
            names.append("template")
            sent = {"template": self._template()}
        scheduling = self.service.scheduling
        self.service.scheduling.moment()
        evaluation = scheduling.filter(wanted, names, 100, sent)
        if (verdicts := getattr(evaluation, "verdicts", None)) is None:
            return
        feasible = [name for name, verdict in zip(names, verdicts, strict=True) if verdict.feasible]
        if self.dice.random() < 0.2:
            self.step()
        if len(feasible) > 1:
            scheduling.prioritize(wanted, feasible, 100, sent)
        if key in self.service.store.assumed_pods.by_pod and self.dice.random() < 0.5:
            self._bind_one("")

    def _template(self) -> Node:
        change = seen("Node", node_manifest("template", machine_of("hgx-h100")))
        assert isinstance(change, NodeSeen)
        return change.node

    def run(self, decisions: int) -> None:
        """Change things and make this number of decisions."""
        for _ in range(decisions):
            for _ in range(self.dice.randrange(4)):
                self.step()
            self.decide()
