"""Clusters whose pods have owners and disruption budgets, advice about them, and the cluster after the advice was followed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import EvaluationContext
from extender.decision.disruption.disruption_facts import DisruptionFacts, PodFacts, budget_of
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.policy import DEFAULT_POLICY
from extender.decision.kube_filters.pod_objects import KubePod
from extender.decision.node.node_state import NODE_DEFAULTS
from extender.decision.pace import Pace, unhurried
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.slots.defrag_answer import DefragAnswer
from extender.decision.slots.defrag_search import DefragSearch
from extender.decision.slots.pod_moves import PodMover
from extender.server.from_settings import ranker
from extender.settings import Scoring
from tests.objects import GPU, snapshot
from tests.slots.machines_in_use import Objects


def owned(objects: Objects, kind: str | None = "ReplicaSet", **spec: Any) -> Objects:
    """Return the objects; each pod has a controller of this kind and these fields of its spec."""
    return [_owned(each, kind, spec) if each["kind"] == "Pod" else each for each in objects]


def _owned(manifest: dict[str, Any], kind: str | None, spec: dict[str, Any]) -> dict[str, Any]:
    name = manifest["metadata"]["name"]
    owners = [{"kind": kind, "name": f"of-{name}", "uid": f"uid-of-{name}", "controller": True}] if kind else []
    metadata = {**manifest["metadata"], "ownerReferences": owners, "labels": {"app": name}}
    return {**manifest, "metadata": metadata, "spec": {**manifest["spec"], **spec}}


def labelled(objects: Objects, labels: Mapping[str, str], *names: str) -> Objects:
    """Return the objects; the pods of these names have these labels besides their own."""
    return [_labelled(each, labels) if each["kind"] == "Pod" and each["metadata"]["name"] in names else each for each in objects]


def _labelled(manifest: dict[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), **labels}}}


def budget(name: str, allowed: int, apps: Sequence[str] = (), **status: int) -> dict[str, Any]:
    """Return a PodDisruptionBudget of the pods of these apps; none: of all pods of the namespace."""
    selector = {"matchExpressions": [{"key": "app", "operator": "In", "values": list(apps)}]} if apps else {}
    stated = {"disruptionsAllowed": allowed, "observedGeneration": 1, **status}
    metadata = {"name": name, "namespace": "team", "generation": 1}
    return {"kind": "PodDisruptionBudget", "metadata": metadata, "spec": {"selector": selector}, "status": stated}


def facts_of(objects: Iterable[dict[str, Any]], budgets: Sequence[dict[str, Any]] = ()) -> DisruptionFacts:
    """Return the facts about all pods, as a command that lists the cluster has them."""
    pods: dict[str, PodFacts] = {}
    by_node: dict[str, tuple[KubePod, ...]] = {}
    for manifest in objects:
        if manifest["kind"] == "Pod":
            pod, kube_pod = msgspec.convert(manifest, Pod, strict=False), msgspec.convert(manifest, KubePod, strict=False)
            pods[pod.key] = PodFacts(pod, kube_pod)
            node = manifest["spec"]["nodeName"]
            by_node[node] = (*by_node.get(node, ()), kube_pod)
    return DisruptionFacts(pods, tuple(map(budget_of, budgets)), (), by_node)


def advised(objects: Objects, size: int, budgets: Sequence[dict[str, Any]] = (), *, moves: int = 5, pace: Pace = unhurried) -> DefragAnswer:
    """Return the advice about a cluster with these objects."""
    state, evaluator = snapshot(*objects), Evaluator(DEFAULT_POLICY)
    evaluator.learn(state)
    mover = PodMover(EvaluationContext(evaluator, GPU, NODE_DEFAULTS), ranker(Scoring()), NO_ASSUMED_PODS, 0.0)
    return DefragSearch(state, size, facts_of(objects, budgets), mover, DEFAULT_POLICY).advise(moves, pace)


def after_moves(objects: Objects, answer: DefragAnswer) -> Objects:
    """Return the objects as they are after the advice was followed: each pod has ended, and a new one of the same name is bound."""
    moves = {move.name: move for step in answer.steps for move in step.moves}
    kept, recreated = [], []
    for manifest in objects:
        name = manifest["metadata"]["name"]
        if manifest["kind"] == "Pod" and name in moves:
            metadata = {**manifest["metadata"], "uid": f"uid-{name}-again", "creationTimestamp": "2030-01-01T00:00:00Z"}
            spec = {**manifest["spec"], "nodeName": moves[name].to_node}
            recreated.append({**manifest, "metadata": metadata, "spec": spec})
        else:
            kept.append(_without_allocations(manifest, moves) if manifest["kind"] == "GpuTopology" else manifest)
    in_order = sorted(recreated, key=lambda each: list(moves).index(each["metadata"]["name"]))
    for number, manifest in enumerate(in_order):
        manifest["metadata"]["creationTimestamp"] = f"2030-01-01T00:00:{number:02}Z"
    return [*kept, *in_order]


def _without_allocations(topology: dict[str, Any], moved: Iterable[str]) -> dict[str, Any]:
    """Return a GpuTopology after its agent has seen that these pods have ended."""
    status = topology["status"]
    gone = [entry for entry in status.get("allocated", ()) if entry["podName"] in moved]
    allocated = [entry for entry in status.get("allocated", ()) if entry not in gone]
    free = sorted({*status["free"], *(entry["index"] for entry in gone)})
    return {**topology, "status": {**status, "free": free, "allocated": allocated, "freeCount": len(free)}}
