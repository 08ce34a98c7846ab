"""Decisions and nodes as plain data: one shape for the debug API, the command line and the decision log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from extender.decision.cycle.assumed_pods import NO_ASSUMED_PODS, AssumedPod, AssumedPods
from extender.decision.cycle.scheduling_cycle import Evaluation, EvaluationContext, Moment, by_rank, evaluate_pod, known_nodes
from extender.decision.evaluate.evaluator import Evaluator
from extender.decision.evaluate.scorers import Ranker, Ranking
from extender.decision.evaluate.verdict import Evidence, Verdict
from extender.decision.kube_filters.evaluate import UNASKED, KubeAnswer
from extender.decision.kube_filters.surroundings import KubeRefusal
from extender.decision.node.devices.pressure import Pressure
from extender.decision.node.node_state import NODE_DEFAULTS, NodeView
from extender.decision.report.prediction_outcomes import Outcome
from extender.decision.request.annotations import LINKS, Wishes
from extender.decision.request.inferred_workload import inferred, inferred_answer
from extender.decision.request.kubernetes_objects import Pod
from extender.decision.request.pod_request import Demand
from extender.decision.request.reasons import Rejection
from extender.decision.request.resource_claims import PodClaims
from extender.decision.state.snapshot import Snapshot
from extender.telemetry.conditions import TUNING, Tuning
from extender.telemetry.telemetry_serializers import telemetry_answer
from topology.bandwidth.fabric import assumptions, fabric_name
from topology.contradictions import contradictions
from topology.gputopology.topology_record import TopologyRecord
from topology.machine.hardware import positions_of


def explain(
    evaluator: Evaluator,
    ranker: Ranker,
    snapshot: Snapshot,
    pod: Pod,
    resource: str,
    *,
    assumed_pods: AssumedPods = NO_ASSUMED_PODS,
    monotonic_seconds: float = 0.0,
    kube: KubeAnswer = UNASKED,
) -> dict[str, Any]:
    """Return what would be decided about the pod over all nodes, and why: an evaluation as in prioritize, and its explanation."""
    context, moment = EvaluationContext(evaluator, resource, NODE_DEFAULTS), Moment(snapshot, assumed_pods, monotonic_seconds)
    evaluation = evaluate_pod(context, moment, pod, known_nodes(snapshot), by_rank(ranker, kube.refusals))
    return explanation(evaluation, pod, resource, kube)


def explanation(evaluation: Evaluation, pod: Pod, resource: str, kube: KubeAnswer = UNASKED) -> dict[str, Any]:
    """Return an evaluation as plain data: the demand, and all nodes with their verdicts and scores, the best node first.

    A node that kube-scheduler's filters refuse (`kube`) is infeasible here, as it is in a cluster; its refusals are listed first.
    """
    cycle, ranks, decided = evaluation.cycle, evaluation.ranks, evaluation.decided_node
    rows = [
        _refused(node_answer(name, verdict, None), kube.refusals[name])
        if name in kube.refusals
        else node_answer(name, verdict, ranks.get(verdict, name == decided))
        for name, verdict in zip(evaluation.names.texts, evaluation.verdicts, strict=True)
    ]
    notes = notes_by_node(cycle.snapshot)
    for row in rows:
        row["notes"] += notes.get(row["node"], ())
        row["refusals"] = row.get("refusals") or ([row["rejection"]] if row["rejection"] else [])
        if promised := sum(extra.total for extra in cycle.extra_pods.get(row["node"], ())):
            row["notes"].append(f"{promised} GPUs are promised to pods that are not seen there yet")
    rows.sort(key=_order)
    chosen = rows[0]["node"] if rows and rows[0]["feasible"] else None
    return {
        "pod": pod_name(pod),
        "demand": demand_answer(cycle.demand),
        "chosen": chosen,
        "nodes": rows,
        "inferred": inferred_answer(inferred(pod, cycle.demand, resource)),
        "not_checked": list(kube.not_checked),
    }


def _refused(row: dict[str, Any], refusals: Sequence[KubeRefusal]) -> dict[str, Any]:
    """Return a node's row with the refusals of kube-scheduler's own filters first: kube-scheduler runs them before it calls an extender."""
    kube_refusals = [
        {
            "reason": refusal.reason,
            "detail": refusal.detail,
            "resolvable": refusal.resolvable,
            "by": "kube-scheduler",
            "filter": refusal.plugin,
        }
        for refusal in refusals
    ]
    rejections = [row["rejection"]] if row["rejection"] else []
    return {**row, "feasible": False, "rejection": kube_refusals[0], "refusals": [*kube_refusals, *rejections]}


def notes_by_node(snapshot: Snapshot) -> dict[str, list[str]]:
    """Return node -> a note for each object that concerns the node and is set aside because of an error."""
    notes: dict[str, list[str]] = {}
    for entry in snapshot.set_aside.values():
        if entry.node is not None:
            notes.setdefault(entry.node, []).append(entry.text)
    return notes


def nodes_without_view(snapshot: Snapshot) -> list[str]:
    """Return the names of known nodes whose view could not be derived."""
    return [entry.name for entry in snapshot.set_aside.values() if entry.stage == "derive" and entry.name not in snapshot.views]


def set_aside_answer(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return all objects that are set aside, oldest first, as plain data."""
    return [
        {"kind": entry.kind, "name": entry.name, "stage": entry.stage, "node": entry.node, "why": entry.why}
        for entry in snapshot.set_aside.values()
    ]


