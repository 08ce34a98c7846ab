"""A cluster with hypotheses applied: each becomes changes, which the one fold folds into the snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import msgspec

from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.node.node_labels import count_of
from extender.decision.node.node_state import NodeDefaults
from extender.decision.request.kubernetes_objects import Meta, Node, NodeSpec, NodeStatus, Pod
from extender.decision.state.changes import Change, NodeSeen, PodSeen, TopologySeen
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.decision.state.without_bound_pod import removal_of
from extender.decision.whatif.hypotheses import (
    MOST_ADDED_NODES,
    MOST_HYPOTHESES,
    AddNodes,
    AddPods,
    Cordon,
    Hypothesis,
    LoseGpu,
    RemovePod,
    Unusable,
    near,
)
from extender.decision.whatif.kube_objects import KubeObjects, key_of
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord

LOST = "lost by hypothesis"
"""The reason of an unhealthy GPU in the hypothetical status."""


@dataclass(frozen=True, slots=True)
class HypotheticalCluster:
    """The state, the objects that kube-scheduler's filters read, and the pods that hypotheses add."""

    snapshot: Snapshot
    kube: KubeObjects
    added: tuple[tuple[Pod, KubePod], ...] = ()
    """In the order of the hypotheses."""
    notes: tuple[str, ...] = ()
    """Consequences that are not seen in placements, for people."""


def with_hypotheses(
    cluster: HypotheticalCluster, hypotheses: Sequence[Hypothesis], resource: str, defaults: NodeDefaults, most_pods: int
) -> HypotheticalCluster | Unusable:
    """Return the cluster after the hypotheses, in order; Unusable for the first one that cannot be applied.

    `most_pods`: the bound of added pods, which is checked before any work.
    """
    too_much = _too_much(hypotheses, most_pods)
    if too_much is not None:
        return too_much
    for hypothesis in hypotheses:
        changed = _with(cluster, hypothesis, resource, defaults)
        if isinstance(changed, Unusable):
            return changed
        cluster = changed
    return cluster


def _too_much(hypotheses: Sequence[Hypothesis], most_pods: int) -> Unusable | None:
    if len(hypotheses) > MOST_HYPOTHESES:
        return Unusable(f"{len(hypotheses)} hypotheses: at most {MOST_HYPOTHESES} are applied at once; ask with fewer")
    counts = [hypothesis.count for hypothesis in hypotheses if isinstance(hypothesis, AddPods)]
    if any(count < 1 for count in counts):
        return Unusable("a number of pods to add is below 1: give 1 or more")
    if sum(counts) > most_pods:
        return Unusable(f"{sum(counts)} pods to add: a sequence has at most {most_pods}; add fewer")
    nodes = sum(isinstance(seen, NodeSeen) for hypothesis in hypotheses if isinstance(hypothesis, AddNodes) for seen in hypothesis.seen)
    if nodes > MOST_ADDED_NODES:
        return Unusable(f"{nodes} nodes to add: at most {MOST_ADDED_NODES} are added at once; add fewer")
    return None


def _with(cluster: HypotheticalCluster, hypothesis: Hypothesis, resource: str, defaults: NodeDefaults) -> HypotheticalCluster | Unusable:
    def folded(changes: Sequence[Change]) -> Snapshot:
        return fold_all(cluster.snapshot, changes, resource, defaults)

    match hypothesis:
        case AddPods():
            pods = _created(hypothesis, len(cluster.added))
            snapshot = folded([PodSeen(pod) for pod, _ in pods])
            kube = cluster.kube.with_pending(kube_pod for _, kube_pod in pods)
            return replace(cluster, snapshot=snapshot, kube=kube, added=(*cluster.added, *pods))
        case RemovePod(namespace, name):
            key = _key_of_pod(cluster, namespace, name)
            if isinstance(key, Unusable):
                return key
            kept = cluster.kube.without(key, namespace, name)
            return replace(cluster, snapshot=folded(removal_of(cluster.snapshot, key, f"{namespace}/{name}")), kube=kept)
        case Cordon(name):
            node = _node(cluster.snapshot, name)
            return node if isinstance(node, Unusable) else replace(cluster, snapshot=folded([NodeSeen(_cordoned(node))]))
        case LoseGpu(name, index):
            changes = _loss(cluster.snapshot, name, index, resource)
            if isinstance(changes, Unusable):
                return changes
            notes = (*cluster.notes, *_holders(cluster.snapshot, name, index))
            return replace(cluster, snapshot=folded(changes), notes=notes)
        case AddNodes(seen):
            taken = [each.node.metadata.name for each in seen if isinstance(each, NodeSeen)]
            existing = next((name for name in taken if name in cluster.snapshot.nodes), None)
            if existing is not None:
                return Unusable(f"a node to add is named {existing}, which exists: give another name")
            return replace(cluster, snapshot=folded(seen))
        case _:
            assert_never(hypothesis)


