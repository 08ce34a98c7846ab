"""Remedies that make room: request less CPU or memory, or add a node. Each is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import Moment
from extender.decision.kube_filters.resource_filter import allocatable_of, requested_by
from extender.decision.kube_filters.surroundings import Surroundings
from extender.decision.request.kubernetes_objects import Node, NodeMeta, NodeStatus
from extender.decision.request.pod_request import Demand
from extender.decision.state.changes import Change, ClassesSeen, ClockTicked, Listed, NodeSeen, TelemetrySeen, TopologySeen
from extender.decision.state.fold.reducer import fold_all
from extender.decision.state.snapshot import Snapshot
from extender.decision.why.helping.changed_pods import with_less, without_node_selection
from extender.decision.why.helping.pod_remedies import found
from extender.decision.why.helping.remedy_case import ADD_NODE, CORRECT, LOWER, Case, Found, few, fitting, speed_text
from extender.decision.why.pod_question import Question
from extender.telemetry.readings import DeviceReading
from topology.gputopology.topology_record import DeviceStatus, TopologyRecord
from topology.machine.hardware import Machine
from topology.machine.products import same_product
from topology.platforms import Platform, machine_of, platforms


def less_requested(case: Case) -> Iterator[Found]:
    """Too little CPU, memory or another countable resource on nodes that suit the pod otherwise: the most that fits."""
    question = case.question
    if question.kube_pod is None or question.around.pods is None:
        return
    gpu = f"Insufficient {question.resource}"
    reasons = {
        refusal.reason
        for refusals in case.evaluated.refusals.values()
        for refusal in refusals
        if refusal.plugin == "NodeResourcesFit" and refusal.reason.startswith("Insufficient ") and refusal.reason != gpu
    }
    for reason in sorted(reasons):
        resource = reason.removeprefix("Insufficient ")
        names = case.refused_only_by(lambda refusal, reason=reason: refusal.reason == reason)  # type: ignore[misc]
        free = {name: _free(question.around, name, resource) for name in names}
        for amount in sorted(set(free.values()), reverse=True)[:2]:
            lowered = with_less(question, resource, amount)
            if lowered is None or not case.pace():
                continue
            evaluated = fitting(lowered[0], names)
            if evaluated is not None:
                text = f"request {resource} {lowered[1]} in all instead of {_requested_text(case, names[0], reason)}"
                remedy = found("lower", LOWER, reason, text, evaluated)
                yield replace(remedy, requests=((resource, lowered[1]),))
                break


def _requested_text(case: Case, name: str, reason: str) -> str:
    detail = next(refusal.detail for refusal in case.evaluated.refusals[name] if refusal.reason == reason)
    return detail.removeprefix("requested ").split(",")[0]


def _free(around: Surroundings, name: str, resource: str) -> int:
    return allocatable_of(around.nodes[name]).get(resource, 0) - requested_by(around.pods_on(name)).get(resource, 0)


MOST_RESOURCES = 5
"""Resources that are named as offered."""


def offered_resource(case: Case) -> Iterator[Found]:
    """A device resource that the pod requests and no node offers, such as a MIG profile: what nodes offer instead. Not evaluated."""
    around = case.question.around
    reasons = {
        refusal.reason for refusals in case.evaluated.refusals.values() for refusal in refusals if refusal.plugin == "NodeResourcesFit"
    }
    asked = {reason.removeprefix("Insufficient "): reason for reason in reasons if reason.startswith("Insufficient ") and "/" in reason}
    if not asked or not case.pace():
        return
    offered = {name for node in around.nodes.values() for name, amount in allocatable_of(node).items() if amount > 0 and "/" in name}
    for resource in sorted(asked.keys() - offered - around.class_resources):
        vendor = resource.split("/", 1)[0]
        others = sorted(name for name in offered if name.split("/", 1)[0] == vendor or "gpu" in name)
        name_is_sure = resource == case.question.resource
        others_text = f"request one that nodes offer ({few(others, MOST_RESOURCES)}), or " if others else ""
        instead = others_text or ("" if name_is_sure else "correct its name, or ")
        text = f"no node offers {resource}: {instead}let the device plugin offer it (does it run, with this profile or sharing?)"
        yield Found("correct", CORRECT, asked[resource], text)


HYPOTHETICAL = "fabricwise-hypothetical-node"
ASSUMED_AMOUNTS = {"cpu": "192", "memory": "2000Gi", "pods": "110", "ephemeral-storage": "2000Gi"}
"""What a node to add is assumed to have beside GPUs: two processors of 96 CPUs, as the boards of eight GPUs usually have."""


def added_node(case: Case) -> Iterator[Found]:
    """The smallest bundled platform of which one more, empty node takes the pod; of platforms that the cluster has, the most
    frequent comes first."""
    demand, question = case.evaluated.demand, case.question
    if not isinstance(demand, Demand) or demand.claims is not None or not (demand.total or demand.slices):
        return
    reasons = [refusal.reason for refusals in case.evaluated.refusals.values() for refusal in refusals]
    cause = max(set(reasons), key=lambda reason: (reasons.count(reason), reason)) if reasons else "no nodes"
    for name, platform in sorted(platforms().items(), key=lambda item: _size(item[0], item[1], question.moment.snapshot)):
        if platform.gpus < demand.total:
            continue
        if not case.pace():
            return
        hypothetical, is_selecting = with_only_node(question, name)
        evaluated = fitting(hypothetical, (HYPOTHETICAL,))
        if evaluated is not None:
            gbps = evaluated.expected_gbps(HYPOTHETICAL)
            labels = ", with the labels that the pod selects" if is_selecting else ""
            text = f"add one node of {platform.gpus} x {platform.product} ({name}){labels}; then it fits there{speed_text(gbps)}"
            yield Found("add_node", ADD_NODE, cause, text, True, 1, None, gbps, platform=name)
            return


def _size(name: str, platform: Platform, snapshot: Snapshot) -> tuple[int, int, int, str]:
    alike = sum(
        view.state.product is not None
        and same_product(view.state.product, platform.product)
        and (view.state.physical or view.state.allocatable) == platform.gpus
        for view in snapshot.views.values()
    )
    return -alike, platform.gpus, platform.memory_gib, name


def with_only_node(question: Question, platform: str) -> tuple[Question, bool]:
    """Return the question on a cluster of one empty node of a platform, and whether the pod selects nodes by labels that it must get."""
    machine, snapshot = machine_of(platform, HYPOTHETICAL), question.moment.snapshot
    node = _node(machine, question)
    memory = machine.gpus[0].memory_bytes or 0
    seconds = question.moment.monotonic_seconds
    readings = tuple(DeviceReading(gpu.uuid or "", index=gpu.index, fb_used_bytes=0, fb_free_bytes=memory, xid=0) for gpu in machine.gpus)
    changes: list[Change] = [
        ClassesSeen(snapshot.classes),
        ClockTicked(question.now_seconds, seconds),
        *(Listed(kind, ()) for kind in ("nodes", "pods", "topologies")),
        NodeSeen(node),
        TopologySeen(HYPOTHETICAL, TopologyRecord(HYPOTHETICAL, machine, DeviceStatus(free=tuple(gpu.index for gpu in machine.gpus)))),
        TelemetrySeen(HYPOTHETICAL, seconds, readings),
    ]
    only = fold_all(Snapshot(), changes, question.resource, question.context.defaults)
    around = replace(question.around, nodes={**question.around.nodes, HYPOTHETICAL: node})
    without_selection = without_node_selection(question)
    asked = without_selection if without_selection is not None else question
    return replace(asked, moment=Moment(only, NO_ASSUMED_PODS, seconds), around=around), without_selection is not None


def _node(machine: Machine, question: Question) -> Node:
    demand_pool: dict[str, str] = {}
    annotations = question.pod.metadata.annotations or {}
    workload = question.moment.snapshot.classes.get(annotations.get("fabricwise.dev/workload-class", ""))
    if workload is not None and workload.pools:
        demand_pool = dict(workload.pools[0])
    gpu = machine.gpus[0]
    labels = {
        "kubernetes.io/hostname": HYPOTHETICAL,
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": str(len(machine.gpus)),
        "nvidia.com/gpu.product": (gpu.product or "").replace(" ", "-"),
        "nvidia.com/gpu.memory": str((gpu.memory_bytes or 0) >> 20),
        **demand_pool,
    }
    amounts = {**ASSUMED_AMOUNTS, question.resource: str(len(machine.gpus))}
    return Node(NodeMeta(HYPOTHETICAL, labels), NodeStatus(amounts, amounts))
