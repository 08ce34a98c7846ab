"""Remedies on nodes: wait, uncordon, tolerate a taint, select other nodes, repair a GPU, end a process, bring telemetry back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import msgspec

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS
from extender.decision.cycle.scheduling_cycle import verdict_without
from extender.decision.evaluate.evaluator import evaluate_with_extra_pods
from extender.decision.evaluate.verdict import Verdict
from extender.decision.kube_filters.node_filters import (
    ADMITTED_TOLERATIONS,
    READY_TAINTS,
    UNSCHEDULABLE_TAINT,
    keeps_away,
    required_of,
    taints_of,
    tolerates,
)
from extender.decision.kube_filters.surroundings import labels_of
from extender.decision.node.claims_on_node import all_on_view, on_view
from extender.decision.node.node_state import NodeState, NodeView
from extender.decision.request.kubernetes_objects import Node, Taint
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Reason
from extender.decision.why.helping.changed_pods import with_tolerations, without_node_selection, without_pod_constraints
from extender.decision.why.helping.departures import verdict_after
from extender.decision.why.helping.pod_remedies import found
from extender.decision.why.helping.remedy_case import (
    HARDWARE,
    LOWER,
    ON_NODE,
    WAIT,
    Case,
    Found,
    count_text,
    few,
    fitting,
    speed_text,
    taint_text,
)
from extender.decision.why.pod_question import Refusal
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import mask_of

ASSUMED = "pods that were decided a moment ago are not visible on their nodes yet"
NOMINATED = "room is kept for pods that preemption has nominated"
TERMINATING = "terminating pods still hold their GPUs"
MOST_NODES = 64
"""Nodes that one function looks at in detail."""


def waiting(case: Case) -> Iterator[Found]:
    """Nothing to do: assumed, nominated or terminating pods stand in the way, and will be bound or gone in some seconds."""
    question, cycle = case.question, case.evaluated.evaluation.cycle
    assumed = [name for name in cycle.assumed if case.evaluated.refusals.get(name)]
    if assumed and case.pace():
        without = replace(question, moment=replace(question.moment, assumed_pods=NO_ASSUMED_PODS))
        evaluated = fitting(without, assumed)
        if evaluated is not None:
            pods = [f"{pod.namespace}/{pod.name}" for pod in question.moment.assumed_pods.by_pod.values() if pod.node in evaluated.feasible]
            others = few(pods) or "another pod"
            text = f"wait some seconds: {others} was decided a moment ago and is not seen as bound yet; if its binding fails"
            yield found("wait", WAIT, ASSUMED, text, evaluated)
    nominated = [name for name in cycle.extra_pods if name not in cycle.assumed and case.evaluated.refusals.get(name)]
    if nominated and case.pace():
        snapshot = replace(question.moment.snapshot, nominated={})
        evaluated = fitting(replace(question, moment=replace(question.moment, snapshot=snapshot)), nominated)
        if evaluated is not None:
            text = "wait: room there is kept for a pod of higher priority, which preemption has nominated; if that pod goes elsewhere"
            yield found("wait", WAIT, NOMINATED, text, evaluated)
    yield from _terminating(case)


def _terminating(case: Case) -> Iterator[Found]:
    snapshot, demand = case.question.moment.snapshot, case.evaluated.demand
    if not isinstance(demand, Demand):
        return
    names = [name for name in case.refused_only_by(_is_resolvable) if any(pod.terminating for pod in snapshot.views[name].pods)]
    for name in names[:MOST_NODES]:
        if not case.pace():
            return
        leaving = [pod for pod in snapshot.views[name].pods if pod.terminating]
        verdict = verdict_after(case, demand, name, frozenset(pod.key for pod in leaving))
        if verdict is not None:
            yield _fits_there("wait", WAIT, TERMINATING, _leaving_text([pod.full_name for pod in leaving]), name, verdict)
            return


def _leaving_text(names: Sequence[str]) -> str:
    return f"wait until {few(names)} has ended; if it stays: kubectl delete pod --force, once its node is really gone"


def _fits_there(kind: str, cost: int, cause: str, text: str, name: str, verdict: Verdict) -> Found:
    """Return a remedy that makes the pod fit on one node, by its verdict after the remedy."""
    gbps = verdict.evidence.expected_gbps
    return Found(kind, cost, cause, f"{text}; then it fits on {name}{speed_text(gbps)}", True, 1, name, gbps)


def _is_resolvable(refusal: Refusal) -> bool:
    return refusal.resolvable


def _is_cordon(refusal: Refusal) -> bool:
    return refusal.plugin == "NodeUnschedulable"


def _is_taint(refusal: Refusal) -> bool:
    return refusal.plugin == "TaintToleration"


def tolerated_taints(case: Case) -> Iterator[Found]:
    """Cordoned or tainted nodes on which the pod would fit: uncordon, make the node ready, or tolerate or remove the taint."""
    names = case.refused_only_by(lambda refusal: _is_taint(refusal) or _is_cordon(refusal))
    groups: dict[tuple[Taint, ...], list[str]] = {}
    for name in names:
        groups.setdefault(_refusing_taints(case, case.question.around.nodes[name]), []).append(name)
    for taints, group in groups.items():
        if not case.pace():
            return
        evaluated = fitting(with_tolerations(case.question, (*taints, UNSCHEDULABLE_TAINT)), group)
        if evaluated is None:
            continue
        name = evaluated.best or group[0]
        cause = case.evaluated.refusals[name][0].reason
        others = [taint for taint in taints if taint.key != UNSCHEDULABLE_TAINT.key]
        unready = [taint for taint in others if taint.key in READY_TAINTS.values()]
        if unready:
            text = f"make {few(group)} ready again (kubectl describe node {name}: kubelet, network, disk)"
            yield found("repair", HARDWARE, cause, text, evaluated)
        elif not others:
            uncordon = found("uncordon", ON_NODE, cause, f"kubectl uncordon {name}, once its maintenance is over", evaluated)
            yield replace(uncordon, nodes=1)
        else:
            texts = [taint_text(taint) for taint in others]
            cordoned = "" if len(others) == len(taints) and not _is_cordoned(case, name) else f", and uncordon {name}"
            text = f"tolerate {' and '.join(texts)} in the pod, or remove the taint from {few(group)}{cordoned}"
            yield replace(found("tolerate", ON_NODE, cause, text, evaluated), taints=tuple(texts))


def _is_cordoned(case: Case, name: str) -> bool:
    spec = case.question.around.nodes[name].spec
    return spec is not None and spec.unschedulable


def _refusing_taints(case: Case, node: Node) -> tuple[Taint, ...]:
    pod = case.question.kube_pod
    tolerations = (*((pod.spec.tolerations if pod else None) or ()), *ADMITTED_TOLERATIONS)
    return tuple(taint for taint in taints_of(node) if keeps_away(taint) and not tolerates(tolerations, taint))


def other_selection(case: Case) -> Iterator[Found]:
    """Nodes that only the pod's own selection excludes: what it requires, and what the nodes have instead."""
    kube_pod = case.question.kube_pod
    names = case.refused_only_by(lambda refusal: refusal.plugin == "NodeAffinity")
    if kube_pod is not None and names and case.pace():
        evaluated = fitting(without_node_selection(case.question), names)
        if evaluated is not None and evaluated.best is not None:
            labels = labels_of(case.question.around.nodes[evaluated.best])
            wrong = {key: labels.get(key) for key, value in (kube_pod.spec.node_selector or {}).items() if labels.get(key) != value}
            have = "; ".join(f"there {key} is {value or 'not set'}" for key, value in wrong.items())
            text = f"change what the pod selects ({' and '.join(required_of(kube_pod))}){f'; {have}' if have else ''}"
            yield found("correct", LOWER, case.evaluated.refusals[evaluated.best][0].reason, text, evaluated)
    names = case.refused_only_by(lambda refusal: refusal.plugin in ("InterPodAffinity", "PodTopologySpread"))
    if names and case.pace():
        evaluated = fitting(without_pod_constraints(case.question), names)
        if evaluated is not None and evaluated.best is not None:
            text = "relax the pod's affinity to other pods and its topology spread constraints"
            yield found("lower", LOWER, case.evaluated.refusals[evaluated.best][0].reason, text, evaluated)