def _created(hypothesis: AddPods, first: int) -> list[tuple[Pod, KubePod]]:
    """Return the pods that are created from a manifest. `first`: the number of the first one among all added pods.

    A manifest may come from a running pod: node, status, uid and times of that pod are not those of the new ones.
    """
    meta, is_single = hypothesis.pod.metadata, hypothesis.count == 1
    base = meta.name or "added"
    spec = msgspec.structs.replace(hypothesis.pod.spec, node_name=None)
    pods = []
    for number in range(hypothesis.count):
        new = Meta(
            name=base if is_single else f"{base}-{number}",
            namespace=meta.namespace or "default",
            uid=f"what-if-{first + number}",
            labels=meta.labels,
            annotations=meta.annotations,
        )
        pods.append((Pod(new, spec), KubePod(new, hypothesis.kube_pod.spec)))
    return pods


def _key_of_pod(cluster: HypotheticalCluster, namespace: str, name: str) -> str | Unusable:
    """Return the key of a pod, whether it is bound or pending, with GPUs or without."""
    snapshot, kube = cluster.snapshot, cluster.kube
    keys = {(pod.namespace, pod.name): key for key, pod in snapshot.pods.items()}
    keys |= {(each.pod.metadata.namespace or "default", each.pod.metadata.name): key for key, each in snapshot.pending.items()}
    keys |= {(pod.namespace, pod.metadata.name): key_of(pod) for pods in (kube.bound or {}).values() for pod in pods}
    key = keys.get((namespace, name))
    if key is not None:
        return key
    elsewhere = sorted(space for space, pod in keys if pod == name)
    names = (f"{space}/{pod}" for space, pod in keys)
    hint = f"did you mean {', '.join(f'{space}/{name}' for space in elsewhere[:3])}?" if elsewhere else near(f"{namespace}/{name}", names)
    return Unusable(f"pod to remove: the cluster has no pod {name!r} in namespace {namespace!r}; {hint}")


def _node(snapshot: Snapshot, name: str) -> Node | Unusable:
    node = snapshot.nodes.get(name)
    return node if node is not None else Unusable(f"the cluster has no node {name!r}; {near(name, snapshot.nodes)}")


def _cordoned(node: Node) -> Node:
    return msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec or NodeSpec(), unschedulable=True))


def _loss(snapshot: Snapshot, name: str, index: int, resource: str) -> list[Change] | Unusable:
    """Return what the API server shows once a GPU has failed: one allocatable GPU less, and an unhealthy GPU in the agent's status."""
    node = _node(snapshot, name)
    if isinstance(node, Unusable):
        return node
    view, record = snapshot.views.get(name), snapshot.topologies.get(name)
    known = record if isinstance(record, TopologyRecord) else None
    machine = known.machine if known is not None else view.machine if view is not None else None
    status = (known.status if known is not None else None) or DeviceStatus()
    offered = count_of(node, resource)
    indices = [gpu.index for gpu in machine.gpus] if machine is not None else list(range(offered))
    if index not in indices:
        return Unusable(f"node {name} has no GPU {index}; its GPUs are {', '.join(map(str, indices)) or 'none'}")
    if any(sick == index for sick, _ in status.unhealthy):
        return Unusable(f"GPU {index} of node {name} is unhealthy already: leave the hypothesis out")
    changes: list[Change] = []
    if offered:
        changes.append(NodeSeen(_offering(node, resource, offered - 1)))
    if machine is not None and (known is not None or record is None):
        free = None if status.free is None else tuple(gpu for gpu in status.free if gpu != index)
        lost = replace(status, free=free, unhealthy=(*status.unhealthy, (index, LOST)))
        changes.append(TopologySeen(name, TopologyRecord(name, machine, lost)))
    return changes


def _offering(node: Node, resource: str, count: int) -> Node:
    """Return a node whose device plugin offers this many GPUs. The capacity stays, as the kubelet counts unhealthy devices in it."""
    status = node.status or NodeStatus()
    amounts = status.allocatable if status.allocatable is not None else status.capacity
    return msgspec.structs.replace(node, status=msgspec.structs.replace(status, allocatable={**(amounts or {}), resource: str(count)}))


def _holders(snapshot: Snapshot, name: str, index: int) -> list[str]:
    """Return a sentence per pod that is known to hold a GPU which is lost."""
    view = snapshot.views.get(name)
    if view is None or index not in view.state.indices:
        return []
    bit = 1 << view.state.indices.index(index)
    pods = [pod for pod in view.pods if any(mask & bit for mask in view.known.get(pod.key, ()))]
    return [f"pod {pod.full_name} holds GPU {index} of {name}; it stays bound there, although it cannot use the GPU" for pod in pods]