def _order(row: Mapping[str, Any]) -> tuple[bool, int, float, str]:
    return (not row["feasible"], -(row["score"] or 0), -(row["value"] or 0.0), row["node"])


def pod_name(pod: Pod) -> str:
    """Return namespace/name."""
    return f"{pod.metadata.namespace or 'default'}/{pod.metadata.name}"


def demand_answer(demand: Demand | Rejection) -> dict[str, Any]:
    """Return a demand as plain data, or the problem of a pod whose demand is invalid."""
    if isinstance(demand, Rejection):
        return {"problem": demand.detail}
    wishes = demand.wishes
    return {
        "gpus": demand.total,
        "gpus_per_container": list(demand.groups),
        "gpus_per_init_container": [size for size, init in demand.steps if init],
        **({"slices": {resource: count for resource, count, _ in demand.slices}} if demand.slices else {}),
        **({} if demand.claims is None else {"claims": _claims(demand.claims)}),
        "min_gpu_memory_bytes": wishes.min_gpu_memory_bytes,
        "messages": wishes.messages,
        "min_busbw_gbps": wishes.min_busbw_gbps,
        **{name: value for name, value in _other_wishes(wishes).items() if value is not None},
    }


def _claims(claims: PodClaims) -> dict[str, Any]:
    """Return what the pod requests by ResourceClaims; which devices that means differs between nodes."""
    return {
        "requests": [
            {"request": spec.name, "class": spec.device_class, "count": "all" if spec.count is None else spec.count}
            for alternatives in claims.requests
            for spec in alternatives
        ],
        "unknown": claims.unknown,
    }


def _other_wishes(wishes: Wishes) -> dict[str, Any]:
    """Return the pod's other annotations, with values in the annotations' own words."""
    return {
        "workload_class": wishes.workload_class,
        "gpu_memory_classes_gb": list(wishes.gpu_memory_classes_gb) if wishes.gpu_memory_classes_gb else None,
        "min_free_memory_bytes": wishes.min_free_memory_bytes,
        "min_link": LINKS[wishes.min_link] if wishes.min_link is not None else None,
        "preferred_link": LINKS[wishes.preferred_link] if wishes.preferred_link is not None else None,
        "preferred_busbw_gbps": wishes.preferred_busbw_gbps,
        "min_compute_capability": _version(wishes.min_compute_capability),
        "min_driver": _version(wishes.min_driver),
        "min_cuda": _version(wishes.min_cuda),
        "sharing": list(wishes.sharing) if wishes.sharing else None,
        "model": msgspec.to_builtins(wishes.model) if wishes.model else None,
    }


def _version(parts: tuple[int, ...] | None) -> str | None:
    return ".".join(map(str, parts)) if parts else None


def node_answer(name: str, verdict: Verdict, ranking: Ranking | None) -> dict[str, Any]:
    """Return one node's verdict and ranking as plain data."""
    rejection, evidence = verdict.rejection, verdict.evidence
    reasons = {"reason": str(rejection.reason), "detail": rejection.detail, "resolvable": rejection.resolvable} if rejection else {}
    return {
        "node": name,
        "feasible": verdict.feasible,
        "score": ranking.score if ranking else None,
        "value": ranking.value if ranking else None,
        "rejection": {**reasons, "by": "fabricwise"} if reasons else None,
        "scores": _scores(ranking),
        "best_bandwidth_gbps": evidence.best_gbps,
        "expected_bandwidth_gbps": evidence.expected_gbps,
        "worst_bandwidth_gbps": evidence.worst_gbps,
        **_predicted(evidence),
        "notes": list(evidence.notes),
        "effective_bandwidth_gbps": evidence.effective_gbps,
        "pressure": _pressure(evidence.pressure),
    }


def _predicted(evidence: Evidence) -> dict[str, Any]:
    """Return the sets that a pod may get, most probable first, and the number of sets that are not listed."""
    sets = []
    for prospect in evidence.prospects:
        data = {"gpus": list(prospect.gpus), "probability": prospect.probability, "bandwidth_gbps": prospect.busbw_gbps}
        sets.append(data if prospect.most_busbw_gbps is None else {**data, "most_bandwidth_gbps": prospect.most_busbw_gbps})
    return {"predicted": sets, "further_sets": evidence.further_sets, "further_probability": evidence.further_probability}