def repaired(case: Case) -> Iterator[Found]:
    """GPUs that are unhealthy or in use by unknown processes, and nodes without telemetry, on nodes that would suit the pod."""
    for reason, repair in _REPAIRS.items():
        for name in case.refused_only_by(lambda refusal, reason=reason: refusal.code is reason)[:MOST_NODES]:  # type: ignore[misc]
            view, demand = case.question.moment.snapshot.views.get(name), case.evaluated.demand
            if view is None or not isinstance(demand, Demand) or not case.pace():
                continue
            remedy = repair(case, demand, view)
            if remedy is not None:
                yield replace(remedy, cause=reason.value)
                break


def _without_telemetry(case: Case, demand: Demand, view: NodeView) -> Verdict | None:
    """Return the verdict on the node if telemetry had no complaint: as if there were no telemetry of it."""
    snapshot = case.question.moment.snapshot
    telemetry = {name: each for name, each in snapshot.telemetry.items() if name != view.name}
    cycle = replace(case.evaluated.evaluation.cycle, snapshot=replace(snapshot, telemetry=telemetry))
    return verdict_without(cycle, _without_requirement(demand), view.name, frozenset(), case.question.context)


def _without_requirement(demand: Demand) -> Demand:
    """Return the demand of a pod whose class does not require telemetry."""
    workload = demand.workload
    return demand if workload is None else replace(demand, workload=msgspec.structs.replace(workload, telemetry_required=False))


