"""The body of POST /v1/what-if, and the hypotheses that it states. The command builds the same body from its options."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from extender.decision.state.changes import NodeSeen, TopologySeen
from extender.decision.whatif.hypotheses import (
    MOST_ADDED_NODES,
    MOST_HYPOTHESES,
    AddNodes,
    AddPods,
    Cordon,
    Hypothesis,
    LoseGpu,
    RemovePod,
    near,
)
from extender.decision.whatif.what_if_question import MOST_PODS_OF_COMMAND
from extender.errors import RequestError
from extender.kube.objects.decode import seen
from extender.pod_templates import at, templates_of
from extender.sources.simulated import node_manifest
from extender.web.pod_manifests import pods_from
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.machine.hardware import MAX_GPUS
from topology.platforms import machine_of, platforms

Name = Annotated[str, Meta(min_length=1, max_length=253)]


class PodsToAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pods to add: `count` pods of `gpus` GPUs each, or of a manifest of a Pod or a workload. Give one of the two."""

    gpus: Annotated[int, Meta(ge=1, le=MAX_GPUS)] | None = None
    pod: dict[str, Any] | None = None
    count: Annotated[int, Meta(ge=1, le=MOST_PODS_OF_COMMAND)] = 1


class PodName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pod of the cluster."""

    name: Name
    namespace: Name = "default"


class GpuName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU of a node, by its nvidia-smi index."""

    node: Name
    gpu: Annotated[int, Meta(ge=0, lt=1024)]


class NodesToAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nodes of a bundled platform, such as hgx-h100."""

    platform: Name
    count: Annotated[int, Meta(ge=1, le=MOST_ADDED_NODES)] = 1


class WhatIfBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hypothetical changes of the cluster. An empty body asks where the pending pods would go."""

    add: Annotated[list[PodsToAdd], Meta(max_length=MOST_HYPOTHESES)] = []
    remove: Annotated[list[PodName], Meta(max_length=MOST_HYPOTHESES)] = []
    cordon: Annotated[list[Name], Meta(max_length=MOST_HYPOTHESES)] = []
    lose: Annotated[list[GpuName], Meta(max_length=MOST_HYPOTHESES)] = []
    nodes: Annotated[list[NodesToAdd], Meta(max_length=MOST_HYPOTHESES)] = []
    set: dict[str, Any] = {}
    """Dotted settings of the groups scoring, filtering and nodes -> value, such as scoring.weights.link: 0.5."""


def hypotheses_of(body: WhatIfBody, resource: str, existing: Collection[str]) -> tuple[list[Hypothesis], list[str]]:
    """Return (the hypotheses of a body, what is not known of the pods that they add). Raises RequestError.

    Removals, lost GPUs and cordoned nodes come first, then new nodes and new pods. `existing`: names of the cluster's nodes.
    """
    hypotheses: list[Hypothesis] = [RemovePod(each.namespace, each.name) for each in body.remove]
    hypotheses += [Cordon(name) for name in body.cordon]
    hypotheses += [LoseGpu(each.node, each.gpu) for each in body.lose]
    taken = set(existing)
    if sum(each.count for each in body.nodes) > MOST_ADDED_NODES:
        raise RequestError(f"more than {MOST_ADDED_NODES} nodes to add: give fewer")
    for nodes in body.nodes:
        hypotheses.append(_nodes(nodes, resource, taken))
    not_known: list[str] = []
    for pods in body.add:
        for added, texts in _pods(pods, resource):
            hypotheses.append(added)
            not_known += texts
    return hypotheses, not_known


def _nodes(nodes: NodesToAdd, resource: str, taken: set[str]) -> AddNodes:
    """Return nodes as a new node of the platform publishes itself; their names are added to `taken`."""
    if nodes.platform not in platforms():
        raise RequestError(f"no platform {nodes.platform!r}; {near(nodes.platform, platforms())} (bundled: {', '.join(platforms())})")
    changes: list[NodeSeen | TopologySeen] = []
    number = 0
    while len(changes) < 2 * nodes.count:
        name = f"{nodes.platform}-new-{number}"
        number += 1
        if name in taken:
            continue
        taken.add(name)
        machine = machine_of(nodes.platform, name)
        node = seen("Node", node_manifest(name, machine, resource))
        assert isinstance(node, NodeSeen)
        free = DeviceStatus(free=tuple(gpu.index for gpu in machine.gpus))
        changes += [node, TopologySeen(name, TopologyRecord(name, machine, free))]
    return AddNodes(tuple(changes))


def _pods(pods: PodsToAdd, resource: str) -> Iterator[tuple[AddPods, Sequence[str]]]:
    """Yield the pods of one entry, per pod template, with what is not known of them."""
    if (pods.gpus is None) == (pods.pod is None):
        raise RequestError("an entry of `add` has a number of GPUs (gpus) or a manifest (pod): give one of the two")
    if pods.pod is None:
        container = {"name": "main", "resources": {"limits": {resource: str(pods.gpus)}}}
        manifest = {"metadata": {"name": f"{pods.gpus}-gpu"}, "spec": {"containers": [container]}}
        yield AddPods(*pods_from(manifest), pods.count), ()
        return
    documents = _documents(pods.pod)
    templates_of(documents, "manifest to add")  # refuses manifests without any pod
    for document in documents:
        try:
            templates = templates_of([document], "manifest to add").pods
        except RequestError:
            continue  # a Service beside a Deployment
        replicas, texts = _replicas(document)
        for template in templates if replicas else ():
            pod, kube_pod = pods_from(template.manifest, f"manifest to add: {template.source}")
            yield AddPods(pod, kube_pod, pods.count * replicas), (*template.not_known, *texts)


def _documents(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of a List, or the manifest alone."""
    items = manifest.get("items")
    if str(manifest.get("kind") or "").endswith("List") and isinstance(items, list):
        return [item for item in items if isinstance(item, dict)]
    return [manifest]


_REPLICAS = {
    "Pod": None,
    "Deployment": ("spec", "replicas"),
    "StatefulSet": ("spec", "replicas"),
    "ReplicaSet": ("spec", "replicas"),
    "ReplicationController": ("spec", "replicas"),
    "Rollout": ("spec", "replicas"),
    "Job": ("spec", "parallelism"),
}
"""Kind -> field with the number of its pods, which defaults to 1."""


def _replicas(manifest: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Return (pods per template, what is not known of that number). Raises RequestError for a number that is none."""
    kind = str(manifest.get("kind") or "Pod")
    if kind not in _REPLICAS:
        return 1, (f"the number of pods of {kind}: one pod per template is added",)
    path = _REPLICAS[kind]
    stated = at(manifest, *path) if path is not None else None
    if stated is None:
        return 1, ()
    if not isinstance(stated, int) or isinstance(stated, bool) or not 0 <= stated <= MOST_PODS_OF_COMMAND:
        name = ".".join(path or ())
        raise RequestError(f"manifest to add: {kind}.{name} is {str(stated)[:40]!r}: give a number of 0 to {MOST_PODS_OF_COMMAND}")
    return stated, ()