def _pressure(expected: Pressure | None) -> dict[str, float] | None:
    if expected is None:
        return None
    return {"own": expected.own, "neighbours": expected.neighbours, "unknown_share": expected.unknown_share}


def _scores(ranking: Ranking | None) -> dict[str, Any]:
    if ranking is None:
        return {}
    return {
        name: {"value": round(score.value, 6), "weight": ranking.weights.get(name, 0.0), "detail": score.detail}
        for name, score in ranking.scores.items()
    }


def outcome_answer(outcome: Outcome) -> dict[str, Any]:
    """Return a pod's allocated GPUs and the prediction for it, as plain data."""
    known = outcome.known
    return {
        "node": known.node,
        "gpus": list(known.gpus),
        "bandwidth_gbps": known.busbw_gbps,
        "expected_bandwidth_gbps": outcome.expected_gbps,
        "in_support": outcome.in_support,
    }


def assumed_pod_answer(assumed_pod: AssumedPod, monotonic_seconds: float) -> dict[str, Any]:
    """Return an assumed pod as plain data."""
    evidence = assumed_pod.evidence
    return {
        "pod": f"{assumed_pod.namespace}/{assumed_pod.name}",
        "uid": assumed_pod.key,
        "node": assumed_pod.node,
        "gpus": assumed_pod.demand.total,
        "expected_bandwidth_gbps": evidence.expected_gbps,
        **_predicted(evidence),
        "age_seconds": round(monotonic_seconds - assumed_pod.placed_monotonic_seconds, 3),
        "ends_in_seconds": round(assumed_pod.until_monotonic_seconds - monotonic_seconds, 3),
        "decision": assumed_pod.decision,
    }


def node_summary(view: NodeView) -> dict[str, Any]:
    """Return the fields of a node that fit one row of a table."""
    state = view.state
    return {
        "node": view.name,
        "product": state.product,
        "gpu_memory_bytes": state.gpu_memory_bytes,
        "allocatable": state.allocatable,
        "requested": state.requested,
        "free": state.free_count,
        "topology": state.note,
        "problem": view.problem,
        "stale_since_seconds": view.stale_since_seconds,
        "disagreements": list(view.disagreements),
        "sharing": state.sharing,
        "physical_gpus": state.physical,
        "slices": [{"resource": part.resource, "sharing": part.sharing, "allocatable": part.allocatable} for part in state.slices],
        "fenced": [{"gpu": index, "why": why} for index, why, _ in state.faults],
        "telemetry_problems": list(view.telemetry_problems),
        **(
            {}
            if view.dra is None
            else {"dra": {"devices": len(view.dra.devices.devices), "unknown": view.dra.unknown, "notes": list(view.dra.notes)}}
        ),
    }


def node_detail(
    view: NodeView, record: TopologyRecord | str | None, snapshot: Snapshot | None = None, tuning: Tuning = TUNING
) -> dict[str, Any]:
    """Return everything known about a node: hardware, allocations, the sets that may be free, telemetry and its age."""
    detail = node_summary(view)
    detail["pods"] = [{"namespace": p.namespace, "name": p.name, "gpus": p.demand.total} for p in view.pods]
    state = view.state
    if state.table is not None and isinstance(record, TopologyRecord):
        machine = record.machine
        detail["fabric"] = fabric_name(machine)
        detail["assumed"] = list(assumptions(machine, state.table.fabric))
        detail["contradictions"] = [contradiction.says for contradiction in contradictions(machine)]
        detail["believed_free"] = [{"gpus": list(machine.indices(mask)), "probability": chance} for mask, chance in state.free_sets]
        detail["held"] = {
            pod.full_name: sorted(state.indices[p] for mask in view.known[pod.key] for p in positions_of(mask))
            for pod in view.pods
            if pod.key in view.known
        }
        status = record.status
        detail["allocated"] = [
            {"gpu": a.index, "namespace": a.pod_namespace, "name": a.pod_name} for a in (status.allocated if status else ())
        ]
        detail["allocations_unknown"] = status.allocations_unknown if status else None
        detail["unhealthy"] = [{"gpu": index, "reason": reason} for index, reason in (status.unhealthy if status else ())]
        detail["observed_at_seconds"] = status.observed_at_seconds if status else None
    if snapshot is not None:
        names = {pod.key: pod.full_name for pod in view.pods}
        detail["telemetry"] = telemetry_answer(snapshot.telemetry.get(view.name), snapshot.monotonic_seconds, names, tuning)
    return detail