def _verdict_in_state(case: Case, demand: Demand, view: NodeView, state: NodeState) -> Verdict:
    """Return the verdict on the node in another state, with the pods that are decided for it and not visible there yet."""
    extra_pods = all_on_view(case.evaluated.evaluation.cycle.extra_pods.get(view.name, ()), view)
    return evaluate_with_extra_pods(case.question.context.evaluator, on_view(demand, view), state, extra_pods)


def _end_processes(case: Case, demand: Demand, view: NodeView) -> Found | None:
    verdict = _without_telemetry(case, demand, view)
    if verdict is None or not verdict.feasible:
        return None
    refusal = next(refusal for refusal in case.evaluated.refusals[view.name] if refusal.code is Reason.MEMORY_IN_USE)
    foreign = _foreign_use(view.state)
    use = f" ({'; '.join(foreign)})" if foreign else f" ({refusal.detail})"
    text = f"find and end the processes on {view.name} that Kubernetes does not know of{use}: nvidia-smi on the node names them"
    return _fits_there("repair", ON_NODE, "", text, view.name, verdict)


def _foreign_use(state: NodeState) -> list[str]:
    """Return per free GPU how much of its memory is in use; pods hold none of it."""
    free = mask_of([]) if not state.free_sets else state.free_sets[0][0]
    lines = []
    for position, load in enumerate(state.device_telemetry.device_loads):
        if load is None or load.free_bytes is None or load.total_bytes is None or not free >> position & 1:
            continue
        used = load.total_bytes - load.free_bytes
        if used > 1 << 30:
            lines.append(f"GPU {state.indices[position]}: {used / 2**30:.0f} of {load.total_bytes / 2**30:.0f} GiB in use")
    return lines


def _repair_gpus(case: Case, demand: Demand, view: NodeView) -> Found | None:
    verdict = _without_telemetry(case, demand, view)
    faults = [f"GPU {index}: {text}" for index, text, _ in view.state.faults]
    text = f"drain {view.name} and reset the GPU; replace it if the error returns ({'; '.join(faults) or 'see fabricwise node'})"
    if verdict is None or not verdict.feasible:
        return None
    return _fits_there("repair", HARDWARE, "", text, view.name, verdict)


