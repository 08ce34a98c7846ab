"""Nodes, pods and claims for tests of Dynamic Resource Allocation, beside those of `extender.sources.simulated_dra`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from extender.decision.cycle.scheduling_cycle import demand_in
from extender.decision.evaluate.evaluator import Evaluator, evaluate_nodes
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.evaluate.verdict import Verdict
from extender.decision.node.claims_on_node import on_view
from extender.decision.request.pod_request import Demand
from extender.decision.state.snapshot import Snapshot
from extender.sources.simulated_dra import class_manifest, slice_manifests
from tests.objects import GPU, pod_struct, snapshot
from topology.gputopology.manifest_encoding import encode
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import Machine
from topology.platforms import machine_of


def bare_node(name: str, gpus: int | None = None) -> dict[str, Any]:
    """A node without labels; without `gpus` its allocatable names none."""
    amounts = {"cpu": "64"} | ({GPU: str(gpus)} if gpus is not None else {})
    return {"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": {}}, "status": {"allocatable": amounts}}


def topology_of(name: str, machine: Machine) -> dict[str, Any]:
    """The machine's GpuTopology, without status."""
    return encode(TopologyRecord(name, machine))


def dra_node(
    name: str = "n", platform: str = "hgx-h100", order: Sequence[int] | None = None, with_topology: bool = True, per_slice: int = 128
) -> list[dict[str, Any]]:
    """A node of a platform with its slices."""
    machine = machine_of(platform, name)
    own = [topology_of(name, machine)] if with_topology else []
    return [bare_node(name), *own, *slice_manifests(name, machine, order, per_slice)]


def cluster(*manifests: dict[str, Any], node: str = "n", **options: Any) -> Snapshot:
    """A snapshot of one node, NVIDIA's class and further objects."""
    return snapshot(*dra_node(node, **options), class_manifest(), *manifests)


def claim_pod(*claims: str, name: str = "llm", node: str | None = None) -> dict[str, Any]:
    """A pod of namespace `team` with one container that uses claims by their own names."""
    entries = [{"name": f"c{number}", "resourceClaimName": claim} for number, claim in enumerate(claims)]
    used = [{"name": entry["name"]} for entry in entries]
    spec: dict[str, Any] = {"containers": [{"name": "server", "resources": {"claims": used}}], "resourceClaims": entries}
    if node is not None:
        spec["nodeName"] = node
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "team", "uid": f"uid-{name}"}, "spec": spec}


def verdict(state: Snapshot, pod: Mapping[str, Any], node: str = "n") -> Verdict:
    """The verdict on one node."""
    demand = demand_in(state, pod_struct(dict(pod)), GPU)
    (found,) = evaluate_nodes(Evaluator(DEFAULT_POLICY), state, demand, [node])
    return found


def resolved(state: Snapshot, pod: Mapping[str, Any], node: str = "n") -> Demand:
    """The pod's demand as the node can serve it."""
    demand = demand_in(state, pod_struct(dict(pod)), GPU)
    assert isinstance(demand, Demand)
    return on_view(demand, state.views[node])


def sets(found: Verdict) -> list[tuple[tuple[int, ...], float]]:
    """(GPU indices, probability) of the predicted sets."""
    return [(prospect.gpus, prospect.probability) for prospect in found.evidence.prospects]