def _repair_unhealthy(case: Case, demand: Demand, view: NodeView) -> Found | None:
    """Unhealthy by the device plugin or the agent: evaluated as if all of the node's GPUs were healthy."""
    record = case.question.moment.snapshot.topologies.get(view.name)
    unhealthy = record.status.unhealthy if isinstance(record, TopologyRecord) and record.status is not None else ()
    names = [f"GPU {index}: {why}" for index, why in unhealthy]
    sick = f" ({'; '.join(names)})" if names else ""
    count = view.state.allocatable - view.state.healthy
    text = f"reset or replace {count_text(count, 'unhealthy GPU')} of {view.name}{sick}, after kubectl drain {view.name}"
    refusal = next(refusal for refusal in case.evaluated.refusals[view.name] if refusal.code is Reason.TOO_FEW_HEALTHY)
    if isinstance(record, TopologyRecord) and record.status is not None:
        verdict = _as_healthy(case, demand, view, record)
        if verdict is not None and verdict.feasible:
            return _fits_there("repair", HARDWARE, "", text, view.name, verdict)
    return Found("repair", HARDWARE, refusal.reason, text, node=view.name)


def _as_healthy(case: Case, demand: Demand, view: NodeView, record: TopologyRecord) -> Verdict | None:
    snapshot, context = case.question.moment.snapshot, case.question.context
    assert record.status is not None
    healthy = replace(record, status=replace(record.status, unhealthy=()))
    topologies = {**snapshot.topologies, view.name: healthy}
    cycle = replace(case.evaluated.evaluation.cycle, snapshot=replace(snapshot, topologies=topologies))
    return verdict_without(cycle, demand, view.name, frozenset(), context)


def _restore_telemetry(case: Case, demand: Demand, view: NodeView) -> Found | None:
    verdict = _verdict_in_state(case, _without_requirement(demand), view, view.state)
    problems = f" ({'; '.join(view.telemetry_problems)})" if view.telemetry_problems else ""
    text = f"make dcgm-exporter answer on {view.name}{problems}: GET /v1/telemetry lists what does not answer"
    if not verdict.feasible:  # the settings require it of every pod: not evaluated without
        return Found("repair", ON_NODE, Reason.TELEMETRY_UNKNOWN.value, text, node=view.name)
    return _fits_there("repair", ON_NODE, "", text, view.name, verdict)


_REPAIRS: dict[Reason, Callable[[Case, Demand, NodeView], Found | None]] = {
    Reason.MEMORY_IN_USE: _end_processes,
    Reason.TELEMETRY_UNKNOWN: _restore_telemetry,
    Reason.FATAL_XID: _repair_gpus,
    Reason.GPU_MEMORY_ERRORS: _repair_gpus,
    Reason.TOO_FEW_HEALTHY: _repair_unhealthy,
}


def labelled_for_pool(case: Case) -> Iterator[Found]:
    """Nodes outside the pools of the pod's workload class that would suit the pod: label one."""
    demand = case.evaluated.demand
    workload = demand.workload if isinstance(demand, Demand) else None
    if not isinstance(demand, Demand) or workload is None or not workload.pools:
        return
    for name in case.refused_only_by(lambda refusal: refusal.code is Reason.NOT_IN_POOL)[:MOST_NODES]:
        view = case.question.moment.snapshot.views.get(name)
        if view is None or not case.pace():
            continue
        verdict = _verdict_in_state(case, demand, view, _in_pool(view.state, workload.name))
        if verdict.feasible:
            labels = " ".join(f"{key}={value}" for key, value in workload.pools[0])
            text = f"kubectl label node {name} {labels}, which makes it a node of class {workload.name}"
            yield _fits_there("correct", ON_NODE, Reason.NOT_IN_POOL.value, text, name, verdict)
            return


def _in_pool(state: NodeState, name: str) -> NodeState:
    inner = state.without_telemetry
    return replace(state, pools=state.pools | {name}, without_telemetry=_in_pool(inner, name) if inner is not None else None)


def agent_installed(case: Case) -> Iterator[Found]:
    """Nodes that are refused because their topology is unknown: run the agent there."""
    names = case.refused_only_by(lambda refusal: refusal.detail.endswith("topology unknown"))
    if names:
        cause = case.evaluated.refusals[names[0]][0].reason
        text = f"run the agent on {few(names)}: their links are unknown, so no floor is known to be met (kubectl apply -k manifests/agent)"
        yield Found("repair", ON_NODE, cause, text, node=names[0])
